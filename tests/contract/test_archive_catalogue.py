"""One suite that every catalogue passes, in memory and in a database."""

import math
from datetime import date, timedelta

import pytest

from dpu.errors import BadFrame, Conflict, NotFound, StaleLease
from dpu_recipes.archive import Selection
from dpud.archive.catalogue import NEAREST
from dpud.archive.records import Attempt, Query, View, position
from fakes_archive import DATE_OBS, NIGHT, NOW, a_product, a_raw, digest

KIDS = View("KIDS")


def select(catalogue, view=KIDS, frame_class="RawBiasFrame", instrument="WFI", limit=1000, **fields):
    selection = Selection(instrument=instrument, **fields)
    return catalogue.select(Query(view=view, frame_class=frame_class, selection=selection), limit=limit)


def of_job(job, **fields):
    return Query(view=View("KIDS", job), only_job=True, **fields)


def ids(records):
    return [record.frame.id for record in records]


# --- raw frames


def test_a_wildcard_finds_objects_wherever_it_stands(catalogue):
    names = ["SA98_F1", "SA98_F2", "CDF4_F1", ""]
    science = [a_raw(number, frame_class="RawScienceFrame", object=name) for number, name in enumerate(names)]
    elsewhere = [a_raw(5, frame_class="RawStandardFrame", object="SA98_F1"), a_raw(6, object="SA101_F1")]
    catalogue.add([*science, *elsewhere])

    def found(pattern):
        return [record.frame.object for record in select(catalogue, frame_class="RawScienceFrame", object=pattern)]

    assert found("*_F1") == ["SA98_F1", "CDF4_F1"]
    assert found("SA98*") == ["SA98_F1", "SA98_F2"]
    assert found("?*") == names[:3]
    assert found("*") == found("**") == names
    assert found("M*") == []


def test_an_object_whose_frames_have_gone_is_found_no_more(catalogue):
    made = a_product(Attempt(7, 1, 1), frame_class="ReducedScienceFrame", object="CDF4_1")
    stays = a_product(Attempt(7, 2, 1), frame_class="ReducedScienceFrame", object="CDF4_2")
    for record in (made, stays):
        catalogue.stage(record)
    catalogue.discard(made.attempt)
    catalogue.publish(stays.attempt, commit=True)
    found = select(catalogue, frame_class="ReducedScienceFrame", object="CDF4*")
    assert [record.frame.object for record in found] == ["CDF4_2"]


def test_a_frame_comes_back_as_it_went_in(catalogue):
    record = a_raw(
        values={"EXPOSURE": "r.fits", "MEAN": 301.5, "COUNT": 3, "OK": True, "NAN": math.nan, "LIST": [1, "a"]}
    )
    catalogue.add([record])
    (found,) = select(catalogue)
    assert math.isnan(found.frame.values["NAN"])
    values = {**record.frame.values, "NAN": None}
    assert found.evolve(frame=found.frame.evolve(values={**found.frame.values, "NAN": None})) == record.evolve(
        sequence=1, frame=record.frame.evolve(values=values)
    )


def test_frames_come_in_order_of_time_and_chip(catalogue):
    records = [a_raw(number, chip=chip) for number in (2, 0, 1) for chip in ("ccd51", "ccd50")]
    catalogue.add(records)
    assert [(record.frame.date_obs.minute, record.frame.chip) for record in select(catalogue)] == [
        (minute, chip) for minute in (1, 2, 3) for chip in ("ccd50", "ccd51")
    ]


def test_words_are_sorted_by_their_bytes(catalogue):
    catalogue.add([a_raw(chip=chip) for chip in ("a-49", "B-50", "A-51", "_-52")])
    assert [record.frame.chip for record in select(catalogue)] == ["A-51", "B-50", "_-52", "a-49"]
    assert list(catalogue.counts(Query(view=KIDS), "chip")) == ["A-51", "B-50", "_-52", "a-49"]


def test_what_is_there_already_is_not_added_again(catalogue):
    assert catalogue.add([a_raw(0), a_raw(1)]) == 2
    assert catalogue.add([a_raw(0), a_raw(1)]) == 0
    assert catalogue.add([a_raw(1), a_raw(2)]) == 1
    assert len(select(catalogue)) == 3


