"""Takes a raw exposure apart: one FITS file and one Frame a CCD, with its header understood."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import shutil
import struct
import tempfile
import warnings
import zlib
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, TypeAlias

import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyError

from dpu_recipes import header as headers
from dpu_recipes.cards import Cards
from dpu_recipes.header import HeaderError
from dpu_recipes.instrument import InstrumentError
from dpu_recipes.translation import translate, translate_reduced

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    import numpy.typing as npt

    from dpu_recipes.frames import Frame
    from dpu_recipes.header import Header
    from dpu_recipes.instrument import Instrument
    from dpu_recipes.instruments import Instruments

_BLOCK: Final = 2880
#: Small enough to stay in a processor's cache between being read, hashed and written.
_PIECE: Final = 1 << 18
_PLANE: Final = 2

#: How a gzipped file begins.
_GZIP: Final = b"\x1f\x8b"
#: Sign of BITPIX by the kind of number.
_BITPIX: Final = {"i": 1, "u": 1, "f": -1}

#: What astropy raises, beside OSError, where bytes are not what they should be.
_UNREADABLE: Final = (
    ValueError, TypeError, LookupError, AttributeError, EOFError, OverflowError, VerifyError, struct.error, zlib.error
)  # fmt: skip


#: Makes the record of an image: of an instrument, by its cards; and its number.
_Told: TypeAlias = "Callable[[Instrument, Cards, Any, int], Frame]"


class BadExposure(Exception):
    """A file is no raw exposure of a known instrument; the message names it and says why, in one line."""


def split(
    file: Path, name: str, instruments: Instruments, folder: Path, *, instrument: str = "", reduced: bool = False
) -> list[tuple[Frame, Path]]:
    """Split a raw FITS file into one uncompressed single-image FITS file a CCD in `folder`, and describe each.

    The same exposure always gives the same bytes, whether it came Rice-compressed or not, so a frame's identifier,
    the digest of its file, is that of its content. `name` is what the user calls the file; `instrument` names the one
    that took it, '' lets its header say; `reduced` says that it was reduced elsewhere. One CCD is in memory at a time.

    Raises
    ------
    BadExposure
        Nothing is left in `folder` then.
    OSError
        The folder cannot be written, or the file cannot be read. Nothing is left either.
    """
    made: list[tuple[Frame, Path]] = []
    try:
        told = _reduced if reduced else _frame
        with _named(name), closing(_described(file, folder, instruments, instrument, told)) as described:
            for frame, ccd in described:
                path = folder / frame.file_name
                made.append((frame, path))
                digest, size = _write(path, ccd)
                values = {**frame.values, "EXPOSURE": PurePath(name).name}
                made[-1] = (frame.evolve(id=digest, digest=digest, size=size, values=values), path)
    except BaseException:
        for _, path in made:
            path.unlink(missing_ok=True)
        raise
    return made


def planes(file: Path, name: str, paths: Sequence[Path]) -> list[Plane]:
    """Write each image of a file as a FITS file of its own to one of `paths`, in order, whatever it shows.

    Raises BadExposure, also where there are not as many as paths; what was written is left then.
    """
    with _named(name), _opened(file, paths[0].parent) as (units, stream):
        images = list(_images(units))
        if len(images) != len(paths):
            raise BadExposure(f"has {len(images)} images, not {len(paths)}")
        primary = Cards.of(units[0].header)
        made = []
        for unit, path in zip(images, paths, strict=True):
            own = Cards.of(unit.header)
            cards = own if unit is units[0] else own.over(primary)
            made.append(Plane(unit.shape[-_PLANE:], *_write(path, _Ccd(cards, unit, stream))))
        return made


class Plane(NamedTuple):
    """One image of a file: its shape (y, x), and digest and size of the file that it was written to."""

    shape: tuple[int, int]
    digest: str
    size: int


def understand(
    file: Path, name: str, instruments: Instruments, folder: Path, *, instrument: str = ""
) -> list[tuple[Frame, Header]]:
    """Return what `split` would make of a file, each record with the header that it came from; no pixel is written.

    `folder` is for what a packed file unpacks to. Raises BadExposure.
    """
    with _named(name), closing(_described(file, folder, instruments, instrument, _frame)) as described:
        return [(frame, ccd.cards.values) for frame, ccd in described]


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Turn what is wrong with a file into one line that names it."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise  # the disk's or the folder's fault, not the file's
        raise BadExposure(f"{name}: is no readable FITS file: {_line(error)}") from error
    except (HeaderError, InstrumentError, BadExposure) as error:
        raise BadExposure(f"{name}: {_line(error)}") from error
    except _UNREADABLE as error:
        raise BadExposure(f"{name}: is corrupt: {type(error).__name__}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _described(
    file: Path, folder: Path, instruments: Instruments, forced: str, told: _Told
) -> Generator[tuple[Frame, _Ccd]]:
    """Yield record and image of each CCD of a file."""
    with _opened(file, folder) as (units, stream):
        primary = Cards.of(units[0].header)
        instrument: Instrument | None = None
        chips: set[str] = set()
        for unit in _images(units):
            own = Cards.of(unit.header)
            cards = own if unit is units[0] else own.over(primary)
            if instrument is None:
                instrument = instruments.get(forced) if forced else instruments.recognise(cards.values)
                _refuse_missing(instrument, units)
            if instrument.skips(cards.values):
                continue
            _refuse_contradiction(instrument, primary, own)
            number = len(chips) + 1
            cards = cards.telling("EXTENSION", number)
            frame = told(instrument, cards, unit, number)
            if frame.chip in chips:
                raise BadExposure(f"contradicts itself: two images of chip {frame.chip!r}")
            chips.add(frame.chip)
            yield frame, _Ccd(cards, unit, stream)
        if not chips:
            raise BadExposure("holds no image of a CCD")


def _frame(instrument: Instrument, cards: Cards, unit: Any, number: int) -> Frame:
    try:
        frame = translate(instrument, cards.values, unit.shape[-_PLANE:])
    except ValueError as error:
        raise HeaderError(f"image {number}: {error}") from error
    began = frame.date_obs.replace(tzinfo=None).isoformat(timespec="milliseconds")
    return frame.evolve(
        file_name=f"{frame.instrument}.{began}_{number}.fits", values={**frame.values, "EXTENSION": number}
    )


def _reduced(instrument: Instrument, cards: Cards, _unit: Any, number: int) -> Frame:
    try:
        frame = translate_reduced(instrument, cards.values)
    except ValueError as error:
        raise HeaderError(f"image {number}: {error}") from error
    began = frame.date_obs.replace(tzinfo=None).isoformat(timespec="milliseconds")
    # Not the name of the raw frame, which may be here too.
    return frame.evolve(
        file_name=f"{frame.instrument}.{began}_{number}.red.fits", values={**frame.values, "EXTENSION": number}
    )


@contextmanager
def _opened(file: Path, folder: Path) -> Iterator[tuple[fits.HDUList, BinaryIO]]:
    """Open a FITS file whose units are whole and whose checksums agree."""
    # astropy leaves a file open that it cannot understand, so it gets one that is ours.
    with _plain(file, folder) as stream, warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        _refuse_other(stream)
        with fits.open(stream, memmap=True, lazy_load_hdus=False, checksum=True, do_not_scale_image_data=True) as units:
            _refuse_damage(units, [str(item.message) for item in heard])
            yield units, stream


@contextmanager
def _plain(file: Path, folder: Path) -> Iterator[BinaryIO]:
    """Open a file; a gzipped one is unpacked before, all of it, as its checksum comes last."""
    with file.open("rb") as stream:
        packed = stream.read(len(_GZIP)) == _GZIP
        stream.seek(0)
        if not packed:
            yield stream
            return
        with tempfile.NamedTemporaryFile(dir=folder) as unpacked, gzip.open(stream) as content:
            shutil.copyfileobj(content, unpacked)
            unpacked.flush()
            # Anew: astropy takes no file that it could write to.
            with Path(unpacked.name).open("rb") as again:
                yield again


def _refuse_other(stream: BinaryIO) -> None:
    start = stream.read(_BLOCK)
    stream.seek(0)
    if not start:
        raise BadExposure("is empty")
    if not start.startswith(b"SIMPLE  ="):
        raise BadExposure(f"is no FITS file: it begins with {start[:9]!r}")
    if len(start) < _BLOCK:
        raise BadExposure(f"is truncated: it ends after {len(start)} bytes, in its first header")


def _refuse_damage(units: fits.HDUList, heard: list[str]) -> None:
    """Raise BadExposure for what astropy only warns of."""
    for message in heard:
        if "truncated" in message or "Error validating header" in message:
            raise BadExposure(f"is truncated or corrupt after HDU {len(units) - 1}: {message.splitlines()[0]}")
        if "sum verification failed" in message:
            raise BadExposure(f"is corrupt: {message.strip()}")


def _refuse_missing(instrument: Instrument, units: fits.HDUList) -> None:
    told = headers.whole(units[0].header, instrument.keys["extensions"], len(units) - 1)
    if told > len(units) - 1:
        raise BadExposure(f"is truncated: its header tells of {told} extensions, there are {len(units) - 1}")


def _images(units: fits.HDUList) -> Iterator[Any]:
    """Yield the units that hold an image. Raises BadExposure for one that is no plane."""
    for place, unit in enumerate(units):
        axes = unit.header.get("NAXIS", 0)
        if not unit.is_image or axes == 0:
            continue
        # Some cameras count one exposure along a third axis.
        if axes < _PLANE or 0 in unit.shape or any(length != 1 for length in unit.shape[:-_PLANE]):
            raise BadExposure(f"HDU {place} is no image of two axes: {' x '.join(map(str, unit.shape[::-1]))}")
        yield unit


def _refuse_contradiction(instrument: Instrument, primary: Cards, extension: Cards) -> None:
    for key in ("INSTRUME", *instrument.keys["date_obs"]):
        one, other = headers.text(primary.values, [key]), headers.text(extension.values, [key])
        if one and other and one.rstrip("0") != other.rstrip("0"):
            raise BadExposure(f"contradicts itself: {key} is {one!r} in its first header and {other!r} in another")


@dataclass(frozen=True, slots=True)
class _Ccd:
    """The image of one CCD, in the file that it came in."""

    cards: Cards
    unit: Any
    stream: BinaryIO

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes of a FITS file of this image alone; each is good until the next."""
        if isinstance(self.unit, fits.CompImageHDU):
            pixels = _unpacked(self.unit)
            yield _head(self.cards, self.unit, _BITPIX[pixels.dtype.kind] * pixels.dtype.itemsize * 8)
            yield pixels.data.cast("B")
            size = pixels.nbytes
            del self.unit.data  # else astropy keeps the pixels of all of them
        else:
            bitpix = self.unit.header["BITPIX"]
            yield _head(self.cards, self.unit, bitpix)
            size = math.prod(self.unit.shape) * abs(bitpix) // 8
            yield from _stored(self.stream, self.unit.fileinfo()["datLoc"], size)
        yield bytes(-size % _BLOCK)


