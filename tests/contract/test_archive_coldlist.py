"""One suite for what is noted of the tiers: in memory, SQLite and PostgreSQL."""

from datetime import date

import pytest

from dpud.archive.catalogue import MemoryCatalogue
from dpud.archive.coldlist import MemoryColdList, Total, Totals
from dpud.archive.coldlist_sql import SqlColdList
from fakes_archive import FIRST, a_product, a_raw, digest

DAY = date(2026, 1, 2)


@pytest.fixture
def cold_list(catalogue):
    if isinstance(catalogue, MemoryCatalogue):
        return MemoryColdList(catalogue)
    return SqlColdList(catalogue.database)


def test_a_file_is_frozen_until_it_is_thawed(catalogue, cold_list):
    one, other = a_raw(0), a_raw(1)
    catalogue.add([one, other])
    assert cold_list.freeze(one.frame.digest, 100)
    assert cold_list.freeze(one.frame.digest, 90)
    assert cold_list.frozen([one.frame.digest, other.frame.digest, "unknown"]) == {one.frame.digest}
    cold_list.thaw(one.frame.digest)
    cold_list.thaw(one.frame.digest)
    assert cold_list.frozen([one.frame.digest]) == set()


def test_a_file_that_no_record_names_is_not_frozen(cold_list):
    assert not cold_list.freeze(digest("nobody's"), 100)
    assert cold_list.frozen([digest("nobody's")]) == set()


def test_thousands_are_asked_about_at_once(catalogue, cold_list):
    records = [a_raw(number) for number in range(3)]
    catalogue.add(records)
    for record in records:
        cold_list.freeze(record.frame.digest, 1)
    names = {record.frame.digest for record in records}
    assert cold_list.frozen([*names, *(digest(str(number)) for number in range(2000))]) == names


def test_totals_count_a_file_of_two_projects_once(catalogue, cold_list):
    shared = a_raw(0)
    catalogue.add([shared, a_raw(1)])
    catalogue.add([shared.evolve(project="VST")])
    catalogue.stage(a_product(digest="", size=0))
    cold_list.freeze(shared.frame.digest, 4000)
    assert cold_list.totals() == Totals(Total(1, 1, 11520, 11520), Total(2, 1, 11520, 4000))
    assert cold_list.totals("KIDS") == Totals(Total(1, 1, 11520, 11520), Total(1, 1, 11520, 4000))
    assert cold_list.totals("VST") == Totals(Total(), Total(1, 1, 11520, 4000))


def test_an_empty_archive_has_nothing_in_either_tier(cold_list):
    assert cold_list.totals() == Totals()


def test_what_is_gone_is_forgotten(catalogue, cold_list):
    catalogue.stage(a_product(FIRST))
    (name,) = {record.frame.digest for record in catalogue.publish(FIRST, commit=True).records}
    cold_list.freeze(name, 1)
    cold_list.note([name, "other"], DAY)
    assert cold_list.forget([name, "other", "unknown"]) == {name}
    assert cold_list.frozen([name]) == set()
    assert cold_list.last([name, "other"]) == {}


def test_the_last_day_of_use_is_the_latest_that_was_noted(cold_list):
    cold_list.note(["a", "b"], DAY)
    cold_list.note(["b"], date(2026, 1, 5))
    cold_list.note(["a", "b"], date(2025, 12, 31))
    assert cold_list.last(["a", "b", "c"]) == {"a": DAY, "b": date(2026, 1, 5)}
