"""Every line that is printed at the prompt, whole."""

from datetime import UTC, datetime

import pytest

from dpu.report import Reporter, block, calling, estimate, log_line, recognised, status
from dpu.screen import Stage, stages_of
from dpu_api.v1 import job_pb2
from fakes_client import CATALOGUE, job, task

NOON = datetime(2005, 9, 7, 12, 22, 16, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (
            {"d": "2000-04-28", "i": "WFI", "c": "ccd50"},
            "HotPixels(project=KIDS, instrument=, i=WFI, c=ccd50, d=2000-04-28)",
        ),
        (
            {"C": 1, "date": "2000-04-28", "instrument": "WFI", "p": {"a.b": 5.0}, "f": "#842"},
            "HotPixels(project=KIDS, instrument=WFI, date=2000-04-28, f=#842, C=1, p={'a.b': 5.0})",
        ),
        ({"raw": ["x.fits"], "o": "CDF4_B_?"}, "HotPixels(project=KIDS, instrument=, o=CDF4_B_?, raw=['x.fits'])"),
    ],
)
def test_calling_shows_project_instrument_then_i_c_d_f_o_then_the_rest_as_given(given, shown):
    assert calling("HotPixels", "KIDS", given) == f"Calling: {shown}"


@pytest.mark.parametrize(("seconds", "shown"), [(10.4, "10 seconds"), (0.2, "1 second"), (3600, "3600 seconds")])
def test_an_estimate_is_in_whole_seconds(seconds, shown):
    assert estimate(seconds) == f"Estimated process time : {shown}"


def test_a_status_counts_tasks_by_their_letters():
    counts = job_pb2.TaskCounts(normal=75)
    assert status(job(84820, counts=counts)) == "Jobid 84820 has status FINISHED N/E/A/S/U 75/0/0/0/0"


def test_a_line_is_headed_by_host_and_local_time():
    reporter = Reporter(host="schmidt", clock=lambda: NOON)
    assert reporter.line("x") == "[schmidt] 12:22:16 - x"


def test_a_block_is_headed_by_its_job_status():
    assert block(NOON, job_pb2.TASK_STATE_SUCCEEDED, [log_line(NOON, "Making ReadNoise object")]) == [
        "12:22:16 - ++++++++++++++++++++++++++++++++++++++++++++",
        "12:22:16 - job_status = 0",
        "12:22:16 - ++++++++++++++++++++++++++++++++++++++++++++",
        "12:22:16 -",
        "12:22:16 - Making ReadNoise object",
    ]


@pytest.mark.parametrize(
    ("state", "figure"),
    [("SUCCEEDED", "0"), ("FAILED", "1"), ("LOST", "1"), ("ABORTED", "2"), ("CANCELLED", "2")],
)
def test_job_status_is_0_for_well_1_for_an_error_2_for_aborted(state, figure):
    assert block(NOON, job_pb2.TaskState.Value(f"TASK_STATE_{state}"), [])[1] == f"12:22:16 - job_status = {figure}"


def test_options_are_shown_by_both_names_with_their_defaults():
    assert list(recognised(CATALOGUE.sequences[1]))[3:5] == [
        '  "c" or "chip" (default: )',
        '  "oc" or "overscan" (default: 6)',
    ]


def test_stages_count_tasks_and_no_plans():
    tasks = [
        task(0, "", plan=True),
        task(1, "a"),
        task(2, "b", job_pb2.TASK_STATE_FAILED),
        task(3, "c", job_pb2.TASK_STATE_RUNNING),
        task(4, "", job_pb2.TASK_STATE_QUEUED, plan=True, stage=1),
    ]
    assert stages_of(tasks) == [Stage(number=0, recipe="Bias", total=3, settled=2, failed=1)]
