"""The archive as its callers meet it: over a socket, with tokens."""

import asyncio
import os
import sys
from contextlib import AsyncExitStack

import psutil
import pytest

from dpu import errors
from dpu.channel import CHUNK
from dpu_api.v1 import archive_pb2 as pb
from dpud.archive.records import Attempt
from dpud.archive.splitter import Offered, Splitter
from dpud.hosting.settings import BadSetting
from fakes_archive import an_archive, files_of, write_bias
from fakes_archive_desk import Desk, a_desk, ingesting, product_of, refusal, staging, values_only
from fakes_hosting import eventually
from fakes_instruments import real_data


@pytest.fixture
async def desk(tmp_path):
    async with a_desk(tmp_path / "state") as opened:
        yield opened


# --- ingest


async def test_an_exposure_read_in_place_becomes_a_frame_a_chip(desk, tmp_path):
    answer = await desk.ingest(write_bias(tmp_path / "r001.fits", chips=3))
    assert not answer.already
    assert [frame.chip for frame in answer.frames] == ["ccd50", "ccd51", "ccd52"]
    listed = await desk.select()
    assert listed == list(answer.frames)
    assert {(frame.user, frame.project, frame.published) for frame in listed} == {("anna", "KIDS", True)}
    assert files_of(tmp_path / "state") == {frame.digest for frame in listed}


async def test_an_exposure_that_is_streamed_becomes_the_same_frames(desk, tmp_path):
    path = write_bias(tmp_path / "r001.fits")
    content = path.read_bytes()
    chunks = [content[start : start + 1000] for start in range(0, len(content), 1000)]
    streamed = await desk.ingest(path, chunks=chunks)
    in_place = await desk.ingest(path, caller="bert's", project="VST")
    assert [frame.id for frame in streamed.frames] == [frame.id for frame in in_place.frames]
    assert not in_place.already


async def test_ingesting_twice_adds_nothing(desk, tmp_path):
    path = write_bias(tmp_path / "r001.fits")
    first = await desk.ingest(path)
    again = await desk.ingest(path, name="under another name.fits")
    assert again.already
    assert list(again.frames) == list(first.frames)
    assert await desk.select() == list(first.frames)


async def test_many_exposures_at_once_all_come_in(desk, tmp_path):
    paths = [write_bias(tmp_path / f"r{second:03d}.fits", second) for second in range(6)]
    answers = await asyncio.gather(*(desk.ingest(path) for path in [*paths, *paths]))
    assert len(await desk.select()) == 12
    assert sum(not answer.already for answer in answers) == 6


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "bad.fits: is empty"),
        (b"no FITS at all", "bad.fits: is no FITS file"),
        (b"SIMPLE  =                    T", "bad.fits: is truncated"),
    ],
)
async def test_a_bad_file_is_named_with_the_reason_and_leaves_nothing(desk, tmp_path, content, reason):
    path = tmp_path / "bad.fits"
    path.write_bytes(content)
    for chunks in (None, [content]):
        error = await refusal(desk.ingest(path, chunks=chunks))
        assert isinstance(error, errors.BadFrame)
        assert error.message.startswith(reason)
        assert "\n" not in error.message
    assert files_of(tmp_path / "state") == set()


async def test_a_truncated_exposure_leaves_nothing(desk, tmp_path):
    path = write_bias(tmp_path / "r001.fits", chips=2)
    error = await refusal(desk.ingest(path, chunks=[path.read_bytes()[:-4000]]))
    assert isinstance(error, errors.BadFrame)
    assert files_of(tmp_path / "state") == set()
    assert await desk.select() == []


async def test_a_path_that_is_no_file_is_named(desk, tmp_path):
    missing = await refusal(desk.ingest(tmp_path / "nowhere.fits"))
    assert missing.message == f"'{tmp_path}/nowhere.fits' cannot be read: No such file or directory"
    assert (await refusal(desk.ingest(tmp_path))).message == f"'{tmp_path}' is no file"
    stub = await desk.stub("anna's")
    relative = await refusal(stub.Ingest(ingesting("r.fits", "r.fits", ())))
    assert relative.message == "'r.fits': name the file by its absolute path"


