"""The rules of the log aggregator, without any input or output."""

import pytest

from dpu.errors import Conflict, UsageError
from dpud.logs.ledger import SECOND_US, CloseJob, CloseTask, DeleteLines, Ledger, TakeLines
from dpud.logs.record import Deleted, JobClosed, Lines, Opened, Owned, TaskClosed, TaskEnded, TaskLabelled

NOW = 1_000 * SECOND_US
SUCCEEDED, FINISHED = 3, 4
HOUR = 3600 * SECOND_US


def take(first, count, *, task=0, attempt=1, **said):
    return TakeLines(task, attempt, first, count, lambda start, stop: f"{start}-{stop}".encode(), **said)


def close(lines, *, task=0, attempt=1, patience_s=30):
    return CloseTask(task, attempt, SUCCEEDED, lines, patience_s * SECOND_US)


def do(ledger, command, now=NOW):
    """Carry a command out as the aggregator does, and return all that it led to."""
    records = ledger.decide(command, now)
    for record in records:
        ledger.apply(record)
    ends = ledger.settle(now)
    for record in ends:
        ledger.apply(record)
    return [*records, *ends]


def settle(ledger, now):
    ends = ledger.settle(now)
    for record in ends:
        ledger.apply(record)
    return ends


def end(lines, *, complete, missing="", attempt=1, state=SUCCEEDED, now=NOW):
    return TaskEnded(now, 0, attempt, state, lines, complete, missing)


def test_lines_are_taken_as_they_come():
    ledger = Ledger()
    assert do(ledger, take(0, 10)) == [Lines(NOW, 0, 1, 0, 10, b"0-10")]
    assert ledger.acknowledged(0, 1) == 10
    assert ledger.end == 10


def test_a_repeated_batch_adds_nothing():
    ledger = Ledger()
    do(ledger, take(0, 10))
    assert do(ledger, take(0, 10)) == []
    assert ledger.acknowledged(0, 1) == 10


def test_a_batch_that_overlaps_is_trimmed_on_both_sides():
    ledger = Ledger()
    do(ledger, take(0, 10))
    do(ledger, take(20, 10))
    assert do(ledger, take(5, 20)) == [Lines(NOW, 0, 1, 10, 10, b"10-20")]


def test_the_lines_of_two_attempts_are_two():
    ledger = Ledger()
    do(ledger, take(0, 10))
    assert do(ledger, take(0, 3, attempt=2)) == [Lines(NOW, 0, 2, 0, 3, b"0-3")]
    assert not ledger.is_newest(0, 1)
    assert ledger.is_newest(0, 2)


def test_a_task_ends_at_once_when_all_its_lines_are_here():
    ledger = Ledger()
    do(ledger, take(0, 10))
    closed = TaskClosed(NOW, 0, 1, SUCCEEDED, 10, 30 * SECOND_US)
    assert do(ledger, close(10)) == [closed, end(10, complete=True)]


def test_a_task_that_printed_nothing_is_complete():
    assert do(Ledger(), close(0, attempt=0))[1] == end(0, complete=True, attempt=0)


def test_a_task_ends_with_its_last_line_when_it_was_closed_before():
    ledger = Ledger()
    do(ledger, take(0, 5))
    do(ledger, close(10))
    assert do(ledger, take(5, 5), NOW + 1) == [
        Lines(NOW + 1, 0, 1, 5, 5, b"5-10"),
        end(10, complete=True, now=NOW + 1),
    ]


def test_patience_ends_with_what_is_missing():
    ledger = Ledger()
    do(ledger, take(0, 5))
    do(ledger, take(7, 1))
    do(ledger, close(10))
    due = ledger.due()
    assert due == NOW + 30 * SECOND_US
    assert settle(ledger, due - 1) == []
    why = "the worker was lost or could not reach the log service"
    missing = f"lines 5-6, 8-9 of 10 did not arrive within 30 s after the end: {why}"
    assert settle(ledger, due) == [end(10, complete=False, missing=missing, now=due)]
    assert ledger.due() is None


