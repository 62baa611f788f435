"""Packs a FITS file without loss, and unpacks it to the byte.

A packed file is itself FITS, as `fpack` makes it: any tool of the field opens its images. Beside them it carries the
cards of the original as they were written, blanks and all: what a reader makes of a header is not what stood there.
"""

from __future__ import annotations

import hashlib
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from _typeshed import ReadableBuffer as Buffer
    from numpy.typing import NDArray

#: The part that holds the cards of all headers, a row of 80 bytes each.
CARDS = "CARDS"
_CARD, _BLOCK = 80, 2880
_END = b"END".ljust(_CARD)
#: Rows of an image that are packed together: more make no difference to the size, fewer to the time.
_ROWS = 16
#: Rice takes integers of up to so many bytes; what is larger, and what is no integer, is shuffled and deflated.
_RICE_BYTES = 4


class NotPackable(Exception):
    """A file cannot be packed, and why."""


def pack(file: Path, target: Path) -> None:
    """Write a FITS file of images to `target`, packed. Raises NotPackable for what is none, and OSError."""
    try:
        # As they are stored: neither scaled by BZERO, nor unpacked where somebody packed them before.
        units = fits.open(file, do_not_scale_image_data=True, disable_image_compression=True)
    except OSError as error:
        if error.errno is not None:
            raise
        raise NotPackable("is no FITS file") from error
    with units:
        if strange := [type(unit).__name__ for unit in units if not isinstance(unit, fits.PrimaryHDU | fits.ImageHDU)]:
            raise NotPackable(f"holds a table ({strange[0]}): only images are packed")
        packed = fits.HDUList([fits.PrimaryHDU(), _cards(file, units), *map(_packed, units)])
        with _unwarned():
            packed.writeto(target)


def unpack(file: Path, target: Path) -> str:
    """Write what was packed to `target`, and return its SHA-256. Raises OSError."""
    digest = hashlib.sha256()
    with fits.open(file, do_not_scale_image_data=True) as units, target.open("xb") as writing:
        headers = _headers(units[CARDS].data.tobytes())
        for header, unit in zip(headers, units[2:], strict=True):
            for piece in (header, *_stored(unit.data)):
                digest.update(piece)
                writing.write(piece)
    return digest.hexdigest()


def _cards(file: Path, units: Sequence[Any]) -> fits.CompImageHDU:
    """Return the cards of all headers, as they stand in the file."""
    with file.open("rb") as reading:
        found = []
        for where in (unit.fileinfo() for unit in units):
            reading.seek(where["hdrLoc"])
            found.append(reading.read(where["datLoc"] - where["hdrLoc"]))
    rows = np.frombuffer(b"".join(found), np.uint8).reshape(-1, _CARD)
    return fits.CompImageHDU(rows, name=CARDS, compression_type="GZIP_1", tile_shape=rows.shape)


def _packed(unit: Any) -> fits.ImageHDU | fits.CompImageHDU:
    data = unit.data
    if data is None:
        return fits.ImageHDU(header=unit.header)
    rice = data.dtype.kind in "iu" and data.dtype.itemsize <= _RICE_BYTES
    packed = fits.CompImageHDU(
        data,
        unit.header,
        compression_type="RICE_1" if rice else "GZIP_2",
        tile_shape=(*(1 for _ in data.shape[:-2]), *(min(_ROWS, rows) for rows in data.shape[-2:-1]), data.shape[-1]),
        # Else floats would be rounded.
        quantize_level=0,
        do_not_scale_image_data=True,
    )
    # Given numbers, it drops what they mean: others who open a packed file need that.
    packed.header.update({name: unit.header[name] for name in ("BSCALE", "BZERO", "BLANK") if name in unit.header})
    return packed


def _headers(cards: bytes) -> Iterator[bytes]:
    """Give one header after the other, each whole blocks up to its END."""
    while cards:
        end = next(place for place in range(0, len(cards), _CARD) if cards[place : place + _CARD] == _END)
        blocks = (end // _BLOCK + 1) * _BLOCK
        yield cards[:blocks]
        cards = cards[blocks:]


def _stored(data: NDArray[Any] | None) -> Iterator[Buffer]:
    """Give the bytes of an image as FITS stores them: the greatest digit first, and zeros up to a whole block."""
    if data is None:
        return
    image = np.ascontiguousarray(data, data.dtype.newbyteorder(">"))
    yield image.view(np.uint8).data
    yield bytes(-image.nbytes % _BLOCK)


def _unwarned() -> warnings.catch_warnings[None]:
    """Let cards that break the standard be: the cards themselves are kept as they are."""
    return warnings.catch_warnings(action="ignore", category=VerifyWarning)
