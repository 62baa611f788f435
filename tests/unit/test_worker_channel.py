import asyncio
import socket
import threading
from typing import cast

import pytest

from dpud.worker.channel import HEADER, LARGEST, BrokenChannel, Channel, Receiver, Tickets, Turn, pack


def test_messages_come_whole_and_in_order() -> None:
    here, there = socket.socketpair()
    with here, there:
        sender, receiver = Channel(here), Channel(there)
        messages = [{"n": 1}, {"text": "x" * 3_000_000}, {"n": 2}]
        sending = threading.Thread(target=lambda: [sender.send(message) for message in messages])
        sending.start()
        assert [receiver.order() for _ in messages] == messages
        sending.join()
        sender.close()
        assert receiver.order() is None


async def test_the_agent_reads_the_same_messages() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(pack({"lines": ["\udcff"]}) + pack({"end": {}})[:-1])
    reader.feed_eof()
    receiver = Receiver(reader, asyncio.Transport())
    assert await receiver.receive() == [{"lines": ["\udcff"]}]
    assert await receiver.receive() == []


async def test_what_comes_in_a_pause_is_read_afterwards_at_once() -> None:
    theirs, ours = socket.socketpair()
    with theirs:
        reader, writer = await asyncio.open_connection(sock=ours)
        receiver = Receiver(reader, cast("asyncio.Transport", writer.transport))
        theirs.sendall(pack({"n": 1}))
        assert await receiver.receive() == [{"n": 1}]
        receiving = asyncio.create_task(receiver.receive())
        pause = asyncio.create_task(receiver.pause(60))
        await asyncio.sleep(0)
        theirs.sendall(pack({"n": 2}))
        for _ in range(5):
            await asyncio.sleep(0)
        theirs.sendall(pack({"n": 3}))
        # However it ends, what came is read.
        pause.cancel()
        assert await receiving == [{"n": 2}, {"n": 3}]
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (HEADER.pack(LARGEST + 1, 0), "was announced"),
        (HEADER.pack(3, 0) + b"{x}", "not JSON"),
        (HEADER.pack(2, 0) + b"[]", "a message is a list, not an object"),
        (HEADER.pack(1, 0) + b"\xff", "not JSON"),
        (HEADER.pack(200_000, 0) + b"[" * 200_000, "not JSON"),
    ],
)
async def test_nonsense_is_refused(data: bytes, message: str) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    with pytest.raises(BrokenChannel, match=message):
        await Receiver(reader, asyncio.Transport()).receive()


def test_a_message_that_is_too_large_is_not_sent() -> None:
    with pytest.raises(BrokenChannel, match="too large for the channel"):
        pack({"text": "x" * LARGEST})


def test_lines_travel_as_they_are() -> None:
    here, there = socket.socketpair()
    with here, there:
        Channel(here).send_lines(b"\xff\0")
        assert Channel(there).answer() == {"lines": b"\xff\0"}


def test_orders_that_come_before_an_answer_wait_for_their_turn() -> None:
    here, there = socket.socketpair()
    with here, there:
        sender, receiver = Channel(here), Channel(there)
        for message in ({"do": "first"}, {"result": 1}, {"do": "second"}):
            sender.send(message)
        assert receiver.answer() == {"result": 1}
        assert [receiver.order(), receiver.order()] == [{"do": "first"}, {"do": "second"}]


def test_an_order_that_was_taken_back_never_begins() -> None:
    giving, taking = socket.socketpair()
    tickets, turn = Tickets(giving, taking), Turn(taking)
    tickets.give([3, 4, 5])
    assert turn.came(3)
    assert tickets.take_back() == {4, 5}
    assert tickets.take_back() == set()
    tickets.give([6])
    assert [turn.came(number) for number in (4, 5, 6)] == [False, False, True]
    tickets.close()


def test_nothing_begins_when_the_agent_is_gone() -> None:
    giving, taking = socket.socketpair()
    with taking:
        giving.close()
        assert not Turn(taking).came(0)
