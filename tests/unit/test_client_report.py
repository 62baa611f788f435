"""Every line that is printed at the prompt, whole."""

import io
import re
from datetime import UTC, datetime

import pytest
from IPython.lib import pretty

from dpu.report import Reporter, block, calling, estimate, log_line, recognised, status
from dpu.screen import Stage, screen_for, stages_of
from dpu.sessionlog import Logs
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


class Terminal(io.StringIO):
    """What takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_a_stage_and_lines_above_as_they_are():
    terminal = Terminal()
    reporter = Reporter(host="schmidt", clock=lambda: NOON, out=terminal)
    tasks = [task(0, "a"), task(1, "b", job_pb2.TASK_STATE_FAILED), task(2, "c", job_pb2.TASK_STATE_RUNNING)]
    failed = job(state=job_pb2.JOB_STATE_FAILED, counts=job_pb2.TaskCounts(normal=2, error=1))
    with screen_for(reporter) as screen:
        assert screen.wants_stages
        screen.update(job(state=job_pb2.JOB_STATE_RUNNING), stages_of(tasks))
        screen.line("12:22:16 - [bold]as it is[/bold] :smile:")
        screen.update(failed, stages_of([*tasks[:2], task(2, "c")]))
    shown = terminal.getvalue()
    assert "12:22:16 - [bold]as it is[/bold] :smile:\n" in shown
    assert re.search(r"Bias .*3/3.* .*1 failed", shown)
    assert "[schmidt] 12:22:16 - Jobid 84820 has status FAILED N/E/A/S/U 2/1/0/0/0\n" in shown


def test_what_is_no_terminal_gets_a_line_a_change():
    out = io.StringIO()
    with screen_for(Reporter(host="schmidt", clock=lambda: NOON, out=out)) as screen:
        assert not screen.wants_stages
        for _ in range(2):
            screen.update(job(), [])
        screen.line("a line")
    assert out.getvalue() == "[schmidt] 12:22:16 - Jobid 84820 has status FINISHED N/E/A/S/U 2/0/0/0/0\na line\n"


def test_logs_are_text_that_the_prompt_does_not_show_twice():
    logs = Logs("one\ntwo\n")
    assert logs == "one\ntwo\n"
    assert pretty.pretty(logs) == "<2 lines of logs>"
