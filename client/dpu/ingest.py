"""Brings FITS files into the archive, several at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpu.channel import CHUNK
from dpu.errors import Exhausted, InternalError, NotAllowed, Unreachable, UsageError
from dpu_api.v1.archive_pb2 import IngestFile, IngestRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from dpu.link import Link

SUFFIXES = (".fits", ".fit", ".fts", ".fits.fz", ".fit.fz", ".fits.gz")
#: What belongs to an image that was reduced elsewhere, by what stands in its name: NAME.weight.fits beside NAME.fits.
COMPANIONS = {"WeightFrame": "weight", "MaskFrame": "mask", "PsfModel": "psf"}
AT_A_TIME = 3
#: A whole mosaic over a slow line.
DEADLINE_S = 600.0
#: What is no fault of the file: nothing more is tried.
FATAL = (Unreachable, Exhausted, NotAllowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one file."""

    path: Path
    frames: int = 0
    already: bool = False
    #: Why it was refused; '' where it was taken.
    reason: str = ""

    @property
    def word(self) -> str:
        """In a word: 'refused', 'already there' or '3 frames'."""
        if self.reason:
            return "refused"
        return "already there" if self.already else _count(self.frames, "frame")


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of all files, in the order in which they were named."""

    outcomes: tuple[Outcome, ...]

    @property
    def refused(self) -> list[Outcome]:
        """The files that were not taken."""
        return [outcome for outcome in self.outcomes if outcome.reason]

    def lines(self) -> list[str]:
        """Return the summary: a line of figures, then one for each refused file."""
        taken = [outcome for outcome in self.outcomes if not outcome.reason]
        fresh = [outcome for outcome in taken if not outcome.already]
        counts = [
            _count(len(self.outcomes), "file"),
            _count(sum(outcome.frames for outcome in fresh), "new frame"),
            f"{len(taken) - len(fresh)} already there",
            f"{len(self.refused)} refused",
        ]
        return [
            ", ".join(counts),
            *(f"Refused {str(outcome.path)!r}: {outcome.reason}" for outcome in self.refused),
        ]


def find_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files to take: those named, and the FITS files in the folders named, at any depth.

    Raises UsageError for a path that is not there and for a folder without any.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(item for item in path.rglob("*") if item.name.lower().endswith(SUFFIXES) and item.is_file())
            if not inside:
                raise UsageError(f"{str(path)!r} holds no FITS file ({', '.join(SUFFIXES)})")
            found |= dict.fromkeys(inside)
        elif path.exists():
            found[path] = None
        else:
            raise UsageError(f"{str(path)!r} does not exist")
    return list(found)


def without_companions(files: Sequence[Path]) -> list[Path]:
    """Return the files that belong to no other of them."""
    belonging = {companion for path in files for companion in companions(path).values()}
    return [path for path in files if path not in belonging]


def ingest(
    link: Link, files: Sequence[Path], done: Callable[[Outcome], None], *, instrument: str = "", frame_class: str = ""
) -> Summary:
    """Bring files in; `done` hears of each as it is settled. A bad file is refused and the rest go in.

    `instrument` names the one that took them; '': their headers say. `frame_class` is what those are that were reduced
    elsewhere: what belongs to each comes with it (`companions`).

    Raises what is no fault of a file (Unreachable, StorageFull, NotLoggedIn): what went in before stays in.
    """
    outcomes: list[Outcome] = []
    says = IngestFile(instrument=instrument, frame_class=frame_class)
    pool = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="ingest")
    try:
        for outcome in pool.map(lambda path: take(link, path, says), files):
            done(outcome)
            outcomes.append(outcome)
    except BaseException:
        # Ctrl-C, or nobody there: what is on its way is broken off, and the archive keeps nothing of it.
        link.close()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return Summary(tuple(outcomes))


def take(link: Link, path: Path, says: IngestFile | None = None) -> Outcome:
    """Bring one file in, as what `says` tells. The embedded DPU reads it in place; to another its bytes travel."""
    try:
        with path.open("rb"):
            pass  # the reason is better told from here
        answer = link.attempt(
            # May be repeated: a file of the same content changes nothing.
            lambda services: services.archive.Ingest(
                requests(path, says or IngestFile(), in_place=link.is_local), timeout=DEADLINE_S
            )
        )
    except OSError as error:
        return Outcome(path=path, reason=f"cannot be read: {error.strerror}")
    except FATAL:
        raise
    except (UsageError, InternalError) as error:
        return Outcome(path=path, reason=error.message.removeprefix(f"{path}: "))
    return Outcome(path=path, frames=len(answer.frames), already=answer.already)


def companions(path: Path) -> dict[str, Path]:
    """Return what lies beside an image that was reduced elsewhere and belongs to it, by class."""
    suffix = next((item for item in SUFFIXES[::-1] if path.name.lower().endswith(item)), "")
    name = path.name[: len(path.name) - len(suffix)]
    return {
        frame_class: beside
        for frame_class, kind in COMPANIONS.items()
        for ending in ("", *SUFFIXES)
        if (beside := path.with_name(f"{name}.{kind}{ending}")).is_file()
    }


def requests(path: Path, says: IngestFile, *, in_place: bool) -> Iterator[IngestRequest]:
    """Yield what says where a file and its companions are to be read, or what they hold in chunks."""
    yield from _told(path, says, in_place=in_place)
    for frame_class, companion in (companions(path) if says.frame_class else {}).items():
        yield from _told(companion, IngestFile(frame_class=frame_class), in_place=in_place)


def _told(path: Path, says: IngestFile, *, in_place: bool) -> Iterator[IngestRequest]:
    file = IngestFile(name=str(path), path=str(path.absolute()) if in_place else "")
    file.MergeFrom(says)
    yield IngestRequest(file=file)
    if in_place:
        return
    with path.open("rb") as reading:
        while chunk := reading.read(CHUNK):
            yield IngestRequest(chunk=chunk)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
