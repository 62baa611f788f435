"""The log service as its callers meet it: through a socket, with tokens, over a folder."""

import asyncio
import time

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import RpcError

from dpu.errors import StorageFull, UsageError
from dpu.status import from_rpc
from dpu_api.v1.job_pb2 import (
    JOB_STATE_FINISHED,
    JOB_STATE_UNSPECIFIED,
    TASK_STATE_LOST,
    TASK_STATE_SUCCEEDED,
    TaskRef,
)
from dpu_api.v1.logs_pb2 import (
    LOG_LEVEL_WARNING,
    AppendRequest,
    CloseJobRequest,
    CloseTaskRequest,
    CloseTasksRequest,
    CloseTasksResponse,
    JobEnd,
    LogBatch,
    ReadRequest,
)
from fakes_disk import files_of_at_most
from fakes_hosting import eventually
from fakes_logs import Clock, batch, request, text, texts
from fakes_logs_desk import Follower, desk


@pytest.fixture
async def logs(tmp_path):
    async with desk(tmp_path) as opened:
        yield opened


#: So many lines are more bytes than a file of a full disk may have.
MANY, FULL = 4_000, 100_000


def all_of_it(lines, **options):
    """Return what closes the one task of a job, and the job."""
    task = CloseTaskRequest(ref=TaskRef(job_id=1, attempt=1), project="KIDS", state=TASK_STATE_SUCCEEDED, lines=lines)
    job = CloseJobRequest(job_id=1, project="KIDS", state=JOB_STATE_FINISHED)
    return CloseTasksRequest(tasks=[task], jobs=[job], **options)


def end_of(responses):
    return responses[-1].end


async def test_lines_are_acknowledged_and_read_back(logs):
    assert await logs.append(request(0, 3), request(3, 2)) == [3, 5]
    responses = await logs.read()
    assert [each.batch for each in responses[:2]] == [batch(0, 3), batch(3, 2)]
    assert [each.offset for each in responses] == [3, 5, 5]
    assert end_of(responses) == JobEnd(state=JOB_STATE_UNSPECIFIED, complete=False, open=True)


async def test_lines_that_are_sent_again_are_stored_once(logs):
    assert await logs.append(request(0, 3), request(0, 3), request(1, 5)) == [3, 3, 6]
    assert texts(await logs.read()) == [text(number) for number in range(6)]


async def test_a_complete_job_ends_complete(logs):
    await logs.append(request(0, 3))
    await logs.close_task(3)
    await logs.close_job()
    _, task, end = await logs.read()
    assert (task.task_end.complete, task.task_end.state, task.task_end.lines) == (True, TASK_STATE_SUCCEEDED, 3)
    assert end.end == JobEnd(state=JOB_STATE_FINISHED, complete=True, open=False)


async def test_who_reads_does_not_wait_for_a_closing_that_has_time(logs):
    await logs.append(request(0, 3))
    closing = asyncio.gather(logs.scheduler.CloseTasks(all_of_it(3, linger=Duration(seconds=1))))
    await eventually(lambda: logs.aggregator._orders, lambda: closing)
    assert end_of(await logs.read()) == JobEnd(state=JOB_STATE_FINISHED, complete=True, open=False)
    assert await closing == [CloseTasksResponse()]


async def test_a_follower_sees_lines_as_they_come_and_ends_with_the_job(logs):
    follower = Follower(logs.user, job_id=1)
    await logs.append(request(0, 3))
    await follower.has(lambda seen: texts(seen) == [text(0), text(1), text(2)])
    await logs.append(request(3, 1))
    await follower.has(lambda seen: len(texts(seen)) == 4)
    await logs.close_task(4)
    await logs.close_job()
    assert (await follower.ended()).complete


async def test_a_follower_waits_for_lines_that_are_on_their_way(logs):
    follower = Follower(logs.user, job_id=1)
    await logs.append(request(0, 3))
    await logs.close_task(5)
    await logs.close_job()
    await follower.has(lambda seen: len(texts(seen)) == 3)
    assert not follower.task.done()
    assert end_of(await logs.read()).open
    await logs.append(request(3, 2))
    assert (await follower.ended()).complete
    assert len(texts(follower.seen)) == 5


async def test_a_follower_is_told_what_is_missing_when_patience_ends(logs):
    follower = Follower(logs.user, job_id=1)
    await logs.append(request(0, 3))
    await logs.close_task(-1, state=TASK_STATE_LOST)
    await logs.close_job()
    await logs.pass_time(31)
    assert not (await follower.ended()).complete
    told = follower.seen[-2].task_end
    assert told.state == TASK_STATE_LOST
    assert told.missing == "the worker was lost; 3 lines arrived, and whether there were more is not known"


