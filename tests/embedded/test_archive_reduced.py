"""Frames reduced elsewhere, as they come into an archive with what belongs to them."""

import pytest

from dpu import errors
from dpu.ingest import COMPANIONS, companions, requests, without_companions
from dpu.values import from_map
from dpu_api.v1 import archive_pb2 as pb
from fakes_archive import files_of, write_bias
from fakes_archive_desk import a_desk, refusal
from fakes_reduced import write_plane, write_psf, write_reduced

SAYS = pb.IngestFile(frame_class="ReducedScienceFrame")


@pytest.fixture
async def desk(tmp_path):
    async with a_desk(tmp_path / "state") as opened:
        yield opened


@pytest.fixture
def sky(tmp_path):
    """An image with a weight, a mask and a model beside it."""
    write_plane(tmp_path / "sky.weight.fits")
    write_plane(tmp_path / "sky.mask.fits")
    write_psf(tmp_path / "sky.psf")
    return write_reduced(tmp_path / "sky.fits")


async def adopt(desk, path, *, in_place=True):
    stub = await desk.stub("anna's")
    return await stub.Ingest(_given(list(requests(path, SAYS, in_place=in_place))))


async def _given(messages):
    for message in messages:
        yield message


def test_what_belongs_to_an_image_is_found_beside_it(sky, tmp_path):
    assert companions(sky) == {
        "WeightFrame": tmp_path / "sky.weight.fits",
        "MaskFrame": tmp_path / "sky.mask.fits",
        "PsfModel": tmp_path / "sky.psf",
    }
    alone = write_reduced(tmp_path / "alone.fits")
    assert companions(alone) == {}
    assert without_companions([alone, sky, *companions(sky).values()]) == [alone, sky]


@pytest.mark.parametrize("in_place", [True, False])
async def test_an_image_comes_in_with_what_belongs_to_it(desk, sky, in_place):
    answer = await adopt(desk, sky, in_place=in_place)
    science, *others = answer.frames
    assert (science.frame_class, [frame.frame_class for frame in others]) == ("ReducedScienceFrame", list(COMPANIONS))
    assert {from_map(frame.values)["OF"] for frame in others} == {science.id}
    assert [frame.id for frame in await desk.select("WeightFrame")] == [others[0].id]
    assert [frame.id for frame in await desk.select("ReducedScienceFrame", selection=pb.Selection(object="CDF*"))] == [
        science.id
    ]
    again = await adopt(desk, sky)
    assert again.already
    assert list(again.frames) == list(answer.frames)


async def test_it_may_lie_beside_its_raw_frame(desk, sky, tmp_path):
    await desk.ingest(write_bias(tmp_path / "r.fits"))
    await adopt(desk, sky)
    assert len(await desk.select("ReducedScienceFrame")) == 1


async def test_all_come_in_or_none(desk, sky, tmp_path):
    (tmp_path / "sky.mask.fits").write_bytes(b"no FITS")
    refused = await refusal(adopt(desk, sky))
    assert isinstance(refused, errors.BadFrame)
    assert "sky.mask.fits: is no FITS file" in refused.message
    assert await desk.select("ReducedScienceFrame") == []
    assert files_of(tmp_path / "state") == set()


async def test_files_are_taken_in_as_what_can_be_reduced_elsewhere_only(desk, sky):
    stub = await desk.stub("anna's")
    says = pb.IngestFile(frame_class="BiasFrame")
    refused = await refusal(stub.Ingest(_given(list(requests(sky, says, in_place=True)))))
    assert "are taken in as ReducedScienceFrame or as raw exposures, not as 'BiasFrame'" in refused.message


async def test_some_in_place_and_some_sent_is_refused(desk, sky, tmp_path):
    stub = await desk.stub("anna's")
    messages = [*requests(sky, SAYS, in_place=True)][:1]
    messages.append(pb.IngestRequest(file=pb.IngestFile(name="w", frame_class="WeightFrame")))
    assert "all are read in place or none" in (await refusal(stub.Ingest(_given(messages)))).message
    messages[1:] = [pb.IngestRequest(chunk=b"more")]
    assert "of a file that is to be read in place" in (await refusal(stub.Ingest(_given(messages)))).message
    assert files_of(tmp_path / "state") == set()
