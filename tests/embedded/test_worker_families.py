"""Who descends from whom among the processes of this machine, and what they take together."""

import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from dpud.worker import sandbox
from dpud.worker.families import Families

#: A process whose name looks like the end of its name, with a child and a grandchild; says when they are there.
PROGRAM = """
import subprocess, sys
open("/proc/self/comm", "w").write("a) S 1 (b")
inner = "import subprocess; subprocess.Popen(['sleep', '60']); print('there', flush=True); input()"
subprocess.run([sys.executable, "-c", inner])
"""


@pytest.fixture
def elder() -> Iterator[int]:
    """Give the number of a process that has a child, which has one in turn."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        try:
            yield process.pid
        finally:
            for each in (*psutil.Process(process.pid).children(recursive=True), process):
                each.kill()


def test_the_descendants_of_a_process_are_found_whatever_it_is_called(elder: int) -> None:
    known = Families()
    found = known.descendants(elder)
    assert found == [each.pid for each in psutil.Process(elder).children(recursive=True)]
    assert len(found) == 2
    assert known.descendants(found[0]) == found[1:]
    assert known.descendants(found[1]) == []
    assert set(known.descendants(os.getpid())) >= {elder, *found}


def test_what_is_known_is_told_again_until_it_is_old(elder: int) -> None:
    lasting, fresh = Families(fresh_s=3600), Families(fresh_s=0)
    before = [known.descendants(elder) for known in (lasting, fresh)]
    psutil.Process(before[0][1]).kill()
    psutil.Process(before[0][0]).kill()
    psutil.wait_procs([psutil.Process(pid) for pid in before[0] if psutil.pid_exists(pid)], timeout=10)
    assert lasting.descendants(elder) == before[0]
    assert fresh.descendants(elder) != before[1]


def test_a_family_takes_more_than_its_eldest_and_nobody_takes_nothing(elder: int) -> None:
    alone = sandbox.memory_mib(Families().descendants(elder)[0], Families())
    assert sandbox.memory_mib(elder, Families()) > alone > 0
    assert sandbox.memory_mib(2**22 + 1, Families()) == 0.0