async def test_patience_runs_out_by_the_clock_alone(tmp_path):
    async with desk(tmp_path, lambda: time.time_ns() // 1000) as logs:
        follower = Follower(logs.user, job_id=1)
        await logs.append(request(0, 3))
        await logs.close_task(4, patience=0)
        await logs.close_job()
        assert not (await follower.ended()).complete


async def test_a_broken_stream_resumes_without_loss_or_repeat(logs):
    await logs.append(*(request(first, 7) for first in range(0, 70, 7)))
    await logs.close_task(70)
    await logs.close_job()
    whole = await logs.read()
    for broken in range(len(whole)):
        kept = whole[:broken]
        offset = kept[-1].offset if kept else 0
        assert [*kept, *await logs.read(offset=offset)] == whole


async def test_a_stream_that_broke_among_the_runs_of_a_batch_resumes(logs):
    levels = [3, 3, 2, 3, 2, 2, 4, 1, 3]
    await logs.append(AppendRequest(batch=batch(0, 9, levels=levels), project="KIDS"))
    await logs.close_task(9)
    whole = await logs.read(level=LOG_LEVEL_WARNING)
    assert texts(whole) == [text(number) for number, level in enumerate(levels) if level >= 3]
    assert [each.batch.first for each in whole[:4]] == [0, 3, 6, 8]
    for broken in range(1, len(whole)):
        offset = whole[broken - 1].offset
        assert [*whole[:broken], *await logs.read(level=LOG_LEVEL_WARNING, offset=offset)] == whole


async def test_an_offset_in_the_middle_of_a_batch_is_exact(logs):
    await logs.append(request(0, 10))
    assert texts(await logs.read(offset=4)) == [text(number) for number in range(4, 10)]


async def test_only_the_tasks_asked_for_are_read(logs):
    await logs.append(request(0, 2, task=0), request(0, 2, task=1), request(0, 2, task=2))
    await logs.close_task(2, task=1)
    responses = await logs.read(tasks=[1, 2])
    assert texts(responses) == [text(number, task=task) for task in (1, 2) for number in (0, 1)]
    assert [each.task_end.ref.task for each in responses if each.WhichOneof("item") == "task_end"] == [1]


async def test_only_the_newest_attempt_is_read_where_that_is_asked_for(logs):
    await logs.append(request(0, 2, attempt=1), request(0, 2, attempt=2), request(0, 1, task=1))
    expected = [text(0, attempt=2), text(1, attempt=2), text(0, task=1)]
    assert texts(await logs.read(newest_attempt=True)) == expected
    assert len(texts(await logs.read())) == 5


async def test_a_job_of_another_project_reads_like_one_that_does_not_exist(logs):
    await logs.append(request(0, 2))
    await logs.close_task(2)
    await logs.close_job()
    hers = [each async for each in logs.stranger.Read(ReadRequest(job_id=1))]
    nobodys = [each async for each in logs.stranger.Read(ReadRequest(job_id=77))]
    assert hers == nobodys
    assert end_of(hers) == JobEnd(open=True)
    with pytest.raises(RpcError) as refused:
        [each async for each in logs.stranger.Read(ReadRequest(job_id=1, offset=1))]
    assert "beyond the end of the log of job 1, which is at 0" in refused.value.details()


async def test_a_follower_of_another_project_hears_nothing(logs):
    stranger = Follower(logs.stranger, job_id=1)
    friend = Follower(logs.user, job_id=1)
    await logs.append(request(0, 2))
    await logs.close_task(2)
    await logs.close_job()
    await friend.ended()
    assert stranger.seen == []
    assert not stranger.task.done()
    await stranger.leave()


async def test_lines_for_another_project_than_the_jobs_are_refused(logs):
    await logs.append(request(0, 2))
    with pytest.raises(RpcError) as refused:
        await logs.append(request(2, 2, project="VST"))
    assert isinstance(from_rpc(refused.value), UsageError)
    assert len(texts(await logs.read())) == 2


REF = TaskRef(job_id=1, task=0, attempt=1)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (LogBatch(ref=REF, texts=["a"]), r"1 texts, but \(0, 0, 0\) times"),
        (LogBatch(ref=REF, texts=["a"], time_us=[1], levels=b"\x09", streams=b"\x01"), "a level or a stream"),
        (LogBatch(ref=REF, first=-1), "no attempt can print this: lines from -1 on"),
        (LogBatch(ref=TaskRef(job_id=1, task=0)), "attempt 0"),
        (batch(0, 1, job=0), "job 0"),
    ],
)
async def test_a_batch_that_contradicts_itself_is_refused(logs, wrong, why):
    with pytest.raises(RpcError) as refused:
        await logs.append(AppendRequest(batch=wrong, project="KIDS"))
    assert isinstance(from_rpc(refused.value), UsageError)
    with pytest.raises(UsageError, match=why):
        raise from_rpc(refused.value)