def _write(path: Path, ccd: _Ccd) -> tuple[str, int]:
    """Write one CCD as FITS and return digest (SHA-256, hexadecimal) and size of the file."""
    digest = hashlib.sha256()
    with path.open("wb") as stream:
        for piece in ccd.pieces():
            digest.update(piece)
            stream.write(piece)
        return digest.hexdigest(), stream.tell()


def _stored(stream: BinaryIO, start: int, size: int) -> Iterator[memoryview]:
    """Yield a part of a file in pieces of one buffer, which costs the system a third of what mapping it does."""
    buffer = memoryview(bytearray(_PIECE))
    place, stop = start, start + size
    while place < stop:
        got = os.preadv(stream.fileno(), [buffer[: min(_PIECE, stop - place)]], place)
        if not got:
            raise BadExposure(f"is truncated: it ends {stop - place} bytes before the end of an image")
        yield buffer[:got]
        place += got


def _unpacked(unit: Any) -> npt.NDArray[Any]:
    """Return a packed image as it would be stored: whole numbers are not scaled."""
    try:
        pixels: npt.NDArray[Any] = unit.data
    except OSError:
        raise
    except Exception as error:  # the decoders of astropy raise classes of their own
        raise BadExposure(f"is truncated or corrupt: the image of HDU {unit.name!r} cannot be read: {error}") from error
    return np.ascontiguousarray(pixels.reshape(unit.shape[-_PLANE:]), dtype=pixels.dtype.newbyteorder(">"))


def _head(cards: Cards, unit: Any, bitpix: int) -> bytes:
    """Return the header: layout, then the exposure's own cards as they were written."""
    height, width = unit.shape[-_PLANE:]
    layout = [("SIMPLE", True), ("BITPIX", bitpix), ("NAXIS", _PLANE), ("NAXIS1", width), ("NAXIS2", height)]
    for key, neutral in (("BZERO", 0), ("BSCALE", 1)):
        value = unit.header.get(key, neutral)
        if value != neutral:
            layout.append((key, int(value) if value == int(value) else value))
    images = [fits.Card(key, value).image for key, value in layout] + [image for _, image in cards.images]
    head = "".join(images) + "END".ljust(80)
    return head.ljust(-(-len(head) // _BLOCK) * _BLOCK).encode("ascii")
