"""Who sees what by its privilege level, and conditions on frames, in every catalogue."""

from datetime import timedelta

import pytest

from dpu.errors import BadOption, UnknownOption
from dpu_recipes.archive import Selection
from dpud.archive.conditions import ATTRIBUTES, AllOf, AnyOf, Comparison, Operator, of_project, of_user
from dpud.archive.records import Attempt, First, Level, Query, View, position
from fakes_archive import DATE_OBS, a_product, a_raw

ANN = View("KIDS", user="ann")


def said(attribute, how, value):
    return Comparison.of(attribute, Operator(how), value)


def asked(view, frame_class="RawBiasFrame", **fields):
    return Query(view=view, frame_class=frame_class, **fields)


def names(records):
    return [record.frame.id for record in records]


# --- levels


@pytest.mark.parametrize(
    ("level", "seen_by"),
    [
        (Level.OWN, {"jdoe"}),
        (Level.PROJECT, {"jdoe", "ann", "nobody"}),
        (Level.EVERYBODY, {"jdoe", "ann", "nobody", "elsewhere"}),
        (Level.WORLD, {"jdoe", "ann", "nobody", "elsewhere"}),
        (Level.OBSERVATORY, {"jdoe", "ann", "nobody", "elsewhere"}),
    ],
)
def test_a_product_is_seen_as_far_as_its_level_says(catalogue, level, seen_by):
    catalogue.stage(a_product())
    (record,) = catalogue.publish(Attempt(1, 1, 1), commit=True).records
    assert catalogue.amend(record.evolve(privileges=level)).privileges is level
    views = {
        "jdoe": View("KIDS", user="jdoe"),
        "ann": ANN,
        "nobody": View("KIDS"),
        "elsewhere": View("VST", user="jdoe"),
    }
    frame = a_raw().frame
    for who, view in views.items():
        expected = [record.frame.id] if who in seen_by else []
        assert names(catalogue.find(view, [record.frame.id])) == expected
        assert names(catalogue.select(asked(view, "BiasFrame"), limit=9)) == expected
        assert names(catalogue.calibrations(view, "BiasFrame", frame)) == expected
        assert list(catalogue.counts(asked(view, "BiasFrame"), "chip").values()) == [1] * len(expected)


def test_a_staged_product_is_seen_by_its_job_alone_whatever_its_level(catalogue):
    (record,) = catalogue.stage(a_product(Attempt(7, 1, 1))).records
    catalogue.amend(record.evolve(privileges=Level.EVERYBODY))
    assert catalogue.find(View("KIDS", user="jdoe"), [record.frame.id]) == []
    assert len(catalogue.find(View("KIDS", 7), [record.frame.id])) == 1
    catalogue.publish(Attempt(7, 1, 1), commit=True)
    assert len(catalogue.find(View("VST"), [record.frame.id])) == 1


def test_names_of_projects_and_users_do_not_run_into_each_other(catalogue):
    catalogue.stage(a_product(project="A/B").evolve(user="C"))
    (record,) = catalogue.publish(Attempt(1, 1, 1), commit=True).records
    catalogue.amend(record.evolve(privileges=Level.OWN))
    assert catalogue.find(View("A", user="B/C"), [record.frame.id]) == []
    assert catalogue.find(View("A/B", user="C"), [record.frame.id]) != []


def test_a_raw_frame_that_several_projects_have_comes_once(catalogue):
    mine, theirs, others = (a_raw(project=project) for project in ("KIDS", "VST", "OMEGA"))
    for record in (others, theirs, mine):
        catalogue.add([record])
    for record in (theirs, others):
        catalogue.amend(record.evolve(privileges=Level.EVERYBODY))
    name = mine.frame.id
    for view, project in ((View("KIDS"), "KIDS"), (View("VST"), "VST"), (View("ELSE"), "OMEGA")):
        assert [record.project for record in catalogue.select(asked(view), limit=9)] == [project]
        assert [record.project for record in catalogue.find(view, [name])] == [project]
        assert catalogue.counts(asked(view), "chip") == {"ccd50": 1}
        chosen = Selection(instrument="", file_names=(mine.frame.file_name,))
        assert [record.project for record in catalogue.select(asked(view, selection=chosen), limit=9)] == [project]


def test_an_exposure_that_another_project_shows_is_not_here(catalogue):
    theirs = a_raw(project="VST")
    catalogue.add([theirs])
    catalogue.amend(theirs.evolve(privileges=Level.EVERYBODY))
    assert catalogue.select(asked(View("KIDS"), source=theirs.source), limit=9) == []
    assert len(catalogue.select(asked(View("VST"), source=theirs.source), limit=9)) == 1


