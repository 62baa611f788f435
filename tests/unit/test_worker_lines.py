import struct

import pytest

from dpu_api.v1.logs_pb2 import LogLevel, LogStream
from dpud.worker.lines import ESCAPE, LONGEST, Cutter, Level, Lines, Stream, escaped


def test_numbers_are_those_of_the_wire() -> None:
    assert {level.name: level.value for level in Level} == {
        name.removeprefix("LOG_LEVEL_"): number for name, number in LogLevel.items() if number
    }
    assert {stream.name: stream.value for stream in Stream} == {
        name.removeprefix("LOG_STREAM_"): number for name, number in LogStream.items() if number
    }


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"plain", "plain"),
        ("caf\u00e9 \u03b1".encode(), "caf\u00e9 \u03b1"),
        (b"latin \xe9", "latin \\xe9"),
        (b"nul\x00.", "nul\\x00."),
        (b"windows\r", "windows"),
        (b"", ""),
    ],
)
def test_a_line_is_escaped_and_not_lost(line: bytes, text: str) -> None:
    assert escaped(line) == text


def test_text_that_utf8_cannot_hold_is_escaped() -> None:
    assert "a\udcff\ud800b".encode("utf-8", ESCAPE) == b"a\\xff\\ud800b"


def test_lines_are_cut_across_pieces() -> None:
    cutter = Cutter()
    assert cutter.feed(b"one\ntw") == [b"one"]
    assert cutter.feed(b"o\n\nthree") == [b"two", b""]
    assert cutter.rest() == [b"three"]
    assert cutter.rest() == []


def test_a_line_without_end_goes_on_in_the_next_one() -> None:
    cutter = Cutter()
    lines = [*cutter.feed(b"x" * (LONGEST + 5)), *cutter.feed(b"y\n")]
    assert lines == [b"x" * LONGEST, b"xxxxxy"]
    assert Cutter().feed(b"x" * (2 * LONGEST + 1) + b"\n") == [b"x" * LONGEST, b"x" * LONGEST, b"x"]


def test_lines_survive_the_channel_whole() -> None:
    lines = Lines()
    lines.add("first", Level.INFO, Stream.STDOUT, 1)
    lines.add("second", Level.ERROR, Stream.LOGGING, 2)
    assert Lines.from_bytes(lines.to_bytes()) == lines


@pytest.mark.parametrize("data", [b"", b"\x01\0", struct.pack("=Iq", 1, 7) + b"\x02\x01a\nb", struct.pack("=I", 2**31)])
def test_columns_that_differ_in_length_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="log columns differ in length"):
        Lines.from_bytes(data)


def test_what_a_broken_process_sends_is_made_to_fit_the_wire() -> None:
    data = struct.pack("=Iqq", 2, 1, 1) + b"\x02\x02\x01\x01" + b"a\xff\0\r\nb"
    assert Lines.from_bytes(data).texts == ["a\\xff\\x00", "b"]


def test_text_that_utf8_cannot_hold_travels_escaped() -> None:
    lines = Lines()
    lines.add("a\ud800", Level.INFO, Stream.STDOUT, 1)
    assert Lines.from_bytes(lines.to_bytes()).texts == ["a\\ud800"]
