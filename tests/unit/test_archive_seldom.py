"""Which frames are seldom used, and which of them are found in either tier."""

from datetime import date, timedelta

import pytest

from dpu.errors import BadOption, NothingSelected, StorageFull
from dpud.archive.catalogue import MemoryCatalogue
from dpud.archive.coldlist import MemoryColdList
from dpud.archive.records import Attempt, View
from dpud.archive.seldom import Seeker, Seldom
from dpud.archive.usage import RECENT, Usage
from fakes_archive import NOW, a_product, a_raw

VIEW = View("KIDS")
TODAY = NOW.date()


@pytest.fixture
def catalogue():
    made = MemoryCatalogue()
    made.add([a_raw(number, creation_date=NOW - timedelta(days=100 * number)) for number in range(3)])
    return made


@pytest.fixture
def seeker(catalogue):
    cold_list = MemoryColdList(catalogue)
    return Seeker(catalogue, cold_list, cold_list)


def found(seeker, *, frozen=False, view=VIEW, **said):
    pages = seeker.pages(view, Seldom(**said), frozen=frozen)
    return sorted(record.frame.date_obs.minute - 1 for page in pages for record in page)


def file_of(catalogue, number):
    return catalogue.everything()[number].frame.digest


def test_frames_came_before_a_day(seeker):
    assert found(seeker, came_before=TODAY - timedelta(days=150)) == [2]
    assert found(seeker, came_before=TODAY) == [1, 2]


def test_a_frame_that_was_asked_for_since_is_used(seeker, catalogue):
    since = TODAY - timedelta(days=50)
    assert found(seeker, unused_since=since) == [1, 2]
    seeker.uses.note([file_of(catalogue, 1)], since - timedelta(days=1))
    assert found(seeker, unused_since=since) == [1, 2]
    seeker.uses.note([file_of(catalogue, 1)], since)
    assert found(seeker, unused_since=since) == [2]


def test_a_frame_that_came_since_is_not_yet_seldom_used(seeker):
    assert found(seeker, unused_since=TODAY, came_before=TODAY - timedelta(days=150)) == [2]


def test_a_figure_of_quality_is_packed_as_it_is(seeker, catalogue):
    for number, kind in enumerate(("QualityFigure", "BiasFrame")):
        attempt = Attempt(7, number, 1)
        catalogue.stage(a_product(attempt, frame_class=kind, digest=f"{number:064x}", size=9))
        catalogue.publish(attempt, commit=True)
    pages = seeker.pages(VIEW, Seldom(came_before=NOW.date() + timedelta(days=2)), frozen=False)
    assert {record.frame.frame_class for page in pages for record in page} == {"RawBiasFrame", "BiasFrame"}


def test_each_tier_has_its_own(seeker, catalogue):
    seeker.cold_list.freeze(file_of(catalogue, 1), 10)
    assert found(seeker, instrument="WFI") == [0, 2]
    assert found(seeker, instrument="WFI", frozen=True) == [1]


def test_another_projects_frames_and_values_alone_are_not_meant(seeker, catalogue):
    catalogue.add([a_raw(3, project="VST").evolve(privileges=3)])
    catalogue.stage(a_product(digest="", size=0))
    assert found(seeker, instrument="WFI") == [0, 1, 2]


def test_nothing_said_is_refused(seeker):
    with pytest.raises(BadOption, match="say which frames: by --class, --instrument, --before NIGHT"):
        found(seeker)


@pytest.mark.parametrize(
    ("frozen", "said", "message"),
    [
        (False, {"frame_class": "RawBais"}, "project 'KIDS' has no RawBais: classes are called as in RawScienceFrame"),
        (False, {"before": date(1999, 1, 1)}, "nothing to be frozen: no file of the warm tier fits all of what was"),
        (True, {"frame_class": "RawBiasFrame"}, "nothing to be thawed: no file of the cold tier fits all of what was"),
    ],
)
def test_nothing_found_says_why(seeker, frozen, said, message):
    with pytest.raises(NothingSelected, match=message):
        found(seeker, frozen=frozen, **said)


class Clock:
    now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def usage(seeker):
    clock = Clock()
    made = Usage(seeker.uses, clock)
    made.clock = clock
    return made


async def test_days_of_use_are_written_down_together(usage, seeker):
    usage.note("a")
    usage.note("b")
    assert seeker.uses.last(["a", "b"]) == {}
    await usage.save()
    assert seeker.uses.last(["a", "b"]) == {"a": TODAY, "b": TODAY}


class Full:
    """What takes no day."""

    def note(self, _digests, _day):
        raise StorageFull


async def test_days_that_could_not_be_written_down_are_kept(usage, seeker):
    usage.note("a")
    usage._uses = Full()
    with pytest.raises(StorageFull):
        await usage.save()
    usage._uses = seeker.uses
    await usage.save()
    assert seeker.uses.last(["a"]) == {"a": TODAY}


def test_somebody_may_be_reading_for_ten_minutes(usage):
    usage.note("a")
    usage.clock.now = NOW + RECENT
    usage.note("b")
    assert usage.is_recent("a")
    usage.clock.now += timedelta(seconds=1)
    assert not usage.is_recent("a")
    assert usage.is_recent("b")
    assert not usage.is_recent("c")