def test_of_many_holes_the_first_five_are_named():
    ledger = Ledger()
    for line in range(1, 20, 2):
        do(ledger, take(line, 1))
    do(ledger, close(20, patience_s=0))
    assert not ledger.complete
    told = Ledger()
    for line in range(1, 20, 2):
        do(told, take(line, 1))
    (_, ended) = do(told, close(20, patience_s=0))
    assert ended.missing.startswith("lines 0, 2, 4, 6, 8 and 5 more ranges of 20 did not arrive")


def test_a_lost_worker_leaves_a_number_of_lines_that_nobody_knows():
    ledger = Ledger()
    do(ledger, take(0, 5))
    do(ledger, close(-1))
    (ended,) = settle(ledger, NOW + 30 * SECOND_US)
    assert not ended.complete
    assert ended.missing == "the worker was lost; 5 lines arrived, and whether there were more is not known"


def test_late_lines_correct_what_followers_were_told():
    ledger = Ledger()
    do(ledger, take(0, 5))
    do(ledger, close(10, patience_s=0))
    do(ledger, CloseJob(FINISHED))
    assert ledger.ended
    assert not ledger.complete
    later = NOW + 23 * HOUR
    assert do(ledger, take(5, 5), later)[1] == end(10, complete=True, now=later)
    assert ledger.ended
    assert ledger.complete


def test_lines_are_not_taken_a_day_after_the_end():
    ledger = Ledger()
    do(ledger, take(0, 5))
    do(ledger, close(10))
    with pytest.raises(UsageError, match="lines 5-9 come too late"):
        ledger.decide(take(5, 5), NOW + 25 * HOUR)
    assert ledger.decide(take(0, 5), NOW + 25 * HOUR) == []


def test_an_old_attempt_may_still_deliver_when_a_newer_one_runs():
    ledger = Ledger()
    do(ledger, take(0, 5))
    do(ledger, close(-1, patience_s=0))
    do(ledger, take(0, 1, attempt=2))
    assert do(ledger, take(5, 2), NOW + HOUR) == [Lines(NOW + HOUR, 0, 1, 5, 2, b"5-7")]


def test_closing_twice_says_nothing_new():
    ledger = Ledger()
    do(ledger, close(0))
    do(ledger, CloseJob(FINISHED))
    assert do(ledger, close(0)) == []
    assert do(ledger, CloseJob(FINISHED)) == []


def test_a_job_does_not_end_before_its_tasks_are_settled():
    ledger = Ledger()
    do(ledger, take(0, 5))
    do(ledger, close(10))
    do(ledger, CloseJob(FINISHED))
    assert not ledger.ended
    settle(ledger, NOW + 30 * SECOND_US)
    assert ledger.ended


def test_an_attempt_that_nobody_closed_is_not_called_complete():
    ledger = Ledger()
    do(ledger, take(0, 5))
    records = do(ledger, CloseJob(FINISHED))
    missing = "nobody said how this attempt ended; 5 lines arrived, and whether there were more is not known"
    assert records == [JobClosed(NOW, FINISHED), end(-1, state=0, complete=False, missing=missing)]
    assert ledger.ended
    assert not ledger.complete


def test_a_close_that_comes_after_the_jobs_is_heard():
    ledger = Ledger()
    do(ledger, take(0, 5))
    do(ledger, CloseJob(FINISHED))
    assert do(ledger, close(5))[1] == end(5, complete=True)
    assert ledger.complete


def test_a_job_has_one_project():
    ledger = Ledger()
    (opened,) = ledger.open("KIDS", NOW)
    assert opened == Opened(NOW, "KIDS")
    ledger.apply(opened)
    assert ledger.open("KIDS", NOW) == []
    with pytest.raises(UsageError, match="belongs to project 'KIDS', not to 'VST'"):
        ledger.open("VST", NOW)