def test_a_file_name_has_one_content(catalogue):
    catalogue.add([a_raw(0)])
    with pytest.raises(BadFrame, match=r"WFI\.2000-04-28T22:01:03\.000_1\.fits of other content already"):
        catalogue.add([a_raw(1), a_raw(0, exptime=1.0)])
    assert ids(select(catalogue)) == ids([a_raw(0)])


def test_each_project_has_its_own_frames(catalogue):
    mine, theirs = a_raw(0), a_raw(0, project="VST")
    assert catalogue.add([mine]) == 1
    assert catalogue.add([theirs]) == 1
    assert [record.project for record in select(catalogue)] == ["KIDS"]
    assert [record.project for record in select(catalogue, View("VST"))] == ["VST"]
    assert catalogue.find(View("OMEGA"), [mine.frame.id]) == []
    assert catalogue.counts(Query(view=View("OMEGA")), "chip") == {}


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"instrument": "WFI"}, [0, 1, 2, 3, 4]),
        ({"instrument": "OMEGACAM"}, []),
        ({"instrument": "wfi"}, []),
        ({"night": "2000-04-28"}, [0, 1, 2]),
        ({"night": "2000-04-29"}, [3, 4]),
        ({"chips": ("ccd51",)}, [1]),
        ({"chips": ("ccd50", "ccd51")}, [0, 1, 2, 3, 4]),
        ({"filter": "#843"}, [2]),
        ({"object": "CDF4_B_?"}, [0, 1]),
        ({"object": "CDF4*"}, [0, 1, 2]),
        ({"object": "cdf4*"}, []),
        ({"object": "[A-Z]*"}, []),
        ({"object": "M[31]%"}, [3]),
        ({"object": "M[31]*"}, [3]),
        ({"object": "M_31*"}, []),
        ({"object": "CDF4_B"}, []),
        ({"night": "2000-04-28", "filter": "#842", "object": "*_1"}, [0]),
        ({"file_names": ("r002.fits.fz",)}, [2]),
        ({"file_names": ("r002.fits",)}, [2]),
        ({"file_names": ("/some/where/r002.fits", "r003")}, [2, 3]),
        ({"file_names": ("WFI.2000-04-28T22:02:03.000_2.fits",)}, [1]),
        ({"file_names": ("WFI.2000-04-28T22:02:03.000",)}, [1]),
        ({"file_names": ("r002.fits.fz",), "instrument": "OMEGACAM", "night": "1999-01-01"}, [2]),
        ({"file_names": ("nothing.fits",)}, []),
    ],
)
def test_a_selection_finds(catalogue, fields, found):
    later = {"night": date(2000, 4, 29), "frame_class": "RawScienceFrame"}
    records = [
        a_raw(0, frame_class="RawScienceFrame", object="CDF4_B_1"),
        a_raw(1, frame_class="RawScienceFrame", object="CDF4_B_2", chip="ccd51"),
        a_raw(2, frame_class="RawScienceFrame", object="CDF4_B_11", filter="#843"),
        a_raw(3, object="M[31]%", **later),
        a_raw(4, object="M 31", **later),
        a_raw(5),
    ]
    catalogue.add(records)
    assert ids(select(catalogue, frame_class="RawScienceFrame", **{"instrument": "", **fields})) == ids(
        records[number] for number in found
    )


def test_filter_and_object_of_a_bias_are_not_asked(catalogue):
    catalogue.add([a_raw(0)])
    assert len(select(catalogue, filter="#999", object="elsewhere")) == 1


def test_among_all_classes_filter_and_object_sort_out_only_what_saw_light(catalogue):
    science = [a_raw(number, frame_class="RawScienceFrame", object=name) for number, name in enumerate(("M31", "M33"))]
    catalogue.add([*science, a_raw(2)])
    assert ids(select(catalogue, frame_class="", object="M31")) == ids([science[0], a_raw(2)])


def test_pages_give_every_frame_once(catalogue):
    records = [a_raw(number, chip=chip) for number in range(4) for chip in ("ccd50", "ccd51", "ccd52")]
    catalogue.add(records)
    query, seen, after = Query(view=KIDS, frame_class="RawBiasFrame"), [], None
    while page := catalogue.select(query, after=after, limit=5):
        assert len(page) <= 5
        seen += ids(page)
        after = position(page[-1], only_job=False)
    assert seen == ids(records)


