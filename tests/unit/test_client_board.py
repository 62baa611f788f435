"""The board of all jobs: lines of what has changed, or a table that is drawn over itself."""

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from dpu.board import Picture, watch
from dpu.report import Reporter
from dpu_api.v1 import job_pb2
from fakes_client import job

NOW = datetime(2000, 4, 29, 9, 55, 55, tzinfo=UTC)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def reporter(out: io.StringIO) -> Reporter:
    return Reporter(host="schmidt", clock=lambda: NOW, out=out)


def running(jobid: int, normal: int) -> job_pb2.Job:
    counts = job_pb2.TaskCounts(normal=normal, submitted=2 - normal)
    return job(jobid, state=job_pb2.JOB_STATE_RUNNING, counts=counts)


def drawn(jobs: list[job_pb2.Job], columns: int, lines: int) -> list[str]:
    console = Console(file=io.StringIO(), width=columns, height=lines)
    with console.capture() as seen:
        console.print(Picture(jobs, NOW))
    return [line.rstrip() for line in seen.get().splitlines() if line.strip()]


LOOKS = [[running(1, 0), running(2, 0)], [running(1, 1), running(2, 0)], [job(1), job(2)]]


def test_elsewhere_than_on_a_terminal_a_line_is_printed_for_each_change():
    out, looks = io.StringIO(), iter(LOOKS)
    watch(lambda: next(looks), reporter(out), pause_s=0)
    assert [line.removeprefix("[schmidt] 09:55:55 - ") for line in out.getvalue().splitlines()] == [
        "Jobid 1 has status RUNNING N/E/A/S/U 0/0/0/2/0",
        "Jobid 2 has status RUNNING N/E/A/S/U 0/0/0/2/0",
        "Jobid 1 has status RUNNING N/E/A/S/U 1/0/0/1/0",
        "Jobid 1 has status FINISHED N/E/A/S/U 2/0/0/0/0",
        "Jobid 2 has status FINISHED N/E/A/S/U 2/0/0/0/0",
    ]
    assert next(looks, None) is None


def test_on_a_terminal_it_is_a_table_until_the_last_has_ended(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    out, looks = Terminal(), iter(LOOKS)
    watch(lambda: next(looks), reporter(out), pause_s=0)
    assert "1/0/0/1/0" in out.getvalue()
    assert out.getvalue().rpartition("sequence")[2].count("FINISHED") == 2
    assert next(looks, None) is None


@pytest.mark.parametrize(("columns", "kept"), [(100, "running"), (60, "running"), (48, "running"), (40, "N/E/A/S/U")])
def test_in_a_narrow_window_whole_columns_are_left_out(columns, kept):
    head, _, row = drawn([running(84820, 1)], columns, 24)[:3]
    assert head.split()[-1] == kept
    assert {"84820", "Bias", "RUNNING", "1/0/0/1/0"} <= set(row.split())


def test_in_a_low_window_jobs_that_have_ended_make_way_and_are_counted():
    jobs = [running(1, 0), *(job(number) for number in range(2, 40)), running(40, 1)]
    *lines, caption = drawn(jobs, 100, 10)
    assert [line.split()[0] for line in lines[2:]] == ["1", "38", "39", "40"]
    assert caption == "Ctrl-C leaves the board; the jobs go on; 36 more are not shown"


def test_ctrl_c_leaves_it():
    def interrupted() -> list[job_pb2.Job]:
        raise KeyboardInterrupt

    watch(interrupted, reporter(io.StringIO()))
