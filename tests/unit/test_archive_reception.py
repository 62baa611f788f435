"""Bytes on their way in: all of them are on the disk, or the caller is told that they are not."""

import hashlib
import os

import pytest

from dpu.errors import StorageFull
from dpud.archive.reception import Reception
from fakes_disk import files_of_at_most


async def chunks(*pieces):
    for piece in pieces:
        yield piece


async def test_what_was_received_is_what_lies_there(tmp_path):
    reception = Reception(tmp_path)
    async with reception.room() as room:
        received = await reception.receive(chunks(b"some ", b"", b"pixels"), room / "frame")
        assert received.file.read_bytes() == b"some pixels"
        assert (received.digest, received.size) == (hashlib.sha256(b"some pixels").hexdigest(), 11)
    assert os.listdir(tmp_path) == []  # noqa: PTH208 (two names at most)


@pytest.mark.parametrize("pieces", [(b"x" * 20_000,), (b"x" * 9_000, b"x" * 9_000), (b"x" * 10_000, b"x")])
async def test_a_disk_that_takes_only_a_part_of_the_last_bytes_refuses_all_of_them(tmp_path, pieces):
    # It writes what it has room for and says how much that was; only the next write would be refused.
    reception = Reception(tmp_path)
    with files_of_at_most(10_000):
        async with reception.room() as room:
            with pytest.raises(StorageFull, match="takes nothing more"):
                await reception.receive(chunks(*pieces), room / "frame")