def test_pages_go_through_all_audiences_in_order(catalogue):
    mine = [a_raw(number) for number in (0, 2, 4, 6)]
    theirs = [a_raw(number, project="VST") for number in (1, 3, 5)]
    catalogue.add(mine)
    catalogue.add(theirs)
    for record in theirs:
        catalogue.amend(record.evolve(privileges=Level.EVERYBODY))
    seen, after = [], None
    while page := catalogue.select(asked(ANN), after=after, limit=2):
        seen += page
        after = position(page[-1], only_job=False)
    assert [record.frame.date_obs.minute for record in seen] == [1, 2, 3, 4, 5, 6, 7]


# --- conditions


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (AllOf(()), [0, 1, 2]),
        (AnyOf(()), []),
        (said("object", "==", "M31"), [0]),
        (said("object", "!=", "M31"), [1, 2]),
        (said("object", "like", "M3*"), [0, 1]),
        (said("object", "like", "m3*"), []),
        (said("object", "like", "M31"), [0]),
        (said("object", "<", "M33"), [0, 2]),
        (said("exptime", ">", 10), [1, 2]),
        (said("exptime", "<=", 10.0), [0]),
        (said("date_obs", ">=", (DATE_OBS + timedelta(minutes=1)).isoformat()), [1, 2]),
        (said("date_obs", "<", "2000-04-28T22:02:03"), [0]),
        (said("night", "==", "2000-04-28"), [0, 1, 2]),
        (said("night", "<", "2000-04-28"), []),
        (said("is_valid", "==", 1), [0, 1, 2]),
        (said("is_valid", "==", False), []),
        (said("quality_flags", "!=", 0), []),
        (said("privileges", "==", 2), [0, 1, 2]),
        (of_user(View("KIDS", user="jdoe")), [0, 1, 2]),
        (of_user(ANN), []),
        (of_project(ANN), [0, 1, 2]),
        (AllOf((said("object", "like", "M*"), said("exptime", "<", 100))), [0, 1]),
        (AnyOf((said("object", "==", "M31"), said("exptime", "==", 300))), [0, 2]),
        (AllOf((AnyOf((said("chip", "==", "ccd50"),)), AllOf(()), said("exptime", "==", 20))), [1]),
    ],
)
def test_a_condition_finds(catalogue, condition, found):
    objects, times = ("M31", "M33", "Lens"), (10.0, 20.0, 300.0)
    records = [
        a_raw(number, frame_class="RawScienceFrame", object=name, exptime=time)
        for number, (name, time) in enumerate(zip(objects, times, strict=True))
    ]
    catalogue.add(records)
    query = asked(ANN, "RawScienceFrame", condition=condition)
    expected = [records[number].frame.id for number in found]
    assert names(catalogue.select(query, limit=9)) == expected
    assert sum(catalogue.counts(query, "chip").values()) == len(expected)


def test_every_attribute_has_a_first_and_can_be_asked(catalogue):
    records = [a_raw(number, exptime=float(number), chip=f"ccd5{number}") for number in range(3)]
    catalogue.add(records)
    rising = {"chip", "exptime", "date_obs", "file_name"}
    for attribute in ATTRIBUTES:
        least, greatest = (catalogue.select(asked(ANN, first=First(attribute, way)), limit=1) for way in (False, True))
        assert names(least) == names(records[:1]), attribute
        # Where all are the same in it, that which came first.
        assert names(greatest) == names(records[-1:] if attribute in rising else records[:1]), attribute


def test_the_greatest_of_those_that_a_condition_finds(catalogue):
    catalogue.add([a_raw(number, exptime=float(number)) for number in range(4)])
    query = asked(ANN, first=First("date_obs", greatest=True), condition=said("exptime", "<", 3))
    assert [record.frame.exptime for record in catalogue.select(query, limit=1)] == [2.0]


# --- values that cannot be compared


@pytest.mark.parametrize(
    ("attribute", "how", "value", "told"),
    [
        ("seeing", "==", 1, "frames have no 'seeing' that can be asked; there is instrument, chip"),
        ("exptime", "==", "long", "exptime cannot be compared with 'long': must be a number"),
        ("object", "==", 31, "object cannot be compared with 31: must be a text"),
        ("night", "==", "yesterday", "night cannot be compared with 'yesterday': must be a date"),
        ("date_obs", ">", 2000, "date_obs cannot be compared with 2000: must be a time, UTC"),
        ("is_valid", "==", "yes", "is_valid cannot be compared with 'yes': must be 0 or 1"),
        ("exptime", "like", "1*", "exptime is no text: only texts are like a pattern"),
    ],
)
def test_what_cannot_be_compared_is_refused(attribute, how, value, told):
    with pytest.raises((BadOption, UnknownOption), match=told.replace("(", r"\(")):
        said(attribute, how, value)
