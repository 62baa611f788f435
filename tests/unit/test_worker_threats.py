"""The table of threats: every row has a verdict for each form of a worker, and tests that try it."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TABLE = TESTS.parent / "docs/reference/threats.md"
TASKS, ISOLATION, AGENT = (
    "cluster/test_worker_tasks.py",
    "cluster/test_worker_isolation.py",
    "embedded/test_worker_agent.py",
)
FORMS = ["laptop", "root worker", "restricted pod"]
#: By threat: where it is tried, and by what: a test's name, a recipe's, or what a task attempts.
TRIED = {
    "it eats memory, alone or in children": {TASKS: ["EatMemory", "EatMemoryInChildren"]},
    "it never ends, ignores SIGTERM, sleeps through a cancel": {
        TASKS: ["Loop", "Stubborn", "test_a_cancelled_task_that_ignores_sigterm_is_killed_with_all_its_children"]
    },
    "it leaves processes behind, hidden in other sessions": {
        TASKS: ["test_processes_that_hide_in_a_session_of_their_own_end_with_their_task"]
    },
    "it kills its guard or its agent": {
        ISOLATION: ["test_a_task_cannot_kill_its_guard", "signal its agent"],
        TASKS: ["test_a_task_whose_guard_was_killed_ends_with_it"],
    },
    "it forks without end": {ISOLATION: ["Bomb"]},
    "it fills the disk": {TASKS: ["Fill", "FillWithMany"]},
    "it crashes, exits, raises what cannot be pickled or printed": {
        TASKS: ["Segfault", "Killed", "Exit3", "SysExit", "RaiseStrange"]
    },
    "it closes or floods its output, prints what is no text": {
        TASKS: ["CloseStdout", "test_strange_output_arrives_escaped"],
        "slow/test_worker_flood.py": ["test_a_task_that_prints_a_gigabyte_is_heard_to_the_end_and_harms_nobody"],
    },
    "it sends nonsense, or too much, to its agent": {
        TASKS: ["Nonsense"],
        "unit/test_worker_channel.py": ["test_nonsense_is_refused"],
    },
    "it leaves a thread, a handler, a variable for the next task": {
        TASKS: ["LeaveBehind"],
        "embedded/test_worker_leftovers.py": ["test_what_a_task_leaves_is_seen"],
    },
    "it leaves a changed module for the next task": {
        AGENT: ["test_a_process_is_used_again_by_one_user_and_one_tree_only"]
    },
    "it is killed with its agent (`kill -9`) and lives on": {
        TASKS: ["test_kill_9_of_the_worker_leaves_no_process_and_no_scratch"]
    },
    "it leaves memory behind that no process has": {ISOLATION: ["keep memory", "write in /dev/shm"]},
    "a shipped tree escapes its folder, lies about content, is a bomb": {
        "embedded/test_worker_caches.py": ["test_a_hostile_tree_is_refused_and_leaves_nothing"],
        "embedded/test_codeship_service.py": ["test_a_hostile_tree_is_refused_by_the_service_too", "test_a_bomb_"],
    },
    "a package that its tree asks for runs code where it is installed": {
        "embedded/test_worker_packages.py": [
            "test_what_is_no_lock_or_cannot_be_installed_is_refused_and_leaves_nothing",
            "test_where_nothing_is_installed_a_task_that_asks_is_refused_and_told_what_to_do",
        ]
    },
    "it reads its agent's token, environment, memory or open files": {
        ISOLATION: [
            "read the token",
            "read the agent's environment",
            "read the agent's memory",
            "see the agent's files",
        ]
    },
    "it reads or changes another task's scratch, code or caches": {
        ISOLATION: ["read another scratch", "write into another scratch", "change its code"]
    },
    "it changes code, interpreter or frames": {
        ISOLATION: ["add to its code", "write over the interpreter", "add to the packages", "change a frame"]
    },
    "it reads frames that the archive did not show it": {ISOLATION: ["list the frames", "list the archive"]},
    "it reads the user's home, keys, other files": {ISOLATION: ["list the homes", "read shadow", "list the root"]},
    "it uses the network, or a local service's socket": {
        ISOLATION: ["open a socket", "call the services", "send a datagram", "use io_uring"]
    },
    "it asks the archive for another project's frames": {
        AGENT: ["test_a_task_reads_and_makes_frames_through_its_agent"]
    },
    "it stages a file that is not its own": {
        ISOLATION: ["test_a_product_is_not_taken_from_where_a_task_has_put_a_link"]
    },
    "it becomes another user (set-uid programs)": {ISOLATION: ["become root"]},
    "it attacks the kernel": {ISOLATION: ["mount", "clone into a user namespace", "load a program into the kernel"]},
    "it learns who runs what on the machine": {},
}


def rows() -> list[list[str]]:
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert table[0][:4] == ["threat", *FORMS]
    return table[2:]


def test_every_row_has_a_verdict_for_each_form_and_says_by_what() -> None:
    for threat, *verdicts, by_what in rows():
        assert len(verdicts) == len(FORMS), threat
        assert {*verdicts} <= {"yes", "partly", "no"}, threat
        assert by_what, threat


def test_every_threat_is_tried_and_no_other() -> None:
    assert [row[0] for row in rows()] == list(TRIED)


@pytest.mark.parametrize("threat", [threat for threat, where in TRIED.items() if where])
def test_what_tries_a_threat_is_there(threat: str) -> None:
    for file, names in TRIED[threat].items():
        text = (TESTS / file).read_text()
        missing = [name for name in names if not re.search(rf"def {re.escape(name)}|\"{re.escape(name)}\"", text)]
        assert not missing, f"{file} has no {missing}"


def test_what_nobody_tries_is_not_called_defended() -> None:
    untried = [row for row in rows() if not TRIED[row[0]]]
    assert [row[1:3] for row in untried] == [["no", "no"]]
