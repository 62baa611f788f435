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
    measuring = sorted(
        path.parent.name if path.stem == "__init__" else path.stem
        for path in (ROOT / "tests" / "benchmarks").rglob("*.py")
        if "\ndef figures(" in path.read_text()
    )
    assert f"no benchmark nonsense; there are: {', '.join(measuring)}" in told.stderr
