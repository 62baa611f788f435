"""What was made from what, in every catalogue; and that nothing goes that something was made from."""

import json

import pytest

from dpu.errors import Conflict
from dpud.archive.records import Attempt, Level, Link, View
from fakes_archive import a_product, a_raw, digest

KIDS = View("KIDS")


def ids(family):
    return {record.frame.id for record in family.records}


def made(catalogue, name, *inputs, task, consulted=(), project="KIDS"):
    """Publish a product, and return it."""
    asked = [["ReadNoise", "a", None, answer] for answer in consulted]
    attempt = Attempt(1, task, 1)
    catalogue.stage(
        a_product(
            attempt,
            project=project,
            id=name,
            file_name=f"{name}.fits",
            digest=digest(name),
            inputs=inputs,
            consulted=json.dumps(asked) if asked else "",
        )
    )
    (record,) = catalogue.publish(attempt, commit=True).records
    return record


@pytest.fixture
def night(catalogue):
    """Two raw frames, the noise of both, a bias from them and the noise, a map from the bias."""
    raws = [a_raw(number) for number in range(2)]
    catalogue.add(raws)
    first, second = (raw.frame.id for raw in raws)
    made(catalogue, "noise", first, second, task=1)
    made(catalogue, "bias", first, second, task=2, consulted=["noise", ""])
    made(catalogue, "map", "bias", task=3)
    return first, second


def test_a_product_leads_back_to_raw_frames(catalogue, night):
    family = catalogue.ancestry(KIDS, "map")
    assert ids(family) == {"map", "bias", "noise", *night}
    assert Link("map", "bias", digest("bias")) in family.links
    assert Link("bias", "noise", digest("noise")) in family.links
    assert len(family.links) == 1 + 3 + 2
    assert catalogue.ancestry(KIDS, night[0]).links == []


def test_a_raw_frame_leads_on_to_all_that_came_of_it(catalogue, night):
    family = catalogue.progeny(KIDS, night[0])
    assert ids(family) == {night[0], "noise", "bias", "map"}
    assert {(link.input, link.product) for link in family.links} == {
        *((night[0], "noise"), (night[0], "bias")),
        *(("noise", "bias"), ("bias", "map")),
    }
    assert ids(catalogue.progeny(KIDS, "map")) == {"map"}


@pytest.mark.usefixtures("night")
def test_lineage_ends_where_one_sees_nothing(catalogue):
    assert ids(catalogue.ancestry(View("VST"), "map")) == set()
    for name in ("map", "noise"):
        (record,) = catalogue.find(KIDS, [name])
        catalogue.amend(record.evolve(privileges=Level.EVERYBODY))
    seen = catalogue.ancestry(View("VST"), "map")
    assert ids(seen) == {"map"}
    # What it was made from is named, as the product itself names it, and no more is told.
    assert seen.links == [Link("map", "bias", digest("bias"))]
    assert catalogue.progeny(View("VST"), "noise").links == []


@pytest.mark.usefixtures("night")
def test_what_was_discarded_was_made_from_nothing(catalogue):
    attempt = Attempt(1, 9, 1)
    catalogue.stage(a_product(attempt, id="staged", inputs=("noise",)))
    assert "staged" in ids(catalogue.progeny(View("KIDS", 1), "noise"))
    assert "staged" not in ids(catalogue.progeny(KIDS, "noise"))
    catalogue.discard(attempt)
    assert catalogue.ancestry(View("KIDS", 1), "staged").links == []
    assert "staged" not in ids(catalogue.progeny(View("KIDS", 1), "noise"))


def test_what_something_was_made_from_stays(catalogue, night):
    for name, users in (("noise", "BiasFrame bias.fits"), ("bias", "BiasFrame map.fits")):
        (record,) = catalogue.find(KIDS, [name])
        with pytest.raises(Conflict, match=rf"^{name}\.fits stays: {users} was made from it; delete"):
            catalogue.withdraw(record)
    assert ids(catalogue.ancestry(KIDS, "map")) == {"map", "bias", "noise", *night}


def test_products_go_from_the_last_to_the_first(catalogue, night):
    for name in ("map", "bias", "noise"):
        (record,) = catalogue.find(KIDS, [name])
        change = catalogue.withdraw(record)
        assert (change.records, change.freed) == ([record], {digest(name)})
        assert catalogue.find(KIDS, [name]) == []
        assert catalogue.withdraw(record).records == []
    assert catalogue.progeny(KIDS, night[0]).links == []


@pytest.mark.usefixtures("night")
def test_what_another_project_has_made_of_a_product_holds_it_unnamed(catalogue):
    made(catalogue, "theirs", "map", task=7, project="VST")
    (record,) = catalogue.find(KIDS, ["map"])
    with pytest.raises(Conflict, match=r"^map\.fits stays: 1 product of another project was made from it; ") as said:
        catalogue.withdraw(record)
    assert "theirs" not in str(said.value)
