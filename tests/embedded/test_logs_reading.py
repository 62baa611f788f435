"""What a reader can ask of the log service, beyond all of it: selections, head, tail, deletion, age."""

import time

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import RpcError

from dpu.errors import Conflict, NotAllowed, NotFound, UsageError
from dpu.status import from_rpc
from dpu_api.v1.job_pb2 import (
    JOB_STATE_CANCELLED,
    JOB_STATE_FINISHED,
    TASK_STATE_CANCELLED,
    TASK_STATE_LOST,
    TASK_STATE_SUCCEEDED,
    TaskRef,
)
from dpu_api.v1.logs_pb2 import (
    LOG_LEVEL_WARNING,
    AppendRequest,
    DeleteJobLogsRequest,
    JobEnd,
    LogBatch,
    ReadRequest,
)
from dpud.logs import reading
from dpud.logs.ledger import LATE_US, SECOND_US
from dpud.logs.retention import DAY_S, Retention, tidy
from fakes_logs import NOON, Clock, request, text, texts
from fakes_logs_desk import Follower, desk


@pytest.fixture
async def logs(tmp_path):
    async with desk(tmp_path) as opened:
        yield opened


def said(*lines, task=0, attempt=1, first=0, label=""):
    """Return a request whose lines are (level, text) or text alone, a second apart."""
    pairs = [line if isinstance(line, tuple) else (2, line) for line in lines]
    batch = LogBatch(
        ref=TaskRef(job_id=1, task=task, attempt=attempt),
        first=first,
        time_us=[NOON + (first + number) * SECOND_US for number in range(len(pairs))],
        levels=bytes(level for level, _ in pairs),
        streams=bytes([1] * len(pairs)),
        texts=[line for _, line in pairs],
    )
    return AppendRequest(batch=batch, project="KIDS", user="anna", label=label)


