"""Levels, lineage, choices and queries, as callers of the service meet them."""

import json

import pytest

from dpu import errors
from dpu_api.v1 import archive_pb2 as pb
from dpu_api.v1.job_pb2 import Value
from dpud.archive.records import Attempt, Level
from fakes_archive import FIRST, files_of, write_bias
from fakes_archive_desk import a_desk, product_of, refusal, values_only


@pytest.fixture
async def desk(tmp_path):
    async with a_desk(tmp_path / "state") as opened:
        yield opened


async def published(desk, record, content=b""):
    frame = await desk.stage(record, content=content)
    await desk.publish(record.attempt)
    return frame


async def lineage(stub, frame, **how):
    answers = [answer async for answer in stub.TraceLineage(pb.TraceLineageRequest(id=frame.id, **how))]
    frames = [item for answer in answers for item in answer.frames]
    return [item.id for item in frames], {(link.product, link.input) for answer in answers for link in answer.links}


def comparison(attribute, operator, value):
    said = pb.Comparison(attribute=attribute, operator=operator, value=value)
    return pb.Condition(comparison=said)


async def test_a_product_leads_back_to_its_raw_frames_and_on_to_what_came_of_it(desk, tmp_path):
    raws = [(await desk.ingest(write_bias(tmp_path / f"r{number}.fits", number))).frames[0] for number in range(2)]
    inputs = tuple(raw.id for raw in raws)
    noise = await published(desk, values_only(Attempt(1, 1, 1), inputs=inputs))
    bias = await published(desk, product_of(b"bias", Attempt(1, 2, 1), inputs=(*inputs, noise.id)), b"bias")
    stub = await desk.stub("anna's")
    names, links = await lineage(stub, bias)
    assert (names[0], set(names)) == (bias.id, {bias.id, noise.id, *inputs})
    assert links == {(noise.id, name) for name in inputs} | {(bias.id, name) for name in (*inputs, noise.id)}
    names, _ = await lineage(stub, raws[0], progeny=True)
    assert (names[0], set(names)) == (raws[0].id, {raws[0].id, noise.id, bias.id})
    theirs = lineage(await desk.stub("bert's", "VST"), bias)
    assert isinstance(await refusal(theirs), errors.NotFound)


async def test_a_lineage_of_hundreds_of_frames_comes_in_parts(desk):
    made = [await desk.stage(values_only(FIRST, inputs=()), number) for number in range(220)]
    whole = await desk.stage(values_only(FIRST, inputs=tuple(frame.id for frame in made)), 220)
    await desk.publish(FIRST)
    names, links = await lineage(await desk.stub("anna's"), whole)
    assert (len(names), len(links)) == (221, 220)


async def test_every_class_of_calibrations_says_what_it_has_for_a_frame(desk, tmp_path):
    (raw, _) = (await desk.ingest(write_bias(tmp_path / "r.fits"))).frames
    noise = await published(desk, values_only(readout=raw.readout))
    stub = await desk.stub("anna's")
    answer = await stub.ListCalibrations(pb.ListCalibrationsRequest(frame_id=raw.id))
    found = {choice.frame_class: choice for choice in answer.choices}
    # No flat serves a bias.
    assert list(found) == ["ReadNoise", "BiasFrame", "HotPixelMap", "GainLinearity", "ColdPixelMap"]
    assert (found["ReadNoise"].frame.id, found["ReadNoise"].why) == (noise.id, "same night, newest of 1")
    assert not found["BiasFrame"].HasField("frame")
    assert "Make one: dpu.run('Bias', i='WFI', d='2000-04-28', C=1)" in found["BiasFrame"].why