def test_a_replayed_ledger_goes_on_where_the_first_stopped():
    first, again = Ledger(), Ledger()
    done = [
        *do(first, take(0, 5)),
        *do(first, close(10)),
        *do(first, take(0, 2, task=1)),
        *do(first, CloseJob(FINISHED)),
    ]
    for record in done:
        again.apply(record)
    assert again.due() == first.due() == NOW + 30 * SECOND_US
    assert again.end == first.end
    assert settle(again, NOW + HOUR) == settle(first, NOW + HOUR)


def test_an_end_that_a_crash_swallowed_is_due_at_once():
    ledger = Ledger()
    for record in [Lines(NOW, 0, 1, 0, 5, b""), JobClosed(NOW, FINISHED)]:
        ledger.apply(record)
    assert ledger.due() == 0
    assert len(settle(ledger, NOW)) == 1


def test_whose_job_and_which_chip_it_is_is_noted_once():
    ledger = Ledger()
    said = do(ledger, take(0, 1, user="anna", label="ccd50"))
    assert said[:2] == [Owned(NOW, "anna"), TaskLabelled(NOW, 0, "ccd50")]
    assert do(ledger, take(1, 1, user="anna", label="ccd50")) == [Lines(NOW, 0, 1, 1, 1, b"1-2")]
    assert do(ledger, take(0, 1, task=1, user="carl", label="ccd51"))[0] == TaskLabelled(NOW, 1, "ccd51")
    assert (ledger.owner, ledger.labels) == ("anna", {0: "ccd50", 1: "ccd51"})


def ended():
    ledger = Ledger()
    for record in ledger.open("KIDS", NOW):
        ledger.apply(record)
    do(ledger, take(0, 1, user="anna"))
    do(ledger, close(1))
    do(ledger, CloseJob(FINISHED))
    return ledger


def test_only_a_job_that_has_ended_can_be_deleted():
    ledger = Ledger()
    do(ledger, take(0, 1))
    with pytest.raises(Conflict, match="has not ended"):
        ledger.decide(DeleteLines("anna"), NOW)
    assert ended().decide(DeleteLines("anna"), NOW) == [Deleted(NOW, "anna")]


def test_after_a_deletion_nothing_more_is_taken_or_told():
    ledger = ended()
    do(ledger, DeleteLines("anna"))
    for command in (DeleteLines("olga"), close(5), CloseJob(FINISHED)):
        assert do(ledger, command) == []
    with pytest.raises(UsageError, match="were deleted by anna"):
        ledger.decide(take(1, 1), NOW)
    assert ledger.ended
    assert not ledger.complete


def test_what_remains_of_a_deleted_job_says_so_and_holds_no_line():
    ledger = ended()
    do(ledger, DeleteLines("anna"))
    left = ledger.remains(NOW + 1)
    again = Ledger()
    for record in left:
        again.apply(record)
    assert (again.project, again.owner, again.deleted_by, again.end) == ("KIDS", "anna", "anna", 0)
    assert again.closed == ledger.closed
    assert again.ended


def test_what_is_settled_is_not_looked_at_again_for_the_sake_of_another():
    ledger = Ledger()
    for task in range(1_000):
        do(ledger, close(1, task=task))
    looked = []
    verdict = ledger._verdict
    ledger._verdict = lambda key, now: looked.append(key) or verdict(key, now)
    assert do(ledger, take(0, 1, task=7))[1].complete
    assert looked == [(7, 1)]


def test_late_lines_of_an_attempt_that_ended_incomplete_complete_it():
    ledger = Ledger()
    do(ledger, close(2, patience_s=1))
    do(ledger, take(0, 1))
    assert not settle(ledger, NOW + SECOND_US)[0].complete
    assert do(ledger, take(1, 1), NOW + 2 * SECOND_US)[1] == end(2, complete=True, now=NOW + 2 * SECOND_US)


def test_a_second_close_waits_by_its_own_patience():
    ledger = Ledger()
    do(ledger, close(-1, patience_s=1))
    do(ledger, close(5, patience_s=60))
    assert settle(ledger, NOW + SECOND_US) == []
    assert ledger.due() == NOW + 60 * SECOND_US