async def test_a_parser_that_is_killed_costs_nothing(desk, tmp_path):
    await desk.ingest(write_bias(tmp_path / "r001.fits", 1))
    # Not all children: a database that other tests share is one too.
    parsers = [child for child in psutil.Process().children() if "dpud.archive.parser" in child.cmdline()]
    assert parsers
    for parser in parsers:
        parser.suspend()
    waiting = asyncio.ensure_future(desk.ingest(write_bias(tmp_path / "r002.fits", 2)))
    await eventually(lambda: any((tmp_path / "state" / "incoming").iterdir()), lambda: "nothing came in")
    for parser in parsers:
        parser.kill()
    assert not (await waiting).already
    assert len(await desk.select()) == 4


async def test_the_real_frames_of_a_night_go_in(desk):
    files = sorted(real_data("nickel_20240513").glob("*.fits*"))
    answers = await asyncio.gather(*map(desk.ingest, files))
    assert [len(answer.frames) for answer in answers] == [1] * 19
    nickel = {"selection": pb.Selection(instrument="NICKEL", night="2024-05-12")}
    assert len(await desk.select(**nickel)) == 10
    assert len(await desk.select("", **nickel)) == 19
    assert await desk.select("", selection=pb.Selection(instrument="NICKEL", night="2024-05-13")) == []


async def test_a_caller_that_goes_away_leaves_nothing(desk, tmp_path):
    stub = await desk.stub("anna's")
    content = write_bias(tmp_path / "r001.fits").read_bytes()
    sent, never = asyncio.Event(), asyncio.Event()

    async def half():
        yield pb.IngestRequest(file=pb.IngestFile(name="r001.fits"))
        yield pb.IngestRequest(chunk=content[:5000])
        sent.set()
        await never.wait()

    call = asyncio.ensure_future(stub.Ingest(half()))
    incoming = tmp_path / "state" / "incoming"
    await sent.wait()
    await eventually(lambda: any(incoming.rglob("exposure")), lambda: "nothing came in")
    call.cancel()
    await eventually(lambda: not any(incoming.iterdir()), lambda: list(incoming.rglob("*")))
    assert files_of(tmp_path / "state") == set()
    assert await desk.select() == []


# --- the processes that take files apart


def scripted(code, **limits):
    return Splitter(
        [sys.executable, "-c", f"import sys, os, time\nsys.stdin.readline()\n{code}"], processes=1, **limits
    )


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("os._exit(3)", "r.fits: taking it apart ended the parser: exit code 3"),
        ("os.kill(os.getpid(), 11)", "r.fits: taking it apart ended the parser: SIGSEGV"),
        ("time.sleep(60)", "r.fits: taking it apart took longer than 1 s"),
        ("""print('{"bad": "r.fits: two\\\\nlines"}', flush=True)""", "r.fits: two lines"),
    ],
)
async def test_a_parser_that_fails_costs_its_own_file(tmp_path, code, reason):
    splitter = scripted(code, limit_s=1.0)
    try:
        for _ in range(2):
            with pytest.raises(errors.BadFrame) as caught:
                await splitter.split(tmp_path / "r.fits", Offered("r.fits"), tmp_path)
            assert caught.value.message == reason
    finally:
        await splitter.close()


async def test_a_parser_that_finds_the_disk_full_says_so(tmp_path):
    splitter = scripted("""print('{"errno": 28, "bad": "r.fits: No space left on device"}', flush=True)""")
    try:
        with pytest.raises(errors.StorageFull, match=f"{tmp_path.parent} takes nothing more: r.fits: No space left"):
            await splitter.split(tmp_path / "r.fits", Offered("r.fits"), tmp_path)
    finally:
        await splitter.close()


# --- questions


async def test_instruments_are_listed_with_their_chips(desk):
    stub = await desk.stub("anna's")
    listed = {item.name: item for item in (await stub.ListInstruments(pb.ListInstrumentsRequest())).instruments}
    assert {"WFI", "OMEGACAM", "NICKEL"} <= set(listed)
    assert list(listed["WFI"].chips) == [f"ccd5{number}" for number in range(8)]


