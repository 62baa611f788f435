"""What `make bench` takes for a benchmark."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_benchmark_gives_figures_and_a_name_that_is_none_is_answered_with_all_of_them() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "nonsense"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert told.returncode == 2
    room = ROOT / "tests" / "benchmarks"
    measuring = sorted(
        path.stem if path.parent == room else path.parent.name
        for path in (*room.glob("*.py"), *room.glob("*/__init__.py"))
        if "\ndef figures(" in path.read_text()
    )
    assert f"no benchmark nonsense; there are: {', '.join(measuring)}\n" in told.stderr
