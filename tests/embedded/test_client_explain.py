"""Why a job is where it is, and doing it again."""

import io
from datetime import UTC, datetime

import pytest

from dpu.errors import BadOption, NotFound, UsageError
from dpu.processor import Processor
from dpu.report import Reporter
from dpu_api.v1 import job_pb2, scheduler_pb2
from fakes_client import Script, configured, job, serving

NOW = datetime(2000, 4, 29, 9, 55, 55, tzinfo=UTC)


@pytest.fixture
def script():
    failure = job_pb2.Failure(message="no read noise\nof ccd51")
    by = job_pb2.Cancellation(by="osada", reason="wrong night")
    jobs = {
        1: job(1),
        2: job(2, state=job_pb2.JOB_STATE_FAILED, counts=job_pb2.TaskCounts(error=2), failure=failure),
        3: job(3, state=job_pb2.JOB_STATE_QUEUED, counts=job_pb2.TaskCounts(submitted=3)),
        4: job(4, state=job_pb2.JOB_STATE_CANCELLED, counts=job_pb2.TaskCounts(aborted=3), cancellation=by),
    }
    told = scheduler_pb2.ExplainJobResponse(
        waits=[
            scheduler_pb2.Wait(reason=scheduler_pb2.WAIT_REASON_SHARE, tasks=2, message="waiting for a free slot"),
            scheduler_pb2.Wait(reason=scheduler_pb2.WAIT_REASON_RUNNING, tasks=1, message="running on local"),
            scheduler_pb2.Wait(
                reason=scheduler_pb2.WAIT_REASON_INPUTS, message="a later stage waits for what Bias makes"
            ),
        ],
        position=4,
    )
    told.may_start.FromDatetime(NOW)
    return Script(jobs=jobs, explanation=told)


@pytest.fixture
def dpu(tmp_path, script):
    with serving(tmp_path, script) as address:
        reporter = Reporter(host="schmidt", clock=lambda: NOW, out=io.StringIO())
        processor = Processor(configured(tmp_path, address), reporter=reporter)
        yield processor
        processor.close()


def said(dpu) -> list[str]:
    return [line.removeprefix("[schmidt] 09:55:55 - ") for line in dpu._reporter.out.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("jobid", "lines"),
    [
        (1, ["Jobid 1 has status FINISHED N/E/A/S/U 2/0/0/0/0"]),
        (2, ["Jobid 2 has status FAILED N/E/A/S/U 0/2/0/0/0", "The first failure: no read noise"]),
        (
            3,
            [
                "Jobid 3 has status QUEUED N/E/A/S/U 0/0/0/3/0",
                "2 tasks: waiting for a free slot",
                "1 task: running on local",
                "a later stage waits for what Bias makes",
                "Its place in the queue is 4",
                f"Its next task may start at {NOW.astimezone():%H:%M:%S}",
            ],
        ),
        (4, ["Jobid 4 has status CANCELLED N/E/A/S/U 0/0/3/0/0", "Cancelled by osada: wrong night"]),
    ],
)
def test_a_job_says_what_it_waits_for_or_how_it_ended(dpu, jobid, lines):
    dpu.explain(jobid)
    assert said(dpu) == lines


@pytest.mark.parametrize(("given", "only_failed"), [({}, False), ({"only": "failed"}, True)])
def test_a_job_is_done_again_as_a_new_one(dpu, script, given, only_failed):
    assert dpu.retry(2, **given) == 90002
    (request,) = [asked for method, asked in script.asked if method == "RetryJob"]
    assert (request.job_id, request.only_failed, len(request.request_id)) == (2, only_failed, 36)
    assert said(dpu) == ["Sending job with identifier 90002 to DPU, which does job 2 again"]
    assert 90002 in dpu.get_jobids()


@pytest.mark.parametrize(
    ("jobid", "only", "kind", "message"),
    [
        (7, "", NotFound, "there is no job 7"),
        (3, "", UsageError, "job 3 has not ended"),
        (2, "faild", BadOption, "only='faild': must be 'failed', or left out to do all of it again"),
    ],
)
def test_what_cannot_be_done_again_is_one_line(dpu, jobid, only, kind, message):
    with pytest.raises(kind, match=message):
        dpu.retry(jobid, only=only)