async def test_another_project_sees_nothing(desk, tmp_path):
    (frame, *_) = (await desk.ingest(write_bias(tmp_path / "r001.fits"))).frames
    theirs = {"caller": "bert's", "project": "VST"}
    assert await desk.select(**theirs) == []
    stub = await desk.stub("bert's", "VST")
    listing = await refusal(stub.ListFrames(pb.ListFramesRequest(ids=[frame.id])))
    assert listing.message == f"project 'VST' has no frame with identifier '{frame.id}'"
    unknown = await refusal(stub.ListFrames(pb.ListFramesRequest(ids=["unknown"])))
    assert unknown.message == "project 'VST' has no frame with identifier 'unknown'"
    assert isinstance(await refusal(fetched(stub, frame.id)), errors.NotFound)
    asked = pb.FindCalibrationRequest(frame_class="BiasFrame", frame_id=frame.id)
    assert isinstance(await refusal(stub.FindCalibration(asked)), errors.NotFound)


async def test_pages_are_walked_by_token(desk, tmp_path):
    for second in range(3):
        await desk.ingest(write_bias(tmp_path / f"r{second}.fits", second, chips=3))
    stub = await desk.stub("anna's")
    seen, token = [], ""
    while True:
        request = pb.ListFramesRequest(frame_class="RawBiasFrame", page_size=4, page_token=token)
        answer = await stub.ListFrames(request)
        seen += [frame.id for frame in answer.frames]
        token = answer.next_page_token
        if not token:
            break
    assert seen == [frame.id for frame in await desk.select()]


@pytest.mark.parametrize("token", ["made up", "AAAA", "WyJ4IiwxLDIsM10=", "WyJ4IiwxLCIiLDNd"])
async def test_a_made_up_page_token_is_refused(desk, token):
    stub = await desk.stub("anna's")
    error = await refusal(stub.ListFrames(pb.ListFramesRequest(page_token=token)))
    assert isinstance(error, errors.BadOption)
    assert f"page_token {token!r}" in error.message


async def test_frames_come_by_identifier_in_the_order_asked(desk, tmp_path):
    frames = (await desk.ingest(write_bias(tmp_path / "r001.fits", chips=3))).frames
    ids = [frame.id for frame in frames][::-1]
    assert [frame.id for frame in await desk.select(ids=ids)] == ids


async def preview(desk, makers="", frame_class="RawBiasFrame", **selection):
    stub = await desk.stub("anna's")
    chosen = pb.Selection(**{"instrument": "WFI"} | selection)
    request = pb.PreviewRequest(frame_class=frame_class, selection=chosen, makers=makers)
    return dict((await stub.Preview(request)).frames_by_chip)


async def test_a_preview_counts_by_chip(desk, tmp_path):
    for second in range(2):
        await desk.ingest(write_bias(tmp_path / f"r{second}.fits", second))
    assert await preview(desk, night="2000-04-28") == {"ccd50": 2, "ccd51": 2}
    assert await preview(desk, night="2000-04-28", chips=["ccd51"], filter="B", object="x") == {"ccd51": 2}
    assert await preview(desk, instrument="", file_names=["r1.fits"]) == {"ccd50": 1, "ccd51": 1}


