"""Files that are no exposures, each in a way of its own, and what the archive must say of it."""

from __future__ import annotations

import gzip
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from astropy.io import fits
from grpc import RpcError, channel_ready_future

from dpu.channel import open_channel
from dpu.status import from_rpc
from dpu_api.v1 import archive_pb2 as pb
from dpu_api.v1.archive_pb2_grpc import ArchiveServiceStub
from fakes_archive_crash import START_S, a_process
from fakes_hosting import place
from fakes_instruments import write_wfi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Of the exposure number 0, which every test ingests before the bad ones.
FIRST = "2000-04-28T20:00:00.000"


class Bad(NamedTuple):
    """A way to be bad: what writes such a file, given a number that makes it unlike the others, and the reason."""

    write: Callable[[Path, int], object]
    #: A regular expression for all that stands behind the file's name.
    reason: str


def write_good(path: Path, number: int, *, chips: int = 1) -> Path:
    """Write a small bias that began so many seconds after dusk."""
    return write_wfi(path, chips=chips, size=(4, 4), DATE_OBS=date_obs(number), MJD_OBS=None)


def date_obs(number: int) -> str:
    return str(np.datetime64(FIRST, "ms") + np.timedelta64(number, "s"))


def _corrupt(path: Path, number: int) -> None:
    """Change a byte behind the back of the checksum."""
    write_good(path, number)
    with fits.open(path) as units:
        units.writeto(path, overwrite=True, checksum=True)
    content = bytearray(path.read_bytes())
    content[-4000] ^= 1
    path.write_bytes(content)


def _truncated(path: Path, number: int) -> None:
    path.write_bytes(write_good(path, number).read_bytes()[: -2880 - number % 100])


def _gzip_cut(path: Path, number: int) -> None:
    path.write_bytes(gzip.compress(write_good(path, number).read_bytes())[:-500])


def _zero_length(path: Path, _number: int) -> None:
    path.write_bytes(b"")


def _text(path: Path, number: int) -> None:
    path.write_text(f"this is no exposure, but letter {number}")


def _unknown_instrument(path: Path, number: int) -> None:
    write_wfi(path, chips=1, size=(4, 4), DATE_OBS=date_obs(number), MJD_OBS=None, INSTRUME="SUPERCAM")


def _contradictory(path: Path, number: int) -> None:
    write_wfi(path, chips=1, size=(4, 4), DATE_OBS=date_obs(number), MJD_OBS=None, EXPTIME=300.0)


def _other_date(path: Path, number: int) -> None:
    write_wfi(path, chips=1, size=(4, 4), DATE_OBS=date_obs(number), MJD_OBS=51600.0)


def _too_large(path: Path, number: int) -> None:
    write_wfi(path, chips=1, size=(2049, 4), DATE_OBS=date_obs(number), MJD_OBS=None)


def _too_small(path: Path, number: int) -> None:
    """Write fewer columns than the strips alone have."""
    header = fits.getheader(write_good(path, number))
    fits.HDUList([fits.PrimaryHDU(header=header), fits.ImageHDU(np.zeros((10, 10), np.int16), name="CHIP1")]).writeto(
        path, overwrite=True
    )


def _nan_date(path: Path, _number: int) -> None:
    write_wfi(path, chips=1, size=(4, 4), DATE_OBS="NaN", MJD_OBS=None)


def _nan_mjd(path: Path, number: int) -> None:
    write_wfi(path, chips=1, size=(4, 4), DATE_OBS=date_obs(number), MJD_OBS="NaN")


def _namesake(path: Path, number: int) -> None:
    """Write another exposure that says it is the first."""
    write_wfi(path, chips=1, size=(4, 4), DATE_OBS=date_obs(0), MJD_OBS=None, OBSERVER=f"observer {number}")


BAD = {
    "corrupt": Bad(_corrupt, r"is corrupt: .*sum verification failed.*"),
    "truncated": Bad(_truncated, r"is truncated.*"),
    "truncated and gzipped": Bad(_gzip_cut, r"is corrupt: EOFError.*"),
    "of no length": Bad(_zero_length, r"is empty"),
    "no FITS": Bad(_text, r"is no FITS file: it begins with b'this is n'"),
    "of an unknown instrument": Bad(_unknown_instrument, r"INSTRUME='SUPERCAM' is of no known instrument \(.*WFI.*\)"),
    "a bias of 300 s": Bad(_contradictory, r"image 1: contradicts itself: a bias of 300 s"),
    "of two dates": Bad(
        _other_date, r"image 1: contradicts itself: the exposure began .*, but MJD-OBS=51600.0 is 2000-02-26.*"
    ),
    "larger than its chip": Bad(_too_large, r"image 1: has 2143 x 36 pixels, more than a chip of WFI .*"),
    "smaller than its strips": Bad(_too_small, r"image 1: 10 x 10 pixels leave no data beside strips of .*"),
    "without a date": Bad(_nan_date, r"image 1: DATE-OBS='NaN' is not a date such as .*"),
    "without a number as MJD": Bad(_nan_mjd, r"image 1: MJD-OBS='NaN' is not a finite number"),
    "a namesake of another content": Bad(
        _namesake, r"the archive has a WFI\.2000-04-28T20:00:00\.000_1\.fits of other content already .*"
    ),
}


@dataclass(frozen=True)
class Door:
    """The way to an archive in a process of its own, as `dpu.ingest` takes it: it reads files in place."""

    archive: ArchiveServiceStub
    state: Path
    is_local: bool = True

    def attempt(self, call: Callable[[Door], Any]) -> Any:
        """Return the answer of a call. Raises what it meant."""
        try:
            return call(self)
        except RpcError as error:
            raise from_rpc(error, "the archive") from error

    def frames(self, instrument: str = "WFI") -> list[pb.Frame]:
        """Return everything that is there of an instrument."""
        found: list[pb.Frame] = []
        request = pb.ListFramesRequest(selection=pb.Selection(instrument=instrument))
        while True:
            answer = self.archive.ListFrames(request)
            found += answer.frames
            request.page_token = answer.next_page_token
            if not request.page_token:
                return found


@contextmanager
def door_of(folder: Path) -> Iterator[Door]:
    """Open an archive in `folder` until the block ends."""
    state = folder / "state"
    state.mkdir(parents=True)
    with place() as where, a_process(where, state, ""), open_channel(where.address, "anna's", "KIDS") as channel:
        channel_ready_future(channel).result(START_S)
        yield Door(ArchiveServiceStub(channel), state)