def test_frames_are_found_by_the_file_that_was_ingested(catalogue):
    catalogue.add([a_raw(0), a_raw(1)])
    query = Query(view=KIDS, source=digest("exposure 1"))
    assert ids(catalogue.select(query, limit=10)) == ids([a_raw(1)])


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("chip", {"ccd50": 2, "ccd51": 1}),
        ("night", {"2000-04-28": 2, "2000-04-29": 1}),
        ("filter", {"#842": 3}),
        ("object", {"BIAS": 3}),
    ],
)
def test_frames_are_counted(catalogue, by, expected):
    catalogue.add(
        [a_raw(0), a_raw(1, chip="ccd51"), a_raw(2, night=date(2000, 4, 29)), a_raw(3, frame_class="RawDarkFrame")]
    )
    assert catalogue.counts(Query(view=KIDS, frame_class="RawBiasFrame"), by) == expected


# --- products


def test_a_staged_product_is_its_jobs_own(catalogue):
    record = a_product(Attempt(7, 1, 1))
    staged = catalogue.stage(record).records
    assert staged == [record.evolve(sequence=1)]
    assert catalogue.find(KIDS, ids(staged)) == []
    assert catalogue.find(View("KIDS", 8), ids(staged)) == []
    assert catalogue.find(View("VST", 7), ids(staged)) == []
    assert catalogue.find(View("KIDS", 7), ids(staged)) == staged


def test_a_product_staged_twice_is_there_once(catalogue):
    first = catalogue.stage(a_product())
    assert catalogue.stage(a_product(id="another", file_name="another", creation_date=NOW + timedelta(1))) == first
    assert len(catalogue.select(of_job(1), limit=10)) == 1


def test_a_product_staged_twice_with_two_contents_is_refused(catalogue):
    catalogue.stage(a_product())
    with pytest.raises(Conflict, match="product 0 of attempt 1 at task 1 of job 1 was staged before"):
        catalogue.stage(a_product(digest=digest("other")))


def test_publishing_shows_all_of_an_attempt_at_once(catalogue):
    attempt = Attempt(1, 1, 1)
    for number in range(3):
        catalogue.stage(a_product(attempt, number))
    catalogue.stage(a_product(Attempt(1, 2, 1)))
    assert select(catalogue, frame_class="BiasFrame") == []
    published = catalogue.publish(attempt, commit=True).records
    assert [record.number for record in published] == [0, 1, 2]
    assert select(catalogue, frame_class="BiasFrame") == published
    assert all(record.published for record in published)


def test_publishing_twice_is_publishing_once(catalogue):
    catalogue.stage(a_product())
    first = catalogue.publish(Attempt(1, 1, 1), commit=True)
    assert catalogue.publish(Attempt(1, 1, 1), commit=True) == first


def test_the_highest_job_is_that_of_any_attempt_it_has_heard_of(catalogue):
    assert catalogue.highest_job() == 0
    catalogue.stage(a_product(Attempt(7, 1, 1)))
    catalogue.discard(Attempt(9, 3, 2))
    assert catalogue.highest_job() == 9


def test_without_commit_products_stay_the_jobs_own(catalogue):
    catalogue.stage(a_product())
    assert len(catalogue.publish(Attempt(1, 1, 1), commit=False).records) == 1
    assert select(catalogue, frame_class="BiasFrame") == []
    assert len(select(catalogue, View("KIDS", 1), frame_class="BiasFrame")) == 1


def test_an_attempt_that_staged_nothing_can_be_settled(catalogue):
    assert catalogue.publish(Attempt(1, 1, 2), commit=True).records == []
    assert catalogue.discard(Attempt(1, 2, 1)).freed == frozenset()


def test_discarding_forgets_the_products_of_one_attempt(catalogue):
    record, other = a_product(Attempt(1, 1, 1)), a_product(Attempt(1, 2, 1))
    catalogue.stage(record)
    catalogue.stage(other)
    assert catalogue.discard(Attempt(1, 1, 1)).freed == {record.frame.digest}
    assert catalogue.discard(Attempt(1, 1, 1)).freed == frozenset()
    assert ids(catalogue.select(of_job(1), limit=10)) == [other.frame.id]
    assert select(catalogue, View("KIDS", 1), frame_class="", file_names=(record.frame.file_name,)) == []


