"""Frames that are seldom used are packed away, and come back to the byte for whoever asks."""

import asyncio
import hashlib
import io
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from astropy.io import fits

from dpu.errors import BadOption, InternalError, NotAllowed, NothingSelected
from dpu_api.v1 import archive_pb2 as pb
from dpud.archive.main import built
from dpud.hosting.server import listening
from dpud.hosting.settings import BadSetting
from fakes_archive import FIRST, settings_at, write_quiet
from fakes_archive_desk import Desk, a_desk, product_of, refusal
from fakes_hosting import place

OF_WFI = pb.SeldomUsed(instrument="WFI")
TOMORROW = str(datetime.now(tz=UTC).date() + timedelta(days=2))


@pytest.fixture
async def desk(tmp_path):
    async with a_desk(tmp_path / "state") as opened:
        yield opened


@pytest.fixture
async def frames(desk, tmp_path):
    """Give the two frames of an exposure that is worth packing."""
    return list((await desk.ingest(write_quiet(tmp_path / "r.fits"))).frames)


def an_image(number=0):
    image = np.random.default_rng(number).normal(1.0, 0.01, (200, 100)).astype("float32")
    file = io.BytesIO()
    fits.PrimaryHDU(image).writeto(file)
    return file.getvalue()


async def frozen(desk, which=OF_WFI, *, trial=False, caller="olga's", project="KIDS"):
    stub = await desk.stub(caller, project)
    return [answer.file async for answer in stub.FreezeFrames(pb.FreezeFramesRequest(which=which, trial=trial))]


async def thawed(desk, which=OF_WFI, *, trial=False):
    stub = await desk.stub("olga's")
    return [answer.file async for answer in stub.ThawFrames(pb.ThawFramesRequest(which=which, trial=trial))]


async def fetched(desk, frame, *, in_place=False, **fields):
    stub = await desk.stub("worker's")
    request = pb.FetchFrameRequest(id=frame.id, in_place=in_place, **fields)
    answers = [answer async for answer in stub.FetchFrame(request)]
    return answers[0].frame, b"".join(answer.chunk for answer in answers[1:])


async def status(desk, caller="anna's"):
    return await (await desk.stub(caller)).GetTiers(pb.GetTiersRequest())


def held(state):
    """Give the names of what lies in each tier."""
    return {
        tier: {file.name for file in (state / folder).glob("??/??/*")}
        for tier, folder in (("warm", "files"), ("cold", "cold"))
    }


def of(frames):
    return {frame.digest for frame in frames}


async def test_what_is_frozen_takes_less_room_and_comes_back_to_the_byte_when_it_is_asked_for(desk, frames, tmp_path):
    files = await frozen(desk)
    assert {file.file_name for file in files} == names(frames)
    assert not any(file.reason for file in files)
    assert all(0 < file.stored < file.size for file in files)
    assert held(tmp_path / "state") == {"warm": set(), "cold": of(frames)}
    one, other = frames
    _, brought = await fetched(desk, one)
    assert hashlib.sha256(brought).hexdigest() == one.digest
    assert held(tmp_path / "state") == {"warm": {one.digest}, "cold": {other.digest}}


async def test_a_frozen_frame_has_no_path_until_it_is_read_in_place(desk, frames):
    assert all(frame.path for frame in await desk.select())
    await frozen(desk)
    assert not any(frame.path for frame in await desk.select())
    frame, chunks = await fetched(desk, frames[0], in_place=True)
    assert chunks == b""
    with open(frame.path, "rb") as file:  # noqa: ASYNC230, PTH123 (a small file)
        assert hashlib.file_digest(file, "sha256").hexdigest() == frame.digest


async def test_many_who_ask_at_once_thaw_it_once(desk, frames, tmp_path):
    await frozen(desk)
    found = await asyncio.gather(*(fetched(desk, frames[0]) for _ in range(8)))
    assert {hashlib.sha256(chunks).hexdigest() for _, chunks in found} == {frames[0].digest}
    assert held(tmp_path / "state") == {"warm": {frames[0].digest}, "cold": {frames[1].digest}}


async def test_header_and_picture_of_a_frozen_frame_are_shown(desk, frames):
    await frozen(desk)
    stub = await desk.stub("anna's")
    assert "INSTRUME" in str(await stub.ReadHeader(pb.ReadHeaderRequest(id=frames[0].id)))
    assert (await stub.DrawFrame(pb.DrawFrameRequest(id=frames[1].id))).png


