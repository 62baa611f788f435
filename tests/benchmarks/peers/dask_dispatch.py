"""Dask's figures for the benchmark `dispatch`, as one JSON object; runs in the peers' own environment."""

import json
import statistics
import sys
import time

from distributed import Client, LocalCluster

TASKS, SINGLES, NAPS = map(int, sys.argv[1:])


def nothing(_number: int) -> None:
    print("nothing done")


def nap(_number: int) -> None:
    time.sleep(0.1)


def timed(work) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    # Its documentation: one process a core for Python code, mapped in batches, without the dashboard.
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        fresh = iter(range(10**9))

        def mapped(work, count: int) -> None:
            numbers = [next(fresh) for _ in range(count)]
            client.gather(client.map(work, numbers, pure=False, batch_size=1000))

        mapped(nothing, 200)
        rates = [TASKS / timed(lambda: mapped(nothing, TASKS)) for _ in range(3)]
        singles = sorted(
            timed(lambda: client.submit(nothing, next(fresh), pure=False).result()) for _ in range(SINGLES)
        )
        naps = timed(lambda: mapped(nap, NAPS))
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


if __name__ == "__main__":
    main()
