"""What an agent knows of a task process before its guard has told its number."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

from dpud.worker.process import TaskProcess

if TYPE_CHECKING:
    from dpud.worker.channel import Tickets


class Machine:
    """A guard that tells what all processes take when it is asked for the process 0, from which all descend."""

    async def ended(self) -> None: ...

    def kill(self) -> None: ...

    async def bury(self, pid: int) -> None: ...

    async def memory_mib(self, pid: int) -> float:
        return 100.0 if pid else 1e6

    async def resident_mib(self, pid: int) -> float:
        return 50.0 if pid else 1e6


async def test_a_process_takes_nothing_until_its_number_is_known(tmp_path: Path) -> None:
    process = TaskProcess(tmp_path, Machine(), [], cast("Tickets", None))
    assert (await process.memory_mib(), await process.resident_mib()) == (0.0, 0.0)
    process.pid = 7
    assert (await process.memory_mib(), await process.resident_mib()) == (100.0, 50.0)
