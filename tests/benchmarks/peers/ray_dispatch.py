"""Ray's figures for the benchmark `dispatch`, as one JSON object; runs in the peers' own environment."""

import json
import statistics
import sys
import time

import ray

TASKS, SINGLES, NAPS = map(int, sys.argv[1:])


@ray.remote
def nothing() -> None:
    print("nothing done")


@ray.remote
def nap() -> None:
    time.sleep(0.1)


def timed(work) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


# Its documentation: as many CPUs as slots; without the dashboard; workers are warm and reused.
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
ray.get([nothing.remote() for _ in range(200)])
rates = [TASKS / timed(lambda: ray.get([nothing.remote() for _ in range(TASKS)])) for _ in range(3)]
singles = sorted(timed(lambda: ray.get(nothing.remote())) for _ in range(SINGLES))
separate = SINGLES / timed(lambda: ray.get([nothing.remote() for _ in range(SINGLES)]))
naps = timed(lambda: ray.get([nap.remote() for _ in range(NAPS)]))
print(
    json.dumps(
        {
            "tasks_per_s": statistics.median(rates),
            "latency_p50_ms": 1e3 * statistics.median(singles),
            "latency_p99_ms": 1e3 * singles[int(0.99 * len(singles))],
            "nap_overhead": naps / (NAPS * 0.1 / 2) - 1,
        }
    )
)
