"""Logs at the prompt, over the real log service: selections, following, what comes first."""

import asyncio
import io
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from dpu.errors import BadOption, UsageError
from dpu.follow import lines_followed
from dpu.logquestion import EVERYTHING, LogQuestion
from dpu.processor import Processor
from dpu.report import Reporter
from dpu_api.v1 import job_pb2
from dpu_api.v1.logs_pb2 import LOG_LEVEL_WARNING, ReadRequest
from fakes_client import Script, batch, configured, job, job_end, serving, task, task_end

NOON = datetime(2026, 3, 14, 12, 0, 0, tzinfo=UTC)
FAILED, RUNNING = job_pb2.TASK_STATE_FAILED, job_pb2.TASK_STATE_RUNNING


@pytest.fixture
def script():
    return Script(jobs={84820: job()})


@pytest.fixture
def dpu(tmp_path, script, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path, script) as address:
        processor = Processor(
            configured(tmp_path, address), reporter=Reporter(host="schmidt", clock=lambda: NOON, out=io.StringIO())
        )
        yield processor
        processor.close()


def printed(dpu):
    return dpu._reporter.out.getvalue().splitlines()


def asked(script):
    return [request for method, request in script.asked if method == "Read"]


def at(number, second, **changes):
    ended = task(number, f"ccd5{number}", FAILED, **changes)
    ended.ended.FromSeconds(second)
    return ended


def test_the_first_failures_lines_come_first(dpu, script):
    script.tasks = [task(0, "ccd50"), at(1, 20), at(2, 10), task(3, "ccd53")]
    script.logs = [*(batch(number, f"from {number}", offset=number + 1) for number in range(4)), job_end(9)]
    lines = dpu.get_logs(84820).splitlines()
    assert [line[-1] for line in lines if "from" in line] == ["2", "0", "1", "3"]


def test_what_is_asked_for_reaches_the_log_service(dpu, script):
    script.logs = [job_end(1)]
    dpu.get_logs(84820, tail=5, grep="noise", chip="ccd50", level="Warning")
    dpu.get_logs(84820, chip=["ccd50", "ccd51"])
    words = {"job_id": 84820, "newest_attempt": True}
    assert asked(script) == [
        ReadRequest(tail=5, pattern="noise", chips=["ccd50"], level=LOG_LEVEL_WARNING, **words),
        ReadRequest(chips=["ccd50", "ccd51"], **words),
    ]


def test_a_selection_leaves_out_the_tasks_that_have_none_of_it(dpu, script):
    script.tasks = [task(0, "ccd50"), at(1, 10, failure=job_pb2.Failure(message="saturated"))]
    script.logs = [batch(0, "the one line", offset=1), task_end(1, 2, FAILED), job_end(3)]
    lines = dpu.get_logs(84820, grep="one").splitlines()
    assert len(lines) == 5
    assert lines[-1].endswith(" - the one line")
    assert dpu.get_logs(84820, grep="one", chip="") == "".join(f"{line}\n" for line in lines)


def test_of_a_job_that_ended_a_moment_ago_the_lines_on_their_way_are_waited_for(dpu, script):
    script.jobs[84820].ended.FromDatetime(NOON)
    script.tasks = [task(0, "ccd50")]
    script.logs = [batch(0, "the first", offset=1), job_end(2, open=True)]
    script.late_logs = [batch(0, "the last", offset=2), job_end(3)]
    lines = dpu.get_logs(84820, tail=1).splitlines()
    assert [line.partition(" - ")[2] for line in lines[4:]] == ["the first", "the last"]
    assert [(request.follow, request.tail) for request in asked(script)] == [(False, 1), (True, 1), (False, 1)]


def test_the_log_of_a_job_that_goes_on_or_was_removed_long_ago_is_not_waited_for(dpu, script):
    script.logs = [job_end(1, open=True)]
    dpu.get_logs(84820)
    script.jobs[84820].ended.FromDatetime(NOON - timedelta(days=40))
    dpu.get_logs(84820)
    assert not any(request.follow for request in asked(script))