def test_a_product_is_found_by_its_identity(catalogue):
    made = a_product(Attempt(1, 1, 1), identity="1d", consulted='[["ReadNoise", "a", null, "b"]]')
    catalogue.stage(made)
    catalogue.stage(a_product(Attempt(1, 2, 1), identity="else"))
    catalogue.add([a_raw()])
    assert select(catalogue, frame_class="BiasFrame", instrument="", identity="1d") == []
    (found,) = select(catalogue, View("KIDS", 1), frame_class="BiasFrame", instrument="", identity="1d")
    assert (found.frame.identity, found.frame.consulted) == (made.frame.identity, made.frame.consulted)
    catalogue.publish(Attempt(1, 1, 1), commit=True)
    assert ids(select(catalogue, frame_class="BiasFrame", instrument="", identity="1d")) == [made.frame.id]
    assert select(catalogue, View("VST"), frame_class="BiasFrame", instrument="", identity="1d") == []


def test_a_file_that_another_product_has_too_is_not_freed(catalogue):
    catalogue.stage(a_product(Attempt(1, 1, 1), digest=digest("same")))
    catalogue.stage(a_product(Attempt(1, 2, 1), digest=digest("same")))
    assert catalogue.discard(Attempt(1, 1, 1)).freed == frozenset()
    assert catalogue.unnamed([digest("same"), digest("else")]) == {digest("else")}
    assert catalogue.discard(Attempt(1, 2, 1)).freed == {digest("same")}


def test_an_ended_attempt_adds_nothing(catalogue):
    catalogue.publish(Attempt(1, 1, 1), commit=True)
    catalogue.discard(Attempt(1, 2, 1))
    with pytest.raises(StaleLease, match="attempt 1 is published already"):
        catalogue.stage(a_product(Attempt(1, 1, 1)))
    with pytest.raises(StaleLease, match="attempt 1 is discarded already"):
        catalogue.stage(a_product(Attempt(1, 2, 1)))
    assert catalogue.select(of_job(1), limit=10) == []


def test_a_newer_attempt_takes_the_place_of_an_older_one(catalogue):
    older, newer = a_product(Attempt(1, 1, 1)), a_product(Attempt(1, 1, 2))
    catalogue.stage(older)
    assert catalogue.stage(newer).freed == {older.frame.digest}
    with pytest.raises(StaleLease, match="attempt 2 has taken its place"):
        catalogue.stage(a_product(Attempt(1, 1, 1), 1))
    assert ids(catalogue.select(of_job(1), limit=10)) == [newer.frame.id]
    catalogue.publish(Attempt(1, 1, 2), commit=True)
    catalogue.discard(Attempt(1, 1, 1))
    assert ids(select(catalogue, frame_class="BiasFrame")) == [newer.frame.id]


def test_a_published_attempt_cannot_be_discarded(catalogue):
    catalogue.stage(a_product())
    catalogue.publish(Attempt(1, 1, 1), commit=True)
    with pytest.raises(Conflict, match="is published: nothing was removed"):
        catalogue.discard(Attempt(1, 1, 1))
    assert len(select(catalogue, frame_class="BiasFrame")) == 1


def test_a_discarded_attempt_cannot_be_published(catalogue):
    catalogue.stage(a_product())
    catalogue.discard(Attempt(1, 1, 1))
    with pytest.raises(Conflict, match="cannot be published: attempt 1 is discarded"):
        catalogue.publish(Attempt(1, 1, 1), commit=True)


def test_only_what_nobody_published_expires(catalogue):
    old = NOW - timedelta(days=8)
    for task, created in ((1, old), (2, NOW), (3, old)):
        catalogue.stage(a_product(Attempt(1, task, 1), creation_date=created))
    catalogue.publish(Attempt(1, 3, 1), commit=True)
    catalogue.add([a_raw(creation_date=old)])
    gone = catalogue.expire(NOW - timedelta(days=7))
    assert [record.attempt.task for record in gone.records] == [1]
    assert gone.freed == {gone.records[0].frame.digest}
    assert [record.attempt.task for record in catalogue.select(of_job(1), limit=10)] == [2, 3]
    assert len(select(catalogue)) == 1


def test_products_of_a_job_come_by_task(catalogue):
    for task, number in ((3, 0), (1, 0), (1, 1), (2, 0)):
        catalogue.stage(a_product(Attempt(1, task, 1), number, chip=f"ccd5{task}"))
    catalogue.stage(a_product(Attempt(2, 1, 1)))
    catalogue.publish(Attempt(1, 1, 1), commit=True)
    found = catalogue.select(of_job(1), limit=10)
    assert [(record.attempt.task, record.number) for record in found] == [(1, 0), (1, 1), (2, 0), (3, 0)]
    rest = catalogue.select(of_job(1), after=position(found[1], only_job=True), limit=10)
    assert rest == found[2:]
    of_class = of_job(1, frame_class="ReadNoise")
    assert catalogue.select(of_class, limit=10) == []