async def test_what_is_being_read_stays(desk, frames, tmp_path):
    await fetched(desk, frames[0])
    stays, goes = sorted(await frozen(desk), key=lambda file: not file.reason)
    assert (stays.file_name, stays.reason) == (frames[0].file_name, "it is being read")
    assert (goes.file_name, goes.reason) == (frames[1].file_name, "")
    assert held(tmp_path / "state") == {"warm": {frames[0].digest}, "cold": {frames[1].digest}}


async def test_a_product_of_floats_and_values_alone(desk, tmp_path):
    image = an_image()
    for number, record in enumerate([product_of(image), product_of(b"no FITS" * 1000)]):
        await desk.stage(record, number, image if number == 0 else b"no FITS" * 1000)
    await desk.publish(FIRST)
    goes, stays = sorted(await frozen(desk, pb.SeldomUsed(frame_class="BiasFrame")), key=lambda file: file.reason)
    assert 0 < goes.stored < goes.size == len(image)
    assert stays.reason == "is no FITS file"
    assert len(held(tmp_path / "state")["cold"]) == 1


async def test_what_a_job_has_only_staged_is_not_frozen(desk):
    image = an_image()
    await desk.stage(product_of(image), content=image)
    assert isinstance(await refusal(frozen(desk)), NothingSelected)


async def test_a_frozen_product_is_deleted_whole(desk, tmp_path):
    image = an_image()
    staged = await desk.stage(product_of(image).evolve(user="anna"), content=image)
    await desk.publish(FIRST)
    await frozen(desk)
    assert held(tmp_path / "state")["cold"] == {staged.digest}
    await (await desk.stub("anna's")).DeleteProduct(pb.DeleteProductRequest(id=staged.id))
    assert held(tmp_path / "state") == {"warm": set(), "cold": set()}


async def test_the_same_exposure_again_is_there_already(desk, frames, tmp_path):
    await frozen(desk)
    again = await desk.ingest(write_quiet(tmp_path / "again.fits"))
    assert again.already
    assert [frame.id for frame in again.frames] == [frame.id for frame in frames]
    for frame in frames:
        assert len((await fetched(desk, frame))[1]) == frame.size


async def test_a_trial_moves_nothing(desk, frames, tmp_path):
    files = await frozen(desk, trial=True)
    assert sorted((file.size, file.stored) for file in files) == sorted((frame.size, 0) for frame in frames)
    assert held(tmp_path / "state") == {"warm": of(frames), "cold": set()}


async def test_an_operator_thaws_what_is_going_to_be_read(desk, frames, tmp_path):
    await frozen(desk)
    assert len(await thawed(desk, trial=True)) == 2
    assert held(tmp_path / "state")["cold"] == of(frames)
    assert not any(file.reason for file in await thawed(desk))
    assert held(tmp_path / "state") == {"warm": of(frames), "cold": set()}
    assert isinstance(await refusal(thawed(desk)), NothingSelected)


async def test_the_status_tells_how_much_lies_in_each_tier(desk, frames):
    size = sum(frame.size for frame in frames)
    assert await status(desk) == pb.GetTiersResponse(
        warm=pb.Tier(frames=2, files=2, size=size, stored=size), cold=pb.Tier()
    )
    stored = sum(file.stored for file in await frozen(desk))
    assert await status(desk) == pb.GetTiersResponse(
        warm=pb.Tier(), cold=pb.Tier(frames=2, files=2, size=size, stored=stored)
    )