async def test_another_project_sees_a_frame_from_level_three_on(desk):
    made = await published(desk, product_of(b"bias", filter="").evolve(user="anna"), b"bias")
    mine, theirs = await desk.stub("anna's"), await desk.stub("bert's", "VST")
    fetched = pb.FetchFrameRequest(id=made.id)
    for level, seen in ((2, False), (3, True), (1, False), (5, True)):
        changed = (await mine.SetPrivileges(pb.SetPrivilegesRequest(id=made.id, privileges=level))).frame
        assert changed.privileges == level
        listed = await desk.select("BiasFrame", "bert's", "VST")
        assert [frame.id for frame in listed] == ([made.id] if seen else [])
        if seen:
            chunks = [answer.chunk async for answer in theirs.FetchFrame(fetched)]
            assert b"".join(chunks) == b"bias"
        else:
            with pytest.raises(errors.NotFound):
                raise await refusal(anext(aiter(theirs.FetchFrame(fetched))))
    refused = await refusal(theirs.SetPrivileges(pb.SetPrivilegesRequest(id=made.id, privileges=1)))
    assert isinstance(refused, errors.NotAllowed)


async def test_level_one_is_its_makers_own_and_of_the_tasks_of_their_jobs(desk):
    made = await published(desk, values_only(user="anna"))
    await (await desk.stub("anna's")).SetPrivileges(pb.SetPrivilegesRequest(id=made.id, privileges=1))
    assert len(await desk.select("ReadNoise", "anna's")) == 1
    assert await desk.select("ReadNoise", "carl's") == []
    # Only a worker speaks for others.
    assert await desk.select("ReadNoise", "carl's", user="anna") == []
    assert len(await desk.select("ReadNoise", "worker's", user="anna")) == 1
    assert await desk.select("ReadNoise", "worker's", user="carl") == []


async def test_a_deleted_product_is_gone_with_its_file(desk, tmp_path):
    before = files_of(tmp_path / "state")
    noise = await published(desk, values_only(Attempt(1, 1, 1), user="anna"))
    bias = product_of(b"bias", Attempt(1, 2, 1), inputs=(noise.id,)).evolve(user="anna")
    bias = await published(desk, bias, b"bias")
    stub = await desk.stub("anna's")
    held = await refusal(stub.DeleteProduct(pb.DeleteProductRequest(id=noise.id)))
    assert isinstance(held, errors.Conflict)
    assert f"BiasFrame {bias.file_name} was made from it" in held.message
    theirs = await desk.stub("carl's")
    assert isinstance(await refusal(theirs.DeleteProduct(pb.DeleteProductRequest(id=bias.id))), errors.NotAllowed)
    assert len(files_of(tmp_path / "state") - before) == 1
    for frame in (bias, noise):
        await stub.DeleteProduct(pb.DeleteProductRequest(id=frame.id))
        again = await refusal(stub.DeleteProduct(pb.DeleteProductRequest(id=frame.id)))
        assert isinstance(again, errors.NotFound)
    assert files_of(tmp_path / "state") == before


async def test_the_figure_of_a_product_is_seen_as_far_as_it_and_goes_with_it(desk, tmp_path):
    before = files_of(tmp_path / "state")
    noise = await desk.stage(values_only(user="anna"))
    drawn = product_of(b"png", inputs=(noise.id,), frame_class="QualityFigure", values={"OF": "ReadNoise"}).evolve(
        user="anna"
    )
    figure = await desk.stage(drawn, 1, b"png")
    await desk.publish(FIRST)
    assert figure.file_name.endswith(".png")
    assert "-Read---Bia-" in figure.file_name
    stub = await desk.stub("anna's")
    kin = [answer async for answer in stub.TraceLineage(pb.TraceLineageRequest(id=noise.id, progeny=True))]
    assert [frame.id for answer in kin for frame in answer.frames] == [noise.id]
    for level in (3, 2):
        await stub.SetPrivileges(pb.SetPrivilegesRequest(id=noise.id, privileges=level))
        assert [frame.privileges for frame in await desk.select("QualityFigure")] == [level]
    await stub.DeleteProduct(pb.DeleteProductRequest(id=noise.id))
    assert isinstance(await refusal(stub.ListFrames(pb.ListFramesRequest(ids=[figure.id]))), errors.NotFound)
    assert files_of(tmp_path / "state") == before


