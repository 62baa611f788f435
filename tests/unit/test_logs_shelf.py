"""The shelf keeps so many jobs, and none goes that somebody uses."""

from __future__ import annotations

from dpud.logs.shelf import KEPT, Shelf


async def _nothing(_pieces: list[str]) -> None: ...


async def _found(job_id: int) -> list[str]:
    return [f"{job_id}.log"]


async def test_a_shelf_never_knows_more_jobs_than_it_keeps_and_lets_the_oldest_go() -> None:
    shelf = Shelf(_found, _nothing)

    known = []
    for job_id in range(2 * KEPT):
        await shelf.pieces(job_id)
        known.append(job_id in shelf)

    assert all(known)
    left = [job_id for job_id in range(2 * KEPT) if job_id in shelf]
    assert KEPT // 2 < len(left) <= KEPT
    assert left == list(range(left[0], 2 * KEPT))


async def test_a_job_that_is_read_or_written_stays_on_a_full_shelf() -> None:
    shelf = Shelf(_found, _nothing)
    shelf.busy.add(1)

    async with shelf.using(0), shelf.using(1):
        for job_id in range(2, 2 * KEPT):
            await shelf.pieces(job_id)
        assert {job_id for job_id in range(3) if job_id in shelf} == {0, 1}