def after_noon(seconds):
    return Timestamp(seconds=NOON // SECOND_US + seconds)


async def refused(call):
    with pytest.raises(RpcError) as caught:
        await call
    return from_rpc(caught.value)


async def test_a_chip_is_a_word_of_the_tasks_label(logs):
    await logs.append(
        said("a", task=0, label="ccd50"),
        said("b", task=1, label="ccd51"),
        said("c", task=2, label="WFI.2000-04-28T03:00:00.1 ccd50"),
        said("d", task=3),
    )
    await logs.close_task(1, task=1)
    assert texts(await logs.read(chips=["ccd50"])) == ["a", "c"]
    assert texts(await logs.read(chips=["ccd51", "ccd50"])) == ["a", "b", "c"]
    assert texts(await logs.read(chips=["ccd5"])) == []
    assert [each.task_end.ref.task for each in await logs.read(chips=["ccd51"])][1] == 1


async def test_chips_are_known_after_a_restart(tmp_path):
    async with desk(tmp_path) as logs:
        await logs.append(said("a", label="ccd50"), said("b", task=1, label="ccd51"))
    async with desk(tmp_path) as logs:
        assert texts(await logs.read(chips=["ccd51"])) == ["b"]


async def test_lines_are_found_by_text_pattern_level_and_time(logs):
    await logs.append(said("read noise 5.31", "a (strange) line", (3, "noise too high"), (4, "read noise failed")))
    assert texts(await logs.read(text="noise")) == ["read noise 5.31", "noise too high", "read noise failed"]
    assert texts(await logs.read(text="(strange)")) == ["a (strange) line"]
    assert texts(await logs.read(pattern=r"noise \d+\.\d+$")) == ["read noise 5.31"]
    assert texts(await logs.read(text="read", pattern="^.*failed|^.*high")) == ["read noise failed"]
    assert texts(await logs.read(level=LOG_LEVEL_WARNING, text="high")) == ["noise too high"]
    assert texts(await logs.read(since=after_noon(1), until=after_noon(3))) == ["a (strange) line", "noise too high"]


async def test_attempts_are_told_apart(logs):
    await logs.append(*(request(0, 2, attempt=attempt) for attempt in (1, 2, 3)))
    assert texts(await logs.read(attempts=[1, 3])) == [text(n, attempt=k) for k in (1, 3) for n in (0, 1)]
    assert texts(await logs.read(newest_attempt=True)) == [text(n, attempt=3) for n in (0, 1)]


@pytest.mark.parametrize(
    ("which", "why"),
    [
        ({"pattern": "(a"}, "'\\(a' is no RE2 pattern: missing \\)"),
        ({"pattern": "a" * 1_001}, "a pattern of 1001 characters: at most 1000"),
        ({"pattern": "((a{100}){100}){100}"}, "is no RE2 pattern"),
        ({"pattern": r"(a)\1"}, "is no RE2 pattern"),
        ({"head": 1, "tail": 1}, "head=1, tail=1: at most one of them"),
        ({"head": -1}, "none below 0"),
        ({"before": 3, "follow": True}, "before=3: not below 0, and not where"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(logs, which, why):
    with pytest.raises(UsageError, match=why):
        raise await refused(logs.read(**which))


async def test_no_pattern_costs_more_than_its_lines(logs):
    await logs.append(said("a" * 100_000 + "!", "b"))
    begun = time.monotonic()
    assert texts(await logs.read(pattern="^(a+)+$|b")) == ["b"]
    assert time.monotonic() - begun < 5


async def test_head_ends_after_so_many_lines_and_says_so(logs):
    await logs.append(request(0, 10), request(0, 10, task=1))
    found = await logs.read(head=12)
    assert texts(found) == [text(number) for number in range(10)] + [text(number, task=1) for number in (0, 1)]
    assert found[-1].end == JobEnd(open=True, cut=True)
    assert texts(await logs.read(offset=found[-1].offset)) == [text(number, task=1) for number in range(2, 10)]
    assert not (await logs.read(head=99))[-1].end.cut


async def test_head_counts_what_is_selected(logs):
    await logs.append(said("a", "b", "a", "b", "a"))
    assert texts(await logs.read(text="a", head=2)) == ["a", "a"]


async def test_a_follower_with_a_head_ends_with_it(logs):
    follower = Follower(logs.user, job_id=1, head=3)
    await logs.append(request(0, 2))
    await follower.has(lambda seen: len(texts(seen)) == 2)
    await logs.append(request(2, 2))
    assert (await follower.ended()).cut
    assert texts(follower.seen) == [text(0), text(1), text(2)]


@pytest.mark.parametrize("count", [1, 3, 9, 10, 11, 5_000])
async def test_tail_is_the_last_lines_that_are_selected(logs, count, monkeypatch):
    monkeypatch.setattr(reading, "STEP_BACK", 4)
    await logs.append(*(request(first, 5, task=task) for first in range(0, 10, 5) for task in (0, 1)))
    await logs.close_task(10, task=0)
    everything = texts(await logs.read())
    assert texts(await logs.read(tail=count)) == everything[-count:]
    ours = [line for line in everything if line.startswith("task 1")]
    assert texts(await logs.read(tail=count, tasks=[1])) == ours[-count:]
    assert texts(await logs.read(tail=count, text="task 1")) == ours[-count:]


@pytest.mark.parametrize("wanted", [{}, {"tasks": [1]}, {"text": "task 1"}], ids=["all", "task", "text"])
async def test_pages_before_one_another_are_all_there_is(logs, wanted):
    for number in range(40):
        await logs.append(said(f"{number} of task {number % 3}", "more", task=number % 3, first=number // 3 * 2))
    everything = texts(await logs.read(**wanted))
    pages, before = [], 0
    while True:
        answers = await logs.read(tail=7, before=before, **wanted)
        batches = [answer for answer in answers if answer.WhichOneof("item") == "batch"]
        if not batches:
            break
        pages.insert(0, texts(batches))
        before = batches[0].offset - len(batches[0].batch.texts)
        if before == 0:
            break
    assert [line for page in pages for line in page] == everything
    assert {len(page) for page in pages[1:]} == {7}


async def test_a_tail_that_is_followed_goes_on_with_what_comes(logs):
    await logs.append(request(0, 10))
    follower = Follower(logs.user, job_id=1, tail=2)
    await follower.has(lambda seen: texts(seen) == [text(8), text(9)])
    await logs.append(request(10, 1))
    await follower.has(lambda seen: texts(seen)[2:] == [text(10)])
    await follower.leave()


async def test_a_reader_who_finds_nothing_still_learns_how_far_it_got(logs, monkeypatch):
    monkeypatch.setattr(reading, "BUDGET", 1)
    await logs.append(*(request(first, 1) for first in range(40)))
    found = await logs.read(text="nowhere")
    assert [each.offset for each in found] == [16, 32, 40]
    assert [each.WhichOneof("item") for each in found] == [None, None, "end"]


async def test_a_job_that_ended_last_month_reads_as_it_did_then(tmp_path):
    clock = Clock()
    async with desk(tmp_path, clock) as logs:
        await logs.append(said("a", "b", label="ccd50"))
        await logs.close_task(2)
        await logs.close_job()
        then = await logs.read()
        # A day later its lines are packed away.
        await tidy(logs.aggregator, Retention(90, 90), time.time() + LATE_US / SECOND_US + 1)
    assert [path.suffix for path in tmp_path.glob("*/0*")] == [".pack"]
    clock.forward(31 * DAY_S)
    async with desk(tmp_path, clock) as logs:
        follower = Follower(logs.user, job_id=1)
        assert await follower.ended() == JobEnd(state=JOB_STATE_FINISHED, complete=True)
        assert follower.seen == then
        assert texts(await logs.read(chips=["ccd50"], tail=1)) == ["b"]


async def test_a_job_that_never_printed_ends_all_the_same(logs):
    follower = Follower(logs.user, job_id=1)
    await logs.close_task(0)
    await logs.close_job()
    assert await follower.ended() == JobEnd(state=JOB_STATE_FINISHED, complete=True)
    (end, _) = follower.seen
    assert (end.task_end.lines, end.task_end.complete) == (0, True)


async def test_a_cancelled_job_ends_with_what_was_printed(logs):
    follower = Follower(logs.user, job_id=1)
    await logs.append(request(0, 3))
    await logs.close_task(3, state=TASK_STATE_CANCELLED)
    await logs.close_job(state=JOB_STATE_CANCELLED)
    assert await follower.ended() == JobEnd(state=JOB_STATE_CANCELLED, complete=True)
    assert texts(follower.seen) == [text(0), text(1), text(2)]
    assert follower.seen[-2].task_end.state == TASK_STATE_CANCELLED


async def test_a_task_at_its_third_attempt_shows_each_and_what_the_first_two_lack(logs):
    follower = Follower(logs.user, job_id=1)
    for attempt in (1, 2):
        await logs.append(request(0, attempt, attempt=attempt))
        await logs.close_task(-1, attempt=attempt, patience=0, state=TASK_STATE_LOST)
    await logs.append(request(0, 3, attempt=3))
    await logs.close_task(3, attempt=3)
    await logs.close_job()
    end = await follower.ended()
    assert (end.state, end.complete) == (JOB_STATE_FINISHED, False)
    ends = [each.task_end for each in follower.seen if each.HasField("task_end")]
    assert [(each.ref.attempt, each.state, each.complete) for each in ends] == [
        (1, TASK_STATE_LOST, False),
        (2, TASK_STATE_LOST, False),
        (3, TASK_STATE_SUCCEEDED, True),
    ]
    assert texts(await logs.read(newest_attempt=True)) == [text(n, attempt=3) for n in range(3)]


async def finished(logs):
    await logs.append(said("printed", "printed too"))
    await logs.close_task(2)
    await logs.close_job()


DELETED = JobEnd(state=JOB_STATE_FINISHED, complete=False, deleted_by="anna")


async def test_an_owner_deletes_the_lines_of_a_job_and_readers_are_told(logs, tmp_path):
    await finished(logs)
    for _ in range(2):
        await logs.user.DeleteJobLogs(DeleteJobLogsRequest(job_id=1))
    for offset in (0, 2):
        assert [each.end for each in await logs.read(offset=offset, follow=True)] == [DELETED]
    left = b"".join(path.read_bytes() for path in tmp_path.glob("*/*"))
    assert b"anna" in left
    assert b"printed" not in left


async def test_deleted_lines_stay_deleted_over_a_restart_and_late_ones_are_refused(tmp_path):
    async with desk(tmp_path) as logs:
        await finished(logs)
        await logs.user.DeleteJobLogs(DeleteJobLogsRequest(job_id=1))
    async with desk(tmp_path) as logs:
        assert [each.end for each in await logs.read()] == [DELETED]
        with pytest.raises(UsageError, match="the lines of this job were deleted by anna: no more are taken"):
            raise await refused(logs.append(said("late", first=2)))
        await logs.close_task(3)
        await logs.close_job()
        assert [each.end for each in await logs.read()] == [DELETED]


async def test_a_reader_in_the_middle_of_a_log_that_is_deleted_is_told(logs):
    count = 20_000
    await logs.append(*(said(*["x" * 1_000] * 500, first=first) for first in range(0, count, 500)))
    await logs.close_task(count)
    await logs.close_job()
    slow = logs.user.Read(ReadRequest(job_id=1, follow=True))
    first = await slow.read()
    await logs.user.DeleteJobLogs(DeleteJobLogsRequest(job_id=1))
    rest = [first, *[each async for each in slow]]
    assert rest[-1].end == DELETED
    assert 500 <= len(texts(rest)) < count


async def test_a_log_is_its_owners_and_an_operators_to_delete(logs):
    await finished(logs)
    ask = DeleteJobLogsRequest(job_id=1)
    hers = await refused(logs.colleague.DeleteJobLogs(ask))
    assert isinstance(hers, NotAllowed)
    assert hers.message.startswith("job 1 belongs to anna: carl may not delete its logs")
    for stub, job in ((logs.stranger, 1), (logs.user, 77)):
        nobodys = await refused(stub.DeleteJobLogs(DeleteJobLogsRequest(job_id=job)))
        assert isinstance(nobodys, NotFound)
        assert nobodys.message == f"there are no logs of job {job}"
    assert len(texts(await logs.read())) == 2
    await logs.operator.DeleteJobLogs(ask)
    assert (await logs.read())[-1].end.deleted_by == "olga"


async def test_a_log_that_is_not_ended_is_not_deleted(logs):
    await logs.append(said("a"))
    await logs.close_task(2)
    await logs.close_job()
    with pytest.raises(Conflict, match="its last lines are still awaited"):
        raise await refused(logs.user.DeleteJobLogs(DeleteJobLogsRequest(job_id=1)))
    assert texts(await logs.read()) == ["a"]


async def test_age_and_end_decide_when_a_log_is_removed(logs, tmp_path):
    for job, state in ((1, JOB_STATE_FINISHED), (2, JOB_STATE_CANCELLED)):
        await logs.append(request(0, 1, job=job))
        await logs.close_task(1, job=job)
        await logs.close_job(job, state)
    await logs.append(request(0, 1, job=3))
    retention = Retention(days=30, failed_days=365)
    for days, left in ((2, {1, 2, 3}), (29, {1, 2, 3}), (31, {2, 3}), (364, {2, 3}), (366, set())):
        await tidy(logs.aggregator, retention, time.time() + days * DAY_S)
        assert {int(path.name) for path in tmp_path.iterdir() if path.is_dir()} == left


async def test_a_log_that_somebody_reads_is_not_removed(logs, tmp_path):
    await logs.append(request(0, 1))
    follower = Follower(logs.user, job_id=1)
    await follower.has(lambda seen: seen)
    await tidy(logs.aggregator, Retention(1, 1), time.time() + 9 * DAY_S)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["000000000001"]
    await follower.leave()


async def test_a_reader_who_does_not_read_costs_no_more_than_what_is_on_its_way(logs):
    """Back-pressure: what nobody takes is not looked up."""
    looks = []
    look = logs.aggregator.read

    async def counted(job, offset, budget):
        looks.append(offset)
        return await look(job, offset, budget)

    count, wide = 40_000, "x" * 1_000
    await logs.append(*(said(*[wide] * 500, first=first) for first in range(0, count, 500)))
    logs.aggregator.read = counted
    stalled = logs.user.Read(ReadRequest(job_id=1, follow=True))
    assert (await stalled.read()).batch.first == 0
    # Meanwhile another one reads everything, and lines go on to come in.
    assert len(texts(await logs.read())) == count
    twice = [offset for offset in looks if looks.count(offset) > 1]
    assert max(twice, default=0) < count / 2
    assert await logs.append(said("more", first=count)) == [count + 1]
    stalled.cancel()