THERE_ARE = "There are such frames with nights: 2000-04-28; filters: #842; chips: ccd50, ccd51; objects: BIAS"
REFUSED = (
    (
        {"instrument": "WFO"},
        errors.UnknownInstrument,
        "instrument 'WFO' is not one of DECAM, GENERIC, LCO, NICKEL, OMEGACAM, WFC, WFI",
    ),
    (
        {"instrument": ""},
        errors.UnknownInstrument,
        "instrument '' is not one of DECAM, GENERIC, LCO, NICKEL, OMEGACAM, WFC, WFI",
    ),
    (
        {"chips": ["ccd50", "ccd58"]},
        errors.UnknownChip,
        "chip 'ccd58' is not one of WFI's ccd50, ccd51, ccd52, ccd53, ccd54, ccd55, ccd56, ccd57",
    ),
    (
        {"night": "2000-02-30"},
        errors.BadOption,
        "'2000-02-30' is not a night: there is no such day in the calendar",
    ),
    (
        {"night": "2000-05-01"},
        errors.NothingSelected,
        f"no RawBiasFrame fits instrument 'WFI', date '2000-05-01'. {THERE_ARE}",
    ),
    (
        {"night": "2000-04-28", "chips": ["ccd57"]},
        errors.NothingSelected,
        f"no RawBiasFrame fits instrument 'WFI', date '2000-04-28', chip 'ccd57'. {THERE_ARE}",
    ),
    (
        {"file_names": ["r001.fits", "r999.fits"]},
        errors.NothingSelected,
        "no RawBiasFrame of project 'KIDS' has or comes from the file name 'r999.fits'",
    ),
    (
        {"instrument": "NICKEL"},
        errors.NothingSelected,
        (
            "no RawBiasFrame fits instrument 'NICKEL': project 'KIDS' has none of NICKEL at all; "
            "ingest some: awe ingest PATH..."
        ),
    ),
)


async def test_a_preview_that_finds_nothing_says_what_there_is(desk, tmp_path):
    await desk.ingest(write_bias(tmp_path / "r001.fits"))
    for selection, kind, message in REFUSED:
        error = await refusal(preview(desk, **selection))
        assert (type(error), error.message) == (kind, message)


async def test_a_preview_of_products_names_the_call_that_makes_them(desk):
    call = "dpu.run('Bias', i='WFI', d='2000-04-28', C=1)"
    error = await refusal(preview(desk, call, "BiasFrame", night="2000-04-28"))
    assert error.message == (
        "no BiasFrame fits instrument 'WFI', date '2000-04-28': project 'KIDS' has none of WFI at all; "
        f"make them: {call}"
    )


# --- calibrations


async def test_the_valid_calibration_is_found_and_explained(desk, tmp_path):
    (raw, _) = (await desk.ingest(write_bias(tmp_path / "r001.fits"))).frames
    for task in (1, 2):
        attempt = Attempt(1, task, 1)
        await desk.stage(product_of(b"bias %d" % task, attempt, readout=raw.readout), content=b"bias %d" % task)
        await desk.publish(attempt)
    stub = await desk.stub("anna's")
    asked = pb.FindCalibrationRequest(frame_class="BiasFrame", frame_id=raw.id, overscan=-1)
    answer = await stub.FindCalibration(asked)
    assert answer.why == "same night, newest of 2"
    assert answer.frame.ref.task == 2
    other = await refusal(
        stub.FindCalibration(pb.FindCalibrationRequest(frame_class="BiasFrame", frame_id=raw.id, overscan=0))
    )
    assert isinstance(other, errors.MissingCalibration)
    assert "overscan method 6 instead of 0" in other.message
    assert "dpu.run('Bias', i='WFI', d='2000-04-28', oc=0, C=1)" in other.message


async def test_a_job_finds_the_calibration_that_it_has_staged_itself(desk, tmp_path):
    (raw, _) = (await desk.ingest(write_bias(tmp_path / "r001.fits"))).frames
    await desk.stage(values_only(Attempt(9, 1, 1), readout=raw.readout, overscan=-1))
    worker = await desk.stub("worker's")
    asked = {"frame_class": "ReadNoise", "frame_id": raw.id, "overscan": -1}
    found = await worker.FindCalibration(pb.FindCalibrationRequest(**asked, job_id=9))
    assert found.frame.ref.job_id == 9
    error = await refusal(worker.FindCalibration(pb.FindCalibrationRequest(**asked, job_id=8)))
    assert isinstance(error, errors.MissingCalibration)


async def test_a_class_that_is_no_calibration_is_refused(desk, tmp_path):
    (raw, _) = (await desk.ingest(write_bias(tmp_path / "r001.fits"))).frames
    stub = await desk.stub("anna's")
    asked = pb.FindCalibrationRequest(frame_class="Bias", frame_id=raw.id)
    error = await refusal(stub.FindCalibration(asked))
    assert error.message.startswith("'Bias' is no class of calibrations: ReadNoise, BiasFrame")


