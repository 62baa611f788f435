"""Bodies of the journal, packed."""

from __future__ import annotations

import os
import zlib

import pytest

from dpud.scheduler.codec import compressed


@pytest.mark.parametrize("size", [0, 1, 540, 4096, 4097, 100_000])
@pytest.mark.parametrize("body", [b'["Bias",1,2]', os.urandom(997)])
def test_a_packed_body_is_read_back_as_it_was_whatever_its_size(body: bytes, size: int) -> None:
    text = (body * (1 + size // len(body)))[:size]

    assert zlib.decompress(compressed(text)) == text


def test_a_short_body_is_packed_as_small_as_by_large_tables() -> None:
    text = b'[["Bias",1,2.5,"astronomer"],["Bias",2,2.5,"astronomer"]]' * 20

    assert len(compressed(text)) <= len(zlib.compress(text, 1)) + 2
