import asyncio
import socket
import threading

import pytest

from dpud.worker.channel import HEADER, LARGEST, BrokenChannel, Channel, pack, receive


def test_messages_come_whole_and_in_order() -> None:
    here, there = socket.socketpair()
    with here, there:
        sender, receiver = Channel(here), Channel(there)
        messages = [{"n": 1}, {"text": "x" * 3_000_000}, {"n": 2}]
        sending = threading.Thread(target=lambda: [sender.send(message) for message in messages])
        sending.start()
        assert [receiver.receive() for _ in messages] == messages
        sending.join()
        sender.close()
        assert receiver.receive() is None


async def test_the_agent_reads_the_same_messages() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(pack({"lines": ["\udcff"]}) + pack({"end": {}})[:-1])
    reader.feed_eof()
    assert await receive(reader) == {"lines": ["\udcff"]}
    assert await receive(reader) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (HEADER.pack(LARGEST + 1), "was announced"),
        (HEADER.pack(3) + b"{x}", "not JSON"),
        (HEADER.pack(2) + b"[]", "a message is a list, not an object"),
        (HEADER.pack(1) + b"\xff", "not JSON"),
    ],
)
async def test_nonsense_is_refused(data: bytes, message: str) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    with pytest.raises(BrokenChannel, match=message):
        await receive(reader)


def test_a_message_that_is_too_large_is_not_sent() -> None:
    with pytest.raises(BrokenChannel, match="too large for the channel"):
        pack({"text": "x" * LARGEST})