async def test_a_product_is_committed_at_the_privileges_that_were_announced(desk):
    made = await published(desk, values_only(user="anna").evolve(privileges=Level.OWN))
    assert made.privileges == 1
    assert await desk.select("ReadNoise", "carl's") == []


async def test_a_raw_frame_is_never_deleted(desk, tmp_path):
    (raw, _) = (await desk.ingest(write_bias(tmp_path / "r.fits"))).frames
    call = (await desk.stub("anna's")).DeleteProduct(pb.DeleteProductRequest(id=raw.id))
    assert "is a raw frame: only products are deleted" in (await refusal(call)).message


async def test_frames_are_asked_for_by_conditions(desk, tmp_path):
    for number in range(3):
        await desk.ingest(write_bias(tmp_path / f"r{number}.fits", number, chips=1))
    later = comparison("date_obs", pb.OPERATOR_AT_LEAST, Value(string_value="2000-04-28T22:01:01"))
    other = comparison("chip", pb.OPERATOR_UNEQUAL, Value(string_value="ccd50"))
    assert len(await desk.select(condition=later)) == 2
    both = pb.Condition(all_of=pb.Conditions(conditions=[later, other]))
    either = pb.Condition(any_of=pb.Conditions(conditions=[later, other]))
    assert [len(await desk.select(condition=asked)) for asked in (both, either)] == [0, 2]
    assert [len(await desk.select(user_only=True, caller=who)) for who in ("anna's", "carl's")] == [3, 0]
    assert len(await desk.select(project_only=True)) == 3
    for field, second in (("greatest_of", 2), ("least_of", 0)):
        (best,) = await desk.select(**{field: "date_obs"})
        assert best.date_obs.ToDatetime().second == second


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"greatest_of": "seeing"}, "frames have no 'seeing' that can be asked"),
        ({"greatest_of": "night", "least_of": "night"}, "ask for one of them"),
        ({"condition": comparison("night", 0, Value(string_value="x"))}, "is compared by operator 0, which is none"),
        ({"condition": comparison("exptime", pb.OPERATOR_LESS, Value(string_value="x"))}, "must be a number"),
    ],
)
async def test_a_question_that_means_nothing_is_refused(desk, fields, told):
    refused = await refusal(desk.select(**fields))
    assert isinstance(refused, errors.UsageError)
    assert told in refused.message


async def test_only_products_that_would_be_given_the_same_calibrations_stand(desk, tmp_path):
    raw = (await desk.ingest(write_bias(tmp_path / "r.fits"))).frames[0]
    noise = await published(desk, values_only(Attempt(1, 1, 1), readout=raw.readout))

    async def product(task, *asked):
        consulted = json.dumps(asked)
        made = product_of(b"bias", Attempt(2, task, 1), identity="1d", consulted=consulted)
        return (await published(desk, made, b"bias")).id

    stands = await product(1, ["ReadNoise", raw.id, None, noise.id], ["GainLinearity", raw.id, None, ""])
    other_answer = await product(2, ["ReadNoise", raw.id, None, "0" * 32])
    since_then = await product(3, ["ReadNoise", raw.id, None, ""])
    gone = await product(4, ["ReadNoise", "f" * 64, None, ""])
    nothing_asked = await product(5)

    async def listed(**fields):
        request = pb.ListFramesRequest(frame_class="BiasFrame", selection=pb.Selection(identity="1d"), **fields)
        return await (await desk.stub("anna's")).ListFrames(request)

    everything = await listed()
    assert {frame.id for frame in everything.frames} == {stands, other_answer, since_then, gone, nothing_asked}
    assert not everything.standing_only
    standing = await listed(standing_only=True)
    assert {frame.id for frame in standing.frames} == {stands, nothing_asked}
    assert standing.standing_only
