from typing import Any

import pytest

from dpu_api.v1.dispatch_pb2 import TaskLease, TaskReport
from dpu_api.v1.job_pb2 import Limits, TaskRef, TaskSpec
from dpud.worker.leases import Leases


def lease(task: int, memory_mib: int = 100, **changes: Any) -> TaskLease:
    ref = TaskRef(job_id=7, task=task, attempt=1)
    return TaskLease(ref=ref, token=f"t{task}", limits=Limits(memory_mib=memory_mib), **changes)


def report(of: TaskLease, run_s: float = 0.0) -> TaskReport:
    return TaskReport(ref=of.ref, token=of.token, run_s=run_s)


def end(leases: Leases, of: TaskLease, run_s: float = 0.0) -> None:
    leases.end(report(of, run_s))
    leases.freed(of)


def test_a_worker_asks_for_as_many_tasks_as_it_has_slots() -> None:
    demand = Leases(slots=3, memory_mib=1000).demand()
    assert (demand.ended, demand.held, demand.room, demand.memory_mib) == ([], [], 3, 1000)


def test_held_leases_take_room_and_memory_whether_started_or_not() -> None:
    leases = Leases(slots=3, memory_mib=1000)
    leases.take([lease(1), lease(2, memory_mib=300)])
    assert leases.start() == [lease(1)]
    demand = leases.demand()
    assert [(held.ref.task, held.token, held.started) for held in demand.held] == [(1, "t1", True), (2, "t2", False)]
    assert (demand.room, demand.memory_mib) == (1, 600)


def test_a_lease_that_comes_twice_is_held_once() -> None:
    leases = Leases(slots=3, memory_mib=1000)
    leases.take([lease(1)])
    leases.take([lease(1)])
    leases.start()
    leases.take([lease(1)])
    assert (len(leases.running), leases.waiting) == (1, [])


def test_no_more_tasks_run_than_there_are_slots() -> None:
    leases = Leases(slots=1, memory_mib=1000)
    leases.take([lease(1), lease(2)])
    assert leases.start() == [lease(1)]
    assert leases.start() == []
    end(leases, lease(1))
    assert leases.start() == [lease(2)]


def test_a_task_waits_for_its_memory_and_a_large_one_runs_alone() -> None:
    leases = Leases(slots=3, memory_mib=1000)
    leases.take([lease(1, memory_mib=600), lease(2, memory_mib=2000)])
    assert leases.start() == [lease(1, memory_mib=600)]
    assert leases.start() == []
    end(leases, lease(1, memory_mib=600))
    assert leases.start() == [lease(2, memory_mib=2000)]


def test_the_memory_of_a_lease_without_limit_is_that_of_its_plan() -> None:
    leases = Leases(slots=1, memory_mib=1000)
    leases.take([lease(1, memory_mib=0, spec=TaskSpec(memory_mib=250))])
    assert leases.demand().memory_mib == 750


def test_a_report_is_told_once_until_it_is_acknowledged() -> None:
    leases = Leases(slots=1, memory_mib=1000)
    leases.take([lease(1)])
    leases.start()
    leases.end(report(lease(1)))
    first = leases.demand()
    assert first.ended == [report(lease(1))]
    assert first.held == []
    assert leases.demand().ended == []
    assert not leases.done
    leases.acknowledged([lease(1).ref])
    assert leases.done


def test_a_report_that_may_not_have_been_heard_is_told_again() -> None:
    leases = Leases(slots=1, memory_mib=1000)
    leases.take([lease(1)])
    leases.end(report(lease(1)))
    assert leases.demand().ended == [report(lease(1))]
    leases.retell()
    assert leases.demand().ended == [report(lease(1))]
    assert not leases.done


def test_a_forgotten_lease_is_never_reported() -> None:
    leases = Leases(slots=1, memory_mib=1000)
    leases.take([lease(1), lease(2)])
    leases.start()
    leases.forget(lease(1).ref)
    leases.forget(lease(2).ref)
    assert leases.done


@pytest.mark.parametrize(("run_s", "room"), [(10.0, 2), (1.0, 3), (0.05, 6), (0.001, 202), (1e-5, 514)])
def test_the_shorter_the_tasks_the_more_are_fetched_ahead(run_s: float, room: int) -> None:
    leases = Leases(slots=2, memory_mib=100_000)
    for task in range(30):
        leases.end(report(lease(task), run_s=run_s))
    assert leases.demand().room == room


def test_what_waits_can_be_handed_back() -> None:
    leases = Leases(slots=1, memory_mib=1000)
    leases.take([lease(1), lease(2), lease(3)])
    leases.start()
    assert leases.hand_back() == [lease(2), lease(3)]
    assert (len(leases.running), leases.waiting, leases.dry) == (1, [], False)


def test_only_what_renews_names_what_is_held() -> None:
    leases = Leases(2, 4096)
    leases.take([lease(1), lease(2), lease(3)])
    leases.start()
    assert [(held.ref.task, held.started) for held in leases.demand().held] == [(1, True), (2, False), (3, False)]
    assert leases.demand(renewing=False).held == []