async def test_nothing_that_was_acknowledged_is_lost_by_a_restart(tmp_path):
    clock = Clock()
    async with desk(tmp_path, clock) as logs:
        await logs.append(request(0, 3), request(0, 2, task=1))
        await logs.close_task(5, task=0)
        await logs.close_job()
        before = await logs.read()
    async with desk(tmp_path, clock) as logs:
        assert await logs.read() == before
        assert await logs.append(request(1, 4)) == [5]
        await logs.close_task(2, task=1)
        after = await logs.read()
    assert texts(after)[5:] == [text(3), text(4)]
    assert end_of(after).complete


async def test_patience_goes_on_over_a_restart(tmp_path):
    clock = Clock()
    async with desk(tmp_path, clock) as logs:
        await logs.append(request(0, 3))
        await logs.close_task(5)
        await logs.close_job()
    clock.forward(3600)
    async with desk(tmp_path, clock) as logs:
        follower = Follower(logs.user, job_id=1)
        assert not (await follower.ended()).complete


async def test_a_full_disk_is_said_and_goes_by_itself(logs):
    await logs.append(request(0, MANY))
    with files_of_at_most(FULL):
        with pytest.raises(RpcError) as refused:
            await logs.append(request(MANY, 5))
        with pytest.raises(StorageFull):
            raise from_rpc(refused.value)
        assert len(texts(await logs.read())) == MANY
    assert await logs.append(request(MANY, 5)) == [MANY + 5]
    assert texts(await logs.read()) == [text(number) for number in range(MANY + 5)]


async def test_an_end_that_did_not_fit_on_the_disk_is_tried_again(logs):
    follower = Follower(logs.user, job_id=1)
    await logs.append(request(0, MANY))
    await logs.close_task(MANY + 1)
    await logs.close_job()
    await follower.has(lambda seen: len(texts(seen)) == MANY)
    with files_of_at_most(FULL):
        await logs.pass_time(31)
        with pytest.raises(RpcError):
            await logs.append(request(MANY, 5))
        assert not follower.task.done()
    await logs.pass_time(2)
    assert not (await follower.ended()).complete


async def test_a_slow_follower_costs_the_others_nothing(logs):
    slow = logs.user.Read(ReadRequest(job_id=1, follow=True))
    quick = Follower(logs.user, job_id=1)
    big = [request(first, 2_000) for first in range(0, 60_000, 2_000)]
    await logs.append(*big)
    await quick.has(lambda seen: len(texts(seen)) == 60_000)
    await logs.close_task(60_000)
    await logs.close_job()
    assert (await quick.ended()).complete
    assert texts([each async for each in slow]) == [text(number) for number in range(60_000)]


async def test_many_jobs_leave_memory_and_come_back(tmp_path):
    async with desk(tmp_path, resting=3) as logs:
        for job in range(1, 10):
            await logs.append(request(0, 1, job=job))
        assert len(logs.aggregator._jobs) <= 3
        for job in range(1, 10):
            assert texts(await logs.read(job)) == [text(0)]


async def test_a_job_that_cannot_be_read_stops_no_other(tmp_path):
    clock = Clock()
    async with desk(tmp_path, clock, resting=0) as logs:
        await logs.append(request(0, 1, job=1), request(0, 1, job=2))
        await logs.close_task(2, job=1)
        await logs.close_task(2, job=2)
        (segment,) = (tmp_path / "000000000001").iterdir()
        segment.rename(segment.with_name("000000-00000000000000000007.log"))
        logs.aggregator._store._shelf.forget(1)
        with pytest.raises(RpcError) as damaged:
            await logs.read(1)
        assert "restore it from a backup" in damaged.value.details()
        follower = Follower(logs.user, job_id=2)
        await logs.pass_time(31)
        await follower.has(lambda seen: seen and seen[-1].HasField("task_end"))
        await follower.leave()


async def test_a_reader_who_left_holds_nothing(logs):
    await logs.append(request(0, 1))
    follower = Follower(logs.user, job_id=1)
    await follower.has(lambda seen: len(texts(seen)) == 1)
    await follower.leave()
    await eventually(lambda: logs.aggregator._jobs[1].holders == 0, lambda: logs.aggregator._jobs[1])


async def test_logs_that_are_too_old_are_removed(logs):
    await logs.append(request(0, 1, job=1), request(0, 1, job=2))
    assert await logs.aggregator.remove_where(lambda held: held.last < time.time() - 1_000) == []
    assert sorted(await logs.aggregator.remove_where(lambda held: held.last < time.time() + 1_000)) == [1, 2]
    assert texts(await logs.read(1)) == []
