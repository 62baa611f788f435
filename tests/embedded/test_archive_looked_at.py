"""What a page shows of a frame: picture, header, limits, trends, and where a chip is."""

from datetime import date, timedelta
from io import BytesIO

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from dpu import errors
from dpu.values import from_map
from dpu_api.v1 import archive_pb2 as pb
from dpud.archive.records import Attempt
from fakes_archive import DATE_OBS, NIGHT, write_bias
from fakes_archive_desk import a_desk, product_of, refusal, values_only


@pytest.fixture
async def desk(tmp_path):
    async with a_desk(tmp_path / "state") as opened:
        yield opened


async def an_image(desk, tmp_path, pixels, attempt=Attempt(1, 1, 1), **changes):  # noqa: B008 (a tuple)
    file = tmp_path / f"{attempt.task}.fits"
    fits.PrimaryHDU(pixels).writeto(file)
    content = file.read_bytes()
    return await desk.stage(product_of(content, attempt, **changes), content=content)


def decoded(answer):
    """The pixels (y, x) of a grey PNG, the first row at the top."""
    assert answer.png.startswith(b"\x89PNG\r\n\x1a\n")
    pixels = np.asarray(Image.open(BytesIO(answer.png)))
    assert pixels.shape == (answer.height, answer.width)
    return pixels


async def test_a_frame_is_drawn_small_with_its_first_row_at_the_bottom(desk, tmp_path):
    y, x = np.mgrid[0:3000, 0:100]
    frame = await an_image(desk, tmp_path, (1000 + y + 0 * x).astype(np.float32))
    stub = await desk.stub("anna's")
    answer = await stub.DrawFrame(pb.DrawFrameRequest(id=frame.id, job_id=1))
    assert (answer.width, answer.height, answer.binning) == (34, 1000, 3)
    assert answer.black < answer.white
    grey = decoded(answer)
    assert grey[0].min() > grey[500].min() > grey[-1].max()
    small = await stub.DrawFrame(pb.DrawFrameRequest(id=frame.id, job_id=1, size=60))
    assert (small.width, small.height, small.binning) == (2, 60, 50)
    assert await stub.DrawFrame(pb.DrawFrameRequest(id=frame.id, job_id=1)) == answer


async def test_a_raw_frame_a_mask_and_one_without_numbers_are_drawn(desk, tmp_path):
    raw = (await desk.ingest(write_bias(tmp_path / "r.fits"))).frames[0]
    mask = np.ones((20, 30), np.uint8)
    mask[3:5, 4:6] = 0
    masked = await an_image(desk, tmp_path, mask, Attempt(1, 2, 1))
    empty = await an_image(desk, tmp_path, np.full((20, 30), np.nan, np.float32), Attempt(1, 3, 1))
    stub = await desk.stub("anna's")
    drawn = {}
    for frame in (raw, masked, empty):
        drawn[frame.id] = await stub.DrawFrame(pb.DrawFrameRequest(id=frame.id, job_id=1))
    assert decoded(drawn[raw.id]).std() > 0
    assert sorted(set(decoded(drawn[masked.id]).flat)) == [0, 255]
    assert not decoded(drawn[empty.id]).any()


async def test_what_has_no_image_is_not_drawn(desk, tmp_path):
    noise = await desk.stage(values_only(Attempt(1, 1, 1)))
    stub = await desk.stub("anna's")
    refused = await refusal(stub.DrawFrame(pb.DrawFrameRequest(id=noise.id, job_id=1)))
    assert isinstance(refused, errors.NotFound)
    assert "has no file: it is only measured values" in refused.message
    junk = await desk.stage(product_of(b"no FITS", Attempt(1, 2, 1)), content=b"no FITS")
    for call in (stub.DrawFrame(pb.DrawFrameRequest(id=junk.id, job_id=1)),):
        assert "cannot be read as FITS" in (await refusal(call)).message
    refused = await refusal(stub.ReadHeader(pb.ReadHeaderRequest(id=junk.id, job_id=1)))
    assert "has no FITS header that ends" in refused.message
    refused = await refusal(stub.DrawFrame(pb.DrawFrameRequest(id=junk.id, job_id=1, size=4096)))
    assert isinstance(refused, errors.BadOption)
    # The parser lives on.
    raw = (await desk.ingest(write_bias(tmp_path / "r.fits"))).frames[0]
    assert (await stub.DrawFrame(pb.DrawFrameRequest(id=raw.id))).png


