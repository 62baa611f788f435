"""`awe archive`: packs frames that are seldom used away, brings them back, and says how much there is."""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from dpu.errors import BadOption, NothingSelected
from dpu_api.v1 import archive_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from dpu.link import Link, Services

#: Packing all of an archive takes its time; who goes on later loses nothing.
DEADLINE_S = 7 * 86400.0
#: Between two lines about how far it is.
EVERY = 100
#: So many files are named that stay as they are for one reason.
FEW = 3
_UNITS = ("B", "kB", "MB", "GB", "TB")
_THOUSAND = 1000


@dataclass
class Tally:
    """What became of files so far."""

    count: Counter[str] = field(default_factory=Counter)
    staying: list[pb.MovedFile] = field(default_factory=list)

    def add(self, file: pb.MovedFile) -> None:
        """Count a file."""
        if file.reason:
            self.staying.append(file)
        else:
            self.count.update(files=1, size=file.size, stored=file.stored)

    def again(self, *, trial: bool) -> None:
        """Forget what is going to be told again: of a trial everything, else the files that stay."""
        self.staying.clear()
        if trial:
            self.count.clear()

    def lines(self, verb: str) -> list[str]:
        """Return what became of all, and why some stay where they are."""
        files, size, stored = (self.count[name] for name in ("files", "size", "stored"))
        told = f"{_count(files)} {verb}: {amount(size)}"
        if stored and stored != size:
            told += f" are {amount(stored)} now, {size / stored:.2f} times less"
        return [told, *self._left()]

    def _left(self) -> Iterator[str]:
        """Give what is said of the files that stay: a line for each reason, with the first of them."""
        if not self.staying:
            return
        yield f"{_count(len(self.staying))} left as {'they are' if len(self.staying) > 1 else 'it is'}:"
        by_reason = defaultdict[str, list[str]](list)
        for file in self.staying:
            by_reason[file.reason].append(file.file_name)
        for reason, names in by_reason.items():
            more = f" and {len(names) - FEW:,} more" if len(names) > FEW else ""
            yield f"  {reason}: {', '.join(names[:FEW])}{more}"


def move(link: Link, which: pb.SeldomUsed, say: Callable[[str], None], *, thaw: bool, trial: bool) -> Tally:
    """Freeze or thaw frames, and return what became of them; `say` hears how far it is.

    Raises NotAllowed where you are no operator, BadOption, NothingSelected and StorageFull. May be repeated.
    """
    tally = Tally()

    def answers(services: Services) -> Iterable[pb.FreezeFramesResponse | pb.ThawFramesResponse]:
        if thaw:
            return services.archive.ThawFrames(pb.ThawFramesRequest(which=which, trial=trial), timeout=DEADLINE_S)
        return services.archive.FreezeFrames(pb.FreezeFramesRequest(which=which, trial=trial), timeout=DEADLINE_S)

    def receive(services: Services) -> None:
        tally.again(trial=trial)
        for number, answer in enumerate(answers(services), 1):
            tally.add(answer.file)
            if number % EVERY == 0:
                say(f"{_count(number)} so far")

    try:
        link.attempt(receive)
    except NothingSelected:
        # After a connection was lost, nothing may be left to be done.
        if not tally.count:
            raise
    return tally


def tiers(link: Link) -> pb.GetTiersResponse:
    """Return how much your project has in each tier."""
    return link.ask(lambda services: services.archive.GetTiers, pb.GetTiersRequest())


def rows(found: pb.GetTiersResponse) -> list[str]:
    """Return a line for each tier."""
    lines = [f"{'tier':5} {'frames':>9} {'files':>9} {'content':>10} {'stored':>10} {'ratio':>6}"]
    for name, tier in (("warm", found.warm), ("cold", found.cold)):
        ratio = f"{tier.size / tier.stored:.2f}" if tier.stored else "-"
        sizes = f"{amount(tier.size):>10} {amount(tier.stored):>10} {ratio:>6}"
        lines.append(f"{name:5} {tier.frames:>9,} {tier.files:>9,} {sizes}")
    return lines


def amount(size: float) -> str:
    """Return a number of bytes as people read it: '2.70 GB'."""
    unit = 0
    while size >= _THOUSAND and unit + 1 < len(_UNITS):
        size, unit = size / _THOUSAND, unit + 1
    return f"{size:.2f} {_UNITS[unit]}" if unit else f"{size:.0f} B"


def seldom(asked: argparse.Namespace, today: date) -> pb.SeldomUsed:
    """Return which frames a command line means. Raises BadOption."""
    dates = {"--before": asked.before, "--unused-since": asked.unused_since}
    for option, text in dates.items():
        _check_date(option, text)
    return pb.SeldomUsed(
        frame_class=asked.frame_class,
        instrument=asked.instrument,
        before_night=asked.before,
        came_before=_days_ago(asked.older_than, today),
        unused_since=asked.unused_since,
    )


def main(arguments: Sequence[str]) -> int:
    """Run `awe archive` and return its exit code: 1 where a file stays where it was."""
    from contextlib import closing

    from dpu.processor import Processor

    asked = _parser().parse_args(arguments)
    with closing(Processor()) as processor:
        if asked.command == "status":
            print("\n".join(rows(tiers(processor.link))))
            return 0
        which = seldom(asked, datetime.now(tz=UTC).date())
        thaw = asked.command == "thaw"
        tally = move(processor.link, which, print, thaw=thaw, trial=asked.dry_run)
    done = "thawed" if thaw else "frozen"
    print("\n".join(tally.lines(f"would be {done}" if asked.dry_run else done)))
    return int(bool(tally.staying))


def _check_date(option: str, text: str) -> None:
    try:
        date.fromisoformat(text or "2000-01-01")
    except ValueError:
        raise BadOption(f"{option} {text!r}: must be a date, CCYY-MM-DD") from None


def _days_ago(text: str, today: date) -> str:
    if text and not text.isdecimal():
        raise _no_days(text)
    try:
        return str(today - timedelta(days=int(text))) if text else ""
    except OverflowError:
        raise _no_days(text) from None


def _no_days(text: str) -> BadOption:
    return BadOption(f"--older-than {text!r}: must be a number of days, as 365")


def _count(files: int) -> str:
    return f"{files:,} file{'' if files == 1 else 's'}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="awe archive",
        description="The tiers of the archive: the warm one, and the cold one where frames are packed without loss.",
        epilog="exit codes: 0 well, 1 some files stay as they are, 2 used wrongly, 4 the DPU cannot be reached",
    )
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    commands.add_parser("status", help="show how much your project has in each tier")
    for name, does in (
        ("freeze", "pack frames away that are seldom used (operators only)"),
        ("thaw", "bring them back; a frame that is asked for comes back by itself (operators only)"),
    ):
        command = commands.add_parser(name, help=does, description=f"{does.capitalize()}; of all that is said.")
        command.add_argument("--class", dest="frame_class", metavar="CLASS", default="", help="as RawScienceFrame")
        command.add_argument("--instrument", metavar="NAME", default="")
        command.add_argument("--before", metavar="NIGHT", default="", help="taken before this night, CCYY-MM-DD")
        command.add_argument(
            "--older-than", metavar="DAYS", default="", help="in the archive for more than so many days"
        )
        command.add_argument("--unused-since", metavar="DAY", default="", help="asked for by nobody since, CCYY-MM-DD")
        command.add_argument("--dry-run", action="store_true", help="say how much it would be, and do nothing")
    return parser
