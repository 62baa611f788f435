"""The tables of the states' reference say what the code says."""

import re
from pathlib import Path

import pytest

from dpu_api.v1.scheduler_pb2 import WaitReason
from dpud.scheduler import epoch, model, presence
from dpud.scheduler.explain import Reason
from dpud.scheduler.model import FailureCategory, JobState, TaskState

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "states.md").read_text()


def column(heading, number):
    """Return one column of the table behind a heading."""
    part = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")]
    return [row[number].strip() for row in rows[2:]]


def test_job_states_and_task_states_are_all_there():
    assert column("Jobs", 0) == [state.name for state in JobState]
    assert sorted(column("Tasks, and N/E/A/S/U", 1)) == sorted(state.name for state in TaskState)


def test_every_category_of_failure_has_its_row():
    rows = ", ".join(column("When an attempt does not end normally", 0)).split(", ")
    assert sorted(rows) == sorted(category.name for category in FailureCategory)


def test_reasons_to_wait_are_those_of_the_contract():
    assert column("What a job waits for", 0) == [reason.name for reason in Reason]
    names = {number: name.removeprefix("WAIT_REASON_") for name, number in WaitReason.items() if number}
    assert names == {int(reason): reason.name for reason in Reason}


@pytest.mark.parametrize(
    ("what", "seconds"),
    [
        ("lease without a renewal", model.LEASE_TERM_S),
        ("heartbeat of a worker", model.HEARTBEAT_S),
        ("session of a silent worker", presence.SESSION_TERM_S),
        ("plan task", model.PLAN_TIME_S),
        ("epoch of a scheduler on a shared database", epoch.TERM_S),
    ],
)
def test_times_are_those_of_the_code(what, seconds):
    said = dict(zip(column("Times", 0), column("Times", 1), strict=True))[what]
    assert float(re.match(r"\d+", said)[0]) == seconds