async def test_a_damaged_cold_file_is_named_and_gives_no_frame(desk, frames, tmp_path):
    await frozen(desk)
    name = frames[0].digest
    cold = tmp_path / "state/cold" / name[:2] / name[2:4] / name
    damaged = bytearray(cold.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    cold.chmod(0o644)
    cold.write_bytes(damaged)
    error = await refusal(fetched(desk, frames[0]))
    assert isinstance(error, InternalError)
    assert name in error.message
    assert held(tmp_path / "state") == {"warm": set(), "cold": of(frames)}
    told = {file.file_name: file.reason for file in await thawed(desk)}
    assert name in told[frames[0].file_name]
    assert told[frames[1].file_name] == ""


SENSELESS = (
    (pb.SeldomUsed(), BadOption, "say which frames: by --class"),
    (pb.SeldomUsed(before_night="last year"), BadOption, "before_night='last year' is no date"),
    (pb.SeldomUsed(unused_since="2026-02-30"), BadOption, "unused_since='2026-02-30' is no date"),
    (pb.SeldomUsed(frame_class="RawBais"), NothingSelected, "project 'KIDS' has no RawBais"),
    (pb.SeldomUsed(frame_class="RawBiasFrame", before_night="1999-01-01"), NothingSelected, "nothing to be frozen"),
    (pb.SeldomUsed(instrument="DECAM"), NothingSelected, "nothing to be frozen"),
)


async def test_what_makes_no_sense_is_refused(desk, frames):
    assert frames
    for which, kind, said in SENSELESS:
        error = await refusal(frozen(desk, which))
        assert isinstance(error, kind), which
        assert error.message.startswith(said)


async def test_only_operators_move_frames_and_only_those_of_their_project(desk, frames, tmp_path):
    assert isinstance(await refusal(frozen(desk, caller="anna's")), NotAllowed)
    assert isinstance(await refusal(frozen(desk, project="VST")), NothingSelected)
    assert held(tmp_path / "state")["warm"] == of(frames)


MEANT = (
    (pb.SeldomUsed(before_night="2000-04-29"), True),
    (pb.SeldomUsed(before_night="2000-04-28"), False),
    (pb.SeldomUsed(came_before=TOMORROW), True),
    (pb.SeldomUsed(came_before="2001-01-01"), False),
    (pb.SeldomUsed(unused_since=TOMORROW), True),
    (pb.SeldomUsed(unused_since="2001-01-01"), False),
    (pb.SeldomUsed(frame_class="RawBiasFrame", instrument="WFI", before_night="2001-01-01"), True),
)


async def test_frames_are_meant_of_which_all_holds(desk, frames):
    for which, found in MEANT:
        if found:
            assert {file.file_name for file in await frozen(desk, which, trial=True)} == names(frames), which
        else:
            assert isinstance(await refusal(frozen(desk, which, trial=True)), NothingSelected), which


def names(frames):
    return {frame.file_name for frame in frames}


async def test_whoever_goes_away_ends_it_behind_a_whole_file(desk, frames, tmp_path):
    stub = await desk.stub("olga's")
    call = stub.FreezeFrames(pb.FreezeFramesRequest(which=OF_WFI))
    await call.read()
    call.cancel()
    left = held(tmp_path / "state")
    assert left["warm"] | left["cold"] == of(frames)
    assert {file.file_name for file in await frozen(desk, trial=True)} <= names(frames)


async def test_frozen_frames_are_there_when_the_archive_starts_again(tmp_path):
    async with a_desk(tmp_path / "state") as desk:
        frames = list((await desk.ingest(write_quiet(tmp_path / "r.fits"))).frames)
        await frozen(desk)
    async with a_desk(tmp_path / "state") as desk:
        for frame in frames:
            assert hashlib.sha256((await fetched(desk, frame))[1]).hexdigest() == frame.digest


# --- a cold tier elsewhere


@asynccontextmanager
async def a_desk_with(state, cold):
    async with AsyncExitStack() as stack:
        where = stack.enter_context(place())
        settings = replace(settings_at(where, state), cold=str(cold))
        services = await stack.enter_async_context(built(settings))
        await stack.enter_async_context(listening(settings.listening, services))
        yield Desk(where, stack)


async def test_the_cold_tier_may_be_another_folder(tmp_path):
    async with a_desk_with(tmp_path / "state", tmp_path / "slow") as desk:
        (*_, frame) = (await desk.ingest(write_quiet(tmp_path / "r.fits"))).frames
        await frozen(desk)
        assert {file.name for file in (tmp_path / "slow").glob("??/??/*")} >= {frame.digest}
    with pytest.raises(BadSetting, match=r"DPU_COLD_FILES='.*/empty': that is not the cold tier of this catalogue"):
        async with a_desk_with(tmp_path / "state", tmp_path / "empty"):
            pass
    async with a_desk_with(tmp_path / "state", tmp_path / "slow") as desk:
        assert hashlib.sha256((await fetched(desk, frame))[1]).hexdigest() == frame.digest


async def test_the_cold_tier_of_another_catalogue_is_refused(tmp_path):
    async with a_desk_with(tmp_path / "one", tmp_path / "slow"):
        pass
    with pytest.raises(BadSetting, match="that is not the cold tier of this catalogue"):
        async with a_desk_with(tmp_path / "two", tmp_path / "slow"):
            pass


@pytest.mark.parametrize("there", [False, True], ids=["a first start", "a later one"])
async def test_the_cold_tier_is_never_the_warm_one(tmp_path, there):
    # A frame that is taken from one tier would be gone from both.
    state, other = tmp_path / "state", tmp_path / "other"
    other.symlink_to(state / "files")
    if there:
        async with a_desk(state):
            pass
    for cold in (state / "files", other):
        with pytest.raises(BadSetting, match=rf"DPU_COLD_FILES='{cold}': the frames themselves are there"):
            async with a_desk_with(state, cold):
                pass
