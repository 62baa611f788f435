from typing import Any

import pytest

from dpud.worker.leftovers import FORGOTTEN_FILES, State, differences

BEFORE = State(
    folder="/home",
    environment={"HOME": "/home"},
    threads=frozenset({1, 2}),
    handlers=(None, 0),
    umask=0o022,
    numpy_errors={"divide": "warn"},
    standard_files=((1, 1), (1, 2), (1, 3)),
    path=("/tree",),
    files=5,
    children=False,
)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"folder": "/elsewhere"}, "working folder"),
        ({"environment": {"LEFT": "1"}}, "environment"),
        ({"threads": frozenset({1, 2, 3})}, "threads"),
        ({"handlers": (None, 1)}, "signal handlers"),
        ({"umask": 0o777}, "umask"),
        ({"numpy_errors": {"divide": "raise"}}, "numpy's error state"),
        ({"standard_files": ((1, 1), None, (1, 3))}, "standard files"),
        ({"path": ()}, "sys.path"),
        ({"files": 5 + FORGOTTEN_FILES + 1}, "open files"),
        ({"children": True}, "child processes"),
    ],
)
def test_what_a_task_left_is_named(change: dict[str, Any], word: str) -> None:
    assert differences(BEFORE, BEFORE._replace(**change)) == [word]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (BEFORE, BEFORE),
        # A task may end threads of an earlier one, import numpy, and forget a few files.
        (BEFORE, BEFORE._replace(threads=frozenset({1}))),
        (BEFORE._replace(numpy_errors=None), BEFORE),
        (BEFORE, BEFORE._replace(files=5 + FORGOTTEN_FILES)),
    ],
)
def test_what_does_no_harm_is_not_complained_of(before: State, after: State) -> None:
    assert differences(before, after) == []
