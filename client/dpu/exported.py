"""FITS files as they leave the archive: their header says which job made them, and by which code.

In the archive a product's file holds what was measured and nothing of how it came to be, so that the same product made
twice is the same file. What the catalogue knows of that is written into the header of whatever is brought out.
"""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC
from typing import TYPE_CHECKING

from dpu.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from dpu_api.v1.archive_pb2 import Frame

_BLOCK, _CARD = 2880, 80
_END = b"END".ljust(_CARD)
#: Ours begin so, and no others.
_OURS = b"DPU"


def export(stored: BinaryIO, frame: Frame, into: BinaryIO) -> None:
    """Write a frame's file with what the catalogue knows of it. Raises InternalError where it is no FITS file."""
    stored.seek(0)
    cards = _cards(stored, frame.file_name)
    # Of the header as it was; that of the data still holds.
    kept = [card for card in cards if not card.startswith(b"CHECKSUM")]
    into.write(_header([*kept, *_provenance(frame)]))
    shutil.copyfileobj(stored, into)


def stored_digest(exported: BinaryIO, name: str) -> str:
    """Return the digest that an exported file has in the archive. Raises InternalError where it is no FITS file."""
    exported.seek(0)
    cards = [card for card in _cards(exported, name) if not card.startswith(_OURS)]
    state = hashlib.sha256(_header(cards))
    while piece := exported.read(1 << 20):
        state.update(piece)
    return state.hexdigest()


def _provenance(frame: Frame) -> Iterator[bytes]:
    yield _text("DPUUSER", frame.user, "who had it made")
    yield _number("DPUJOB", frame.ref.job_id, "job, task and attempt that made it")
    yield _number("DPUTASK", frame.ref.task, "")
    yield _number("DPUTRY", frame.ref.attempt, "")
    yield _text("DPUDATE", frame.creation_date.ToDatetime(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f"), "when, UTC")
    yield _text("DPUCODE", frame.code_digest, "")
    yield _text("DPUFILE", frame.digest, "")


def _text(key: str, value: str, comment: str) -> bytes:
    # A card has room for 68 characters of ASCII, and doubles its quotes.
    quoted = value.encode("ascii", "replace").decode().replace("'", "''")[:68].ljust(8)
    return _as_card(f"{key:8}= '{quoted}'", comment)


def _number(key: str, value: int, comment: str) -> bytes:
    return _as_card(f"{key:8}= {value:>20}", comment)


def _as_card(text: str, comment: str) -> bytes:
    return f"{text} / {comment}".encode().ljust(_CARD)[:_CARD] if comment else text.encode().ljust(_CARD)


def _cards(file: BinaryIO, name: str) -> list[bytes]:
    """Return the cards of the first header, without END; the file stands behind it then."""
    found: list[bytes] = []
    while len(block := file.read(_BLOCK)) == _BLOCK:
        for start in range(0, _BLOCK, _CARD):
            card = block[start : start + _CARD]
            if card == _END:
                return found
            found.append(card)
        if not found[0].startswith(b"SIMPLE  ="):
            break
    raise InternalError(f"{name} is no FITS file")


def _header(cards: list[bytes]) -> bytes:
    text = b"".join([*cards, _END])
    return text.ljust(-(-len(text) // _BLOCK) * _BLOCK)