async def test_others_neither_see_its_picture_nor_its_header(desk, tmp_path):
    raw = (await desk.ingest(write_bias(tmp_path / "r.fits"))).frames[0]
    stub = await desk.stub("bert's", project="VST")
    for call in (
        stub.DrawFrame(pb.DrawFrameRequest(id=raw.id)),
        stub.ReadHeader(pb.ReadHeaderRequest(id=raw.id)),
    ):
        assert isinstance(await refusal(call), errors.NotFound)


async def test_a_header_is_read_as_it_is_written(desk, tmp_path):
    raw = (await desk.ingest(write_bias(tmp_path / "r.fits"))).frames[0]
    stub = await desk.stub("anna's")
    cards = (await stub.ReadHeader(pb.ReadHeaderRequest(id=raw.id))).cards
    assert cards[0].startswith("SIMPLE  =                    T")
    assert "OBJECT  = 'BIAS    '" in cards
    assert not any(card.startswith("END") for card in cards)


async def test_a_product_says_what_its_quality_was_held_to(desk):
    made = values_only(limits={"MAXIMUM_READNOISE": {"measured": 2.5, "limit": 2.0, "flag": 1}}, quality_flags=1)
    await desk.stage(made)
    (frame,) = await desk.select("ReadNoise", job_id=made.attempt.job)
    assert from_map(frame.limits) == {"MAXIMUM_READNOISE": {"measured": 2.5, "limit": 2.0, "flag": 1}}


async def test_a_trend_is_told_in_order_of_time_and_chip(desk):
    for number in range(6):
        night, chip = NIGHT + timedelta(days=number // 2), f"ccd5{1 - number % 2}"
        values = {"READNOISE": 2.0 + number} if number != 3 else {"READNOISE": float("nan")}
        time = DATE_OBS + timedelta(days=number // 2)
        await desk.stage(values_only(Attempt(number + 1, 1, 1), values=values, chip=chip, night=night, date_obs=time))
        await desk.publish(Attempt(number + 1, 1, 1))
    stub = await desk.stub("anna's")

    async def trend(**asked):
        request = pb.ListTrendRequest(**{"instrument": "WFI", "frame_class": "ReadNoise", "value": "READNOISE"} | asked)
        points = [point async for answer in stub.ListTrend(request) for point in answer.points]
        return [((date.fromisoformat(point.night) - NIGHT).days, point.chip, point.value) for point in points]

    assert await trend() == [
        (0, "ccd50", 3.0),
        (0, "ccd51", 2.0),
        (1, "ccd51", 4.0),
        (2, "ccd50", 7.0),
        (2, "ccd51", 6.0),
    ]
    assert await trend(chips=["ccd50"]) == [(0, "ccd50", 3.0), (2, "ccd50", 7.0)]
    assert await trend(first_night="2000-04-29", last_night="2000-04-29") == [(1, "ccd51", 4.0)]
    assert await trend(value="GAIN") == []
    with pytest.raises(Exception, match="name all three"):
        await trend(value="")


async def test_every_chip_has_its_place_in_the_focal_plane(desk):
    stub = await desk.stub("anna's")
    instruments = {item.name: item for item in (await stub.ListInstruments(pb.ListInstrumentsRequest())).instruments}
    wfi = instruments["WFI"]
    places = {place.chip: (place.x, place.y, place.width, place.height) for place in wfi.places}
    assert list(places) == list(wfi.chips)
    assert places["ccd50"] == (0, 4096, 2048, 4096)
    assert places["ccd54"] == (3 * 2048, 0, 2048, 4096)
    assert wfi.pixel_arcsec == 0.238
    for instrument in instruments.values():
        corners = {(place.x, place.y) for place in instrument.places}
        assert len(corners) == len(instrument.chips), f"chips of {instrument.name} lie on each other"
