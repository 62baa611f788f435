import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from dpu_api.v1.job_pb2 import TaskRef
from dpu_api.v1.logs_pb2 import AppendRequest, LogBatch
from dpud.worker.spool import Spool
from fakes_disk import files_of_at_most

KEY = (7, 1, 1)


def request(first: int, count: int = 1, task: int = 1, text: str = "line") -> AppendRequest:
    ref = TaskRef(job_id=7, task=task, attempt=1)
    texts = [f"{text} {first + number}" for number in range(count)]
    batch = LogBatch(
        ref=ref, first=first, time_us=[0] * count, levels=b"\2" * count, streams=b"\1" * count, texts=texts
    )
    return AppendRequest(batch=batch, project="survey")


async def size(file: Path) -> int:
    return (await asyncio.to_thread(file.stat)).st_size


Make = Callable[..., Spool]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "logs.spool"


@pytest.fixture
async def make(file: Path) -> AsyncIterator[Make]:
    """Make spools that are closed after the test."""
    made: list[Spool] = []

    def one(at: Path = file, **bounds: int) -> Spool:
        made.append(Spool(at, **bounds))
        return made[-1]

    yield one
    for spool in made:
        spool.close()


async def test_batches_leave_in_order_and_only_when_acknowledged(make: Make, file: Path) -> None:
    spool = make(file)
    for number in range(3):
        await spool.put(request(number))
    assert [(await spool.next(10)).batch.first for _ in range(3)] == [0, 1, 2]
    spool.acknowledge(KEY, 2)
    spool.rewind()
    assert (await spool.next(10)).batch.first == 2
    spool.acknowledge(KEY, 3)
    await asyncio.wait_for(spool.empty(), 60)


async def test_an_acknowledgement_of_one_attempt_is_none_of_another(make: Make, file: Path) -> None:
    spool = make(file)
    await spool.put(request(0, task=2))
    await spool.put(request(0, task=1))
    await spool.next(10)
    await spool.next(10)
    spool.acknowledge(KEY, 1)
    spool.rewind()
    assert (await spool.next(10)).batch.ref.task == 2


async def test_no_more_than_a_window_is_on_the_way(make: Make, file: Path) -> None:
    spool = make(file)
    await spool.put(request(0))
    await spool.put(request(1))
    await spool.next(1)
    waiting = asyncio.create_task(spool.next(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    spool.acknowledge(KEY, 1)
    assert (await asyncio.wait_for(waiting, 60)).batch.first == 1


async def test_what_memory_does_not_hold_waits_in_the_file_and_keeps_its_order(make: Make, file: Path) -> None:
    spool = make(file, memory=200, disk=100_000)
    for number in range(50):
        await spool.put(request(number))
    assert await size(file) > 0
    seen = []
    for number in range(50):
        seen.append((await spool.next(1)).batch.first)
        spool.acknowledge(KEY, number + 1)
    assert seen == list(range(50))
    await asyncio.wait_for(spool.empty(), 60)
    assert await size(file) == 0


async def test_a_full_spool_holds_the_task_back(make: Make, file: Path) -> None:
    spool = make(file, memory=100, disk=100)
    number = 0
    while True:
        putting = asyncio.create_task(spool.put(request(number)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if not putting.done():
            break
        number += 1
    assert 2 < number < 20
    for below in range(number):
        await spool.next(1)
        spool.acknowledge(KEY, below + 1)
    await asyncio.wait_for(putting, 60)


async def test_what_a_killed_worker_left_is_sent_by_the_next(make: Make, file: Path) -> None:
    killed = make(file, memory=1, disk=100_000)
    for number in range(4):
        await killed.put(request(number))
    # A half one is what the kill left at the end.
    left = await asyncio.to_thread(file.read_bytes)
    await asyncio.to_thread(file.write_bytes, left + left[:10])
    following = make(file)
    assert [(await following.next(10)).batch.first for _ in range(4)] == [0, 1, 2, 3]


async def test_what_was_not_sent_is_kept_when_the_spool_is_closed(make: Make, file: Path) -> None:
    spool = Spool(file)
    await spool.put(request(0))
    spool.close()
    assert (await make(file).next(10)).batch.first == 0


async def test_the_file_is_emptied_when_all_is_acknowledged_and_not_before(make: Make, file: Path) -> None:
    spool = make(file)
    for number in range(2):
        await spool.put(request(number))
        await spool.next(10)
    spool.acknowledge(KEY, 1)
    assert await size(file) > 0
    spool.acknowledge(KEY, 2)
    assert await size(file) == 0


async def test_a_disk_that_is_full_holds_the_task_back_and_loses_nothing(make: Make) -> None:
    spool = make(Path("/dev/full"), memory=1, disk=100_000)
    await spool.put(request(0))
    putting = asyncio.create_task(spool.put(request(1)))
    await asyncio.sleep(0)
    assert not putting.done()
    assert (await spool.next(10)).batch.first == 0
    spool.acknowledge(KEY, 1)
    await asyncio.wait_for(putting, 60)
    assert (await spool.next(10)).batch.first == 1


async def only_batch(spool: Spool, number: int) -> None:
    """Find one batch in a spool, and nothing else."""
    assert (await spool.next(10)).batch.first == number
    spool.acknowledge(KEY, number + 1)
    await asyncio.wait_for(spool.empty(), 5)


async def test_what_a_full_disk_took_of_a_batch_is_no_batch_for_the_next_worker(make: Make, file: Path) -> None:
    spool = make(file)
    with files_of_at_most(5000):
        await spool.put(request(0, text="\0" * 10_000))
    await spool.next(10)
    spool.acknowledge(KEY, 1)
    await spool.put(request(1))
    # A copy, as a kill would leave it.
    left = file.with_name("left")
    await asyncio.to_thread(shutil.copy, file, left)
    await only_batch(make(left), 1)


async def test_what_a_kill_left_of_a_batch_is_none_either_behind_what_came_later(make: Make, file: Path) -> None:
    make(file).close()
    await asyncio.to_thread(file.write_bytes, b"\0\0\10\0" + b"\0" * 500)
    spool = make(file)
    await spool.put(request(1))
    left = file.with_name("left")
    await asyncio.to_thread(shutil.copy, file, left)
    await only_batch(make(left), 1)