# --- fetching


async def fetched(stub, identifier, **fields):
    answers = [answer async for answer in stub.FetchFrame(pb.FetchFrameRequest(id=identifier, **fields))]
    return answers[0].frame, b"".join(answer.chunk for answer in answers[1:]), len(answers) - 1


async def test_a_frame_is_fetched_in_chunks_or_in_place(desk):
    content = os.urandom(2 * CHUNK + 17)
    staged = await desk.stage(product_of(content), content=content)
    stub = await desk.stub("worker's")
    frame, found, chunks = await fetched(stub, staged.id, job_id=1)
    assert (frame, found, chunks) == (staged, content, 3)
    frame, found, chunks = await fetched(stub, staged.id, job_id=1, in_place=True)
    assert (found, chunks) == (b"", 0)
    with open(frame.path, "rb") as reading:  # noqa: PTH123, ASYNC230 (a small file of the test's own)
        assert reading.read() == content


async def test_a_product_of_values_has_no_bytes(desk):
    staged = await desk.stage(values_only())
    frame, found, chunks = await fetched(await desk.stub("worker's"), staged.id, job_id=1)
    assert (frame, found, chunks, frame.path) == (staged, b"", 0, "")


# --- products


async def test_a_staged_product_gets_name_identifier_and_date(desk):
    content = b"a bias"
    staged = await desk.stage(product_of(content), content=content)
    assert staged.file_name == f"Cal-JDOE-WFI-------#842-ccd50-Bias---Bia-51662.9173958-{staged.id}.fits"
    assert (staged.user, staged.project, staged.published) == ("jdoe", "KIDS", False)
    assert staged.creation_date.seconds > 0
    values = await desk.stage(values_only(), 1)
    assert values.file_name == f"Cal-JDOE-WFI-------#842-ccd50-Read---Bia-51662.9173958-{values.id}"


async def test_a_product_can_be_read_in_place(desk, tmp_path):
    path = tmp_path / "bias.fits"
    path.write_bytes(b"a bias")
    staged = await desk.stage(product_of(b"a bias"), path=str(path))
    assert files_of(tmp_path / "state") == {staged.digest}
    assert path.exists()


async def test_a_product_staged_twice_is_there_once(desk, tmp_path):
    first = await desk.stage(product_of(b"a bias"), content=b"a bias")
    assert await desk.stage(product_of(b"a bias"), content=b"a bias") == first
    assert await desk.select("BiasFrame", job_id=1) == [first]
    assert files_of(tmp_path / "state") == {first.digest}


@pytest.mark.parametrize(
    ("changes", "content", "reason"),
    [
        ({}, b"other", "has 5 bytes"),
        ({"size": 7}, b"a bias", "not 7 and"),
        ({"digest": "../../etc/passwd"}, b"a bias", "'../../etc/passwd' as announced"),
        ({}, b"", "has 0 bytes"),
    ],
)
async def test_a_product_that_is_not_what_was_announced_is_refused(desk, tmp_path, changes, content, reason):
    record = product_of(b"a bias")
    record = record.evolve(frame=record.frame.evolve(**changes))
    error = await refusal(desk.stage(record, content=content))
    assert isinstance(error, errors.BadFrame)
    assert reason in error.message
    assert files_of(tmp_path / "state") == set()
    assert await desk.select("", job_id=1) == []


async def test_publishing_shows_products_to_the_project_and_discarding_removes_them(desk, tmp_path):
    kept = await desk.stage(product_of(b"kept"), content=b"kept")
    lost = await desk.stage(product_of(b"lost", Attempt(1, 2, 1)), content=b"lost")
    assert await desk.select("BiasFrame") == []
    assert await desk.publish(Attempt(1, 1, 1)) == 1
    assert await desk.publish(Attempt(1, 1, 1)) == 1
    await desk.discard(Attempt(1, 2, 1))
    await desk.discard(Attempt(1, 2, 1))
    assert [frame.id for frame in await desk.select("BiasFrame")] == [kept.id]
    assert files_of(tmp_path / "state") == {kept.digest}
    assert lost.digest not in files_of(tmp_path / "state")