def test_lines_that_were_deleted_are_said_to_be(dpu, script):
    end = job_end(1)
    end.end.deleted_by = "anna"
    script.logs = [end]
    assert dpu.get_logs(84820) == "12:00:00 - the lines of job 84820 were deleted by anna\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"tail": -1}, "tail=-1: must be a number of lines"),
        ({"tail": "5"}, "tail='5': must be a number of lines"),
        ({"tail": 2**63}, "tail=9223372036854775808: must be a number of lines"),
        ({"level": "loud"}, "level='loud': must be one of debug, info, warning, error"),
        ({"grep": 7}, "grep=7: must be a pattern"),
    ],
)
def test_a_word_that_makes_no_sense_is_named(dpu, words, why):
    with pytest.raises(BadOption, match=why):
        dpu.get_logs(84820, **words)


def test_one_job_at_a_time_is_followed(dpu):
    with pytest.raises(UsageError, match=r"jobids=\[1, 2\]: one job at a time can be followed"):
        dpu.get_logs([1, 2], follow=True)


def test_a_followed_log_is_printed_returned_and_kept(dpu, script, tmp_path):
    script.tasks = [task(0, "ccd50"), task(1, "ccd51")]
    script.logs = [batch(1, "hello", offset=1), task_end(1, 2), job_end(3)]
    script.break_logs_after = 1
    text = dpu.get_logs(84820, follow=True)
    assert [line.partition(" - ")[2] for line in text.splitlines()] == [
        "ccd51: hello",
        f"ccd51: {'+' * 44}",
        "ccd51: job_status = 0",
        f"ccd51: {'+' * 44}",
    ]
    assert text.splitlines()[0] in printed(dpu)
    assert printed(dpu)[-1] == "[schmidt] 12:00:00 - Jobid 84820 has status FINISHED N/E/A/S/U 2/0/0/0/0"
    (kept,) = tmp_path.glob("*.log")
    assert kept.read_text() == text


def test_a_tail_is_asked_for_once_when_a_followed_stream_breaks(dpu, script):
    script.tasks = [task(0, "ccd50")]
    script.logs = [batch(0, "one", offset=1), batch(0, "two", offset=2), job_end(3)]
    script.break_logs_after = 1
    text = dpu.get_logs(84820, follow=True, tail=2)
    assert [line[-3:] for line in text.splitlines()] == ["one", "two"]
    assert [(request.tail, request.offset) for request in asked(script)] == [(2, 0), (0, 1)]


@contextmanager
def interrupted(when):
    """Have the main thread's Ctrl-C come once `when` holds."""
    import _thread

    def press():
        deadline = time.monotonic() + 10
        while not when():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        _thread.interrupt_main()

    pressing = threading.Thread(target=press)
    pressing.start()
    yield
    pressing.join()


def test_ctrl_c_leaves_following_and_nothing_else(dpu, script):
    script.jobs = {84820: job(state=job_pb2.JOB_STATE_RUNNING)}
    script.tasks = [task(0, "ccd50", RUNNING)]
    script.logs = [batch(0, "so far", offset=1)]
    with interrupted(lambda: any("so far" in line for line in printed(dpu))):
        text = dpu.get_logs(84820, follow=True)
    assert text.endswith("ccd50: so far\n")
    goes_on = "dpu.wait(84820), dpu.get_logs(84820), dpu.cancel_job(84820)"
    assert printed(dpu)[-1] == f"[schmidt] 12:00:00 - Job 84820 goes on: {goes_on}"
    assert not [method for method, _ in script.asked if method == "CancelJobs"]
    # The connection is whole, and no thread of the reading is left.
    dpu.get_status(84820)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("log of job")]


def test_everything_is_the_question_that_selects_nothing():
    assert not EVERYTHING.selects
    assert not LogQuestion.of(chip=["", ""]).selects
    assert LogQuestion.of(chip="ccd50").selects


def test_following_a_log_that_ended_waits_for_all_of_it(dpu, script):
    script.tasks = [task(0, "ccd50")]
    script.logs = [*(batch(0, f"line {number}", offset=number + 1) for number in range(500)), job_end(501)]
    lines = lines_followed(dpu.link, 84820, dpu._reporter, EVERYTHING)
    assert [line.rpartition(" ")[2] for line in lines] == [str(number) for number in range(500)]


def test_no_loop_is_needed_to_follow(dpu, script):
    """The prompt has a loop of its own: following must not disturb it."""
    script.logs = [job_end(1)]

    async def at_a_prompt():
        return dpu.get_logs(84820, follow=True)

    assert asyncio.run(at_a_prompt()) == ""
