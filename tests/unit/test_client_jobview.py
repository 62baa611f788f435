"""A job as a table: whole, in a narrow window, in a notebook, and when it has very many tasks."""

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from dpu.jobview import COLUMNS, MOST_ROWS, JobView, to_view
from dpu_api.v1 import job_pb2
from fakes_client import task

STARTED = datetime(2000, 4, 29, 9, 55, 55, tzinfo=UTC)


def timed(number: int, seconds: float, **changes: object) -> job_pb2.Task:
    made = task(number, "ccd50", **changes)
    made.started.FromDatetime(STARTED)
    made.ended.FromDatetime(STARTED + timedelta(seconds=seconds))
    return made


FAILURE = job_pb2.Failure(message="no read noise\nof ccd51", category=job_pb2.FAILURE_CATEGORY_RECIPE)
TASKS = (
    timed(1, 2.25, worker="w1"),
    task(2, "ccd51", job_pb2.TASK_STATE_FAILED, failure=FAILURE),
    task(3, "ccd52", job_pb2.TASK_STATE_QUEUED),
)


def view(*tasks: job_pb2.Task) -> JobView:
    status = "Jobid 84820 has status FAILED N/E/A/S/U 1/1/0/1/0"
    return JobView(id=84820, sequence="Bias", state="FAILED", status=status, tasks=tuple(map(to_view, tasks)))


def test_a_task_says_chip_stage_state_attempt_worker_times_and_first_error():
    local = f"{STARTED.astimezone():%H:%M:%S}"
    assert [item.cells() for item in view(*TASKS).tasks] == [
        ("1", "Bias", "ccd50", "SUCCEEDED", "1", "w1", local, "2.2", ""),
        ("2", "Bias", "ccd51", "FAILED", "1", "", "", "", "no read noise"),
        ("3", "Bias", "ccd52", "QUEUED", "1", "", "", "", ""),
    ]


def test_a_plan_task_is_told_apart():
    assert to_view(task(0, "", plan=True)).stage == "plan of Bias"


def test_the_text_is_a_table_below_the_status(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    lines = str(view(*TASKS)).splitlines()
    assert lines[0].rstrip() == "Bias: Jobid 84820 has status FAILED N/E/A/S/U 1/1/0/1/0"
    assert [word for word in lines[2].split() if word.isalpha()] == list(COLUMNS.names)
    assert "no read noise" in lines[5]


@pytest.mark.parametrize("columns", [30, 60, 200])
def test_no_line_is_wider_than_the_window(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert max(map(len, str(view(*TASKS)).splitlines())) <= columns


def test_in_a_narrow_window_whole_columns_are_left_out_and_no_word_is_broken(monkeypatch):
    monkeypatch.setenv("COLUMNS", "48")
    lines = str(view(*TASKS)).splitlines()
    assert lines[3].split() == ["task", "stage", "chip", "state", "error"]
    assert lines[5].split() == ["1", "Bias", "ccd50", "SUCCEEDED"]
    assert lines[6].split() == ["2", "Bias", "ccd51", "FAILED", "no", "read", "noise"]


class Cells(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.cells.append(data)


def test_a_notebook_shows_the_same_and_nothing_of_a_message_becomes_markup():
    nasty = task(4, "<b>ccd</b>", job_pb2.TASK_STATE_FAILED, failure=job_pb2.Failure(message="<script>"))
    shown = view(*TASKS, nasty)._repr_html_()
    cells = Cells(shown).cells
    assert cells[1 : 1 + len(COLUMNS.names)] == list(COLUMNS.names)
    assert {"ccd50", "no read noise", "<b>ccd</b>", "<script>"} <= set(cells)
    assert "<script>" not in shown


def test_of_very_many_tasks_those_that_did_not_end_well_are_shown():
    many = [task(number, "ccd50") for number in range(MOST_ROWS + 100)]
    many[-1] = task(MOST_ROWS + 99, "ccd57", job_pb2.TASK_STATE_FAILED)
    shown = view(*many)
    assert (len(shown.shown()), shown.shown()[0].label) == (MOST_ROWS, "ccd57")
    assert shown.title.endswith("(100 tasks more are not shown)")