async def test_a_late_product_of_a_discarded_attempt_is_refused(desk, tmp_path):
    await desk.discard(Attempt(1, 1, 1))
    error = await refusal(desk.stage(product_of(b"late"), content=b"late"))
    assert isinstance(error, errors.StaleLease)
    assert files_of(tmp_path / "state") == set()


async def test_the_products_of_a_job_are_listed_while_it_runs(desk):
    first = await desk.stage(values_only(Attempt(5, 1, 1)))
    second = await desk.stage(values_only(Attempt(5, 2, 1), chip="ccd51"))
    await desk.stage(values_only(Attempt(6, 1, 1)))
    await desk.publish(Attempt(5, 1, 1))
    found = await desk.select("", job_id=5, only_job=True, selection=pb.Selection())
    assert [frame.id for frame in found] == [first.id, second.id]
    assert [frame.published for frame in found] == [True, False]


async def test_people_stage_nothing_and_workers_publish_nothing(desk):
    people, worker = await desk.stub("anna's"), await desk.stub("worker's")
    assert isinstance(await refusal(people.StageProduct(staging(values_only(), 0, b""))), errors.NotAllowed)
    assert isinstance(await refusal(worker.Publish(pb.PublishRequest())), errors.NotAllowed)
    stranger = await desk.stub("nobody's")
    assert isinstance(await refusal(stranger.ListFrames(pb.ListFramesRequest())), errors.NotLoggedIn)


# --- beginning anew


async def test_everything_is_there_after_a_restart_and_orphans_are_not(tmp_path):
    state = tmp_path / "state"
    async with AsyncExitStack() as stack:
        desk = Desk(await stack.enter_async_context(an_archive(state)), stack)
        before = (await desk.ingest(write_bias(tmp_path / "r001.fits"))).frames
    orphan = state / "files" / "00" / "11" / ("0011" + "0" * 60)
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"nobody's")
    (state / "incoming" / "left").mkdir()
    async with AsyncExitStack() as stack:
        desk = Desk(await stack.enter_async_context(an_archive(state)), stack)
        assert await desk.select() == list(before)
        assert files_of(state) == {frame.digest for frame in before}
        assert not any((state / "incoming").iterdir())


async def test_a_second_archive_over_one_folder_is_refused(desk, tmp_path):
    assert desk
    with pytest.raises(BadSetting, match="another archive works there"):
        async with an_archive(tmp_path / "state"):
            pass


async def test_a_state_that_is_no_folder_is_a_bad_setting(tmp_path):
    (tmp_path / "state").write_text("a file")
    with pytest.raises(BadSetting, match=r"DPU_STATE='.*/state': File exists"):
        async with an_archive(tmp_path / "state"):
            pass


# --- validity


async def test_a_product_that_is_set_invalid_is_not_chosen_any_more(desk, tmp_path):
    (raw, _) = (await desk.ingest(write_bias(tmp_path / "r001.fits"))).frames
    for task in (1, 2):
        made = await desk.stage(values_only(Attempt(1, task, 1), user="anna", readout=raw.readout))
        await desk.publish(Attempt(1, task, 1))
    stub = await desk.stub("anna's")
    asked = pb.FindCalibrationRequest(frame_class="ReadNoise", frame_id=raw.id, overscan=-1)
    assert (await stub.FindCalibration(asked)).frame.id == made.id
    changed = await stub.UpdateValidity(pb.UpdateValidityRequest(id=made.id, is_valid=False))
    assert not changed.frame.is_valid
    assert (await stub.FindCalibration(asked)).frame.id != made.id
    theirs = (await desk.stub("bert's", "VST")).UpdateValidity(pb.UpdateValidityRequest(id=made.id, is_valid=True))
    assert isinstance(await refusal(theirs), errors.NotFound)