# --- amendments


def test_validity_and_end_of_a_product_can_be_set_and_nothing_else(catalogue):
    made, other = a_product(Attempt(1, 1, 1)), a_product(Attempt(1, 2, 1))
    catalogue.stage(made)
    catalogue.stage(other)
    catalogue.publish(Attempt(1, 1, 1), commit=True)
    (stands,) = select(catalogue, frame_class="BiasFrame")
    said = {"is_valid": False, "timestamp_end": DATE_OBS + timedelta(hours=1)}
    asked = stands.evolve(frame=stands.frame.evolve(**said, chip="ccd57"), user="else")
    changed = catalogue.amend(asked)
    assert changed == stands.evolve(frame=stands.frame.evolve(**said))
    assert select(catalogue, frame_class="BiasFrame") == [changed]
    (untouched,) = catalogue.find(View("KIDS", 1), [other.frame.id])
    assert untouched.frame.is_valid


def test_a_product_that_has_gone_is_not_amended(catalogue):
    with pytest.raises(NotFound, match="has no product with identifier"):
        catalogue.amend(a_product())


# --- calibrations


def of_night(days, task, **changes):
    """A bias of another night, valid for 3.5 nights around it."""
    time = DATE_OBS + timedelta(days=days)
    window = {"timestamp_start": time - timedelta(days=3.5), "timestamp_end": time + timedelta(days=3.5)}
    return a_product(Attempt(1, task, 1), night=NIGHT + timedelta(days=days), date_obs=time, **window | changes)


def test_calibrations_are_those_that_may_serve_and_the_nearest_others(catalogue):
    days = [-20, -12, -11, -10, -9, -8, -3, 0, 3, 8, 9, 10, 11, 12, 20]
    for task, day in enumerate(days):
        catalogue.stage(of_night(day, task))
    asked = (View("KIDS", 1), "BiasFrame", a_raw().frame)
    found = [catalogue.calibrations(*asked, nearest=nearest) for nearest in (False, True)]
    assert NEAREST == 5
    assert [sorted((record.frame.night - NIGHT).days for record in records) for records in found] == [
        [-3, 0, 3],
        [-12, -11, -10, -9, -8, 8, 9, 10, 11, 12],
    ]


def test_calibrations_are_of_the_frames_own_chip_and_of_what_one_may_see(catalogue):
    catalogue.stage(of_night(0, 1, chip="ccd51"))
    catalogue.stage(of_night(0, 2, frame_class="ReadNoise"))
    catalogue.stage(of_night(0, 3, instrument="OMEGACAM"))
    catalogue.stage(of_night(0, 4))
    catalogue.publish(Attempt(1, 4, 1), commit=True)
    catalogue.stage(of_night(0, 5))
    frame = a_raw().frame
    assert [record.attempt.task for record in catalogue.calibrations(KIDS, "BiasFrame", frame)] == [4]
    assert [record.attempt.task for record in catalogue.calibrations(View("KIDS", 1), "BiasFrame", frame)] == [4, 5]
    assert catalogue.calibrations(View("VST", 1), "BiasFrame", frame) == []


def test_a_bootstrap_calibration_serves_every_night(catalogue):
    record = of_night(
        -4000, 1, timestamp_start=DATE_OBS - timedelta(days=9000), timestamp_end=NOW + timedelta(days=9000)
    )
    catalogue.stage(record)
    assert len(catalogue.calibrations(View("KIDS", 1), "BiasFrame", a_raw().frame)) == 1


def test_a_calibration_of_a_longer_window_serves_far_and_near_nights_once(catalogue):
    longer = {"timestamp_start": DATE_OBS - timedelta(days=90), "timestamp_end": DATE_OBS + timedelta(days=90)}
    for task, day in enumerate((-60, -5, 60)):
        catalogue.stage(of_night(day, task, **longer))
    found = catalogue.calibrations(View("KIDS", 1), "BiasFrame", a_raw().frame)
    assert [(record.frame.night - NIGHT).days for record in found] == [-60, -5, 60]
