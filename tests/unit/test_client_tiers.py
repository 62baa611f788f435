"""What `awe archive` says of files that were moved, and of how much there is."""

from contextlib import suppress
from datetime import date
from types import SimpleNamespace

import pytest

from dpu.errors import BadOption, NothingSelected, Unreachable
from dpu.tiers import Tally, amount, move, rows, seldom
from dpu_api.v1 import archive_pb2 as pb

TODAY = date(2026, 3, 1)


def asked(**said):
    nothing = dict.fromkeys(("frame_class", "instrument", "before", "older_than", "unused_since"), "")
    return SimpleNamespace(**nothing | said)


def test_a_command_line_says_which_frames():
    said = asked(frame_class="RawBiasFrame", before="2020-01-01", older_than="60", unused_since="2026-02-01")
    assert seldom(said, TODAY) == pb.SeldomUsed(
        frame_class="RawBiasFrame", before_night="2020-01-01", came_before="2025-12-31", unused_since="2026-02-01"
    )


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"before": "2020"}, "--before '2020': must be a date"),
        ({"unused_since": "a year"}, "--unused-since 'a year': must be a date"),
        ({"older_than": "1y"}, "--older-than '1y': must be a number of days"),
        ({"older_than": "-3"}, "--older-than '-3': must be a number of days"),
        ({"older_than": "9" * 20}, "--older-than '9{20}': must be a number of days"),
    ],
)
def test_what_cannot_be_read_is_refused(said, message):
    with pytest.raises(BadOption, match=message):
        seldom(asked(**said), TODAY)


def test_what_was_moved_is_summed_and_what_stays_is_named():
    tally = Tally()
    tally.add(pb.MovedFile(file_name="a.fits", size=3000, stored=1000))
    tally.add(pb.MovedFile(file_name="b.fits", size=1000, stored=1000))
    tally.add(pb.MovedFile(file_name="c.fits", size=5000, stored=5000, reason="is no FITS file"))
    assert tally.lines("frozen") == [
        "2 files frozen: 4.00 kB are 2.00 kB now, 2.00 times less",
        "1 file left as it is:",
        "  is no FITS file: c.fits",
    ]


def test_of_many_that_stay_the_reasons_are_told_with_some_of_their_names():
    tally = Tally()
    for number in range(1200):
        reason = "it is being read" if number % 400 else "holds a table (BinTableHDU): only images are packed"
        tally.add(pb.MovedFile(file_name=f"{number}.fits", size=10, reason=reason))
    assert tally.lines("frozen") == [
        "0 files frozen: 0 B",
        "1,200 files left as they are:",
        "  holds a table (BinTableHDU): only images are packed: 0.fits, 400.fits, 800.fits",
        "  it is being read: 1.fits, 2.fits, 3.fits and 1,194 more",
    ]


class Shaky:
    """A link whose connection is lost behind the first two files; the call is repeated then."""

    def __init__(self, *passes):
        self._passes = iter(passes)

    def attempt(self, call):
        archive = SimpleNamespace(FreezeFrames=lambda *_, **__: self._told(next(self._passes)))
        with suppress(Unreachable):
            call(SimpleNamespace(archive=archive))
        return call(SimpleNamespace(archive=archive))

    @staticmethod
    def _told(files):
        for file in files:
            if isinstance(file, Exception):
                raise file
            yield pb.FreezeFramesResponse(file=file)


GOES = pb.MovedFile(file_name="goes.fits", size=3000, stored=1000)
STAYS = pb.MovedFile(file_name="stays.fits", size=10, reason="it is being read")
LOST = Unreachable("the archive")


@pytest.mark.parametrize(
    ("passes", "trial", "counted"),
    [
        (([GOES, STAYS, LOST], [STAYS, GOES]), False, (2, 1)),
        (([GOES, STAYS, LOST], [GOES, STAYS, GOES]), True, (2, 1)),
        (([GOES, LOST], [NothingSelected("nothing to be frozen")]), False, (1, 0)),
    ],
)
def test_a_connection_that_is_lost_counts_nothing_twice(passes, trial, counted):
    tally = move(Shaky(*passes), pb.SeldomUsed(), print, thaw=False, trial=trial)
    assert (tally.count["files"], len(tally.staying)) == counted


def test_where_nothing_was_done_nothing_to_be_done_is_an_error():
    with pytest.raises(NothingSelected):
        move(Shaky([LOST], [NothingSelected("nothing to be frozen")]), pb.SeldomUsed(), print, thaw=False, trial=False)


def test_a_trial_knows_no_ratio():
    tally = Tally()
    tally.add(pb.MovedFile(file_name="a.fits", size=3000))
    assert tally.lines("would be frozen") == ["1 file would be frozen: 3.00 kB"]


def test_each_tier_is_a_line():
    warm = pb.Tier(frames=1200, files=1100, size=2_000_000, stored=2_000_000)
    assert rows(pb.GetTiersResponse(warm=warm, cold=pb.Tier())) == [
        "tier     frames     files    content     stored  ratio",
        "warm      1,200     1,100    2.00 MB    2.00 MB   1.00",
        "cold          0         0        0 B        0 B      -",
    ]


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (2.7e9, "2.70 GB"), (3e18, "3000000.00 TB")])
def test_amounts_are_read_by_people(size, text):
    assert amount(size) == text
