"""Log lines are counted where they become durable, and missed where they wait."""

import time
from types import SimpleNamespace

from dpu_api.v1.job_pb2 import TaskRef
from dpu_api.v1.logs_pb2 import AppendRequest, LogBatch
from dpud.logs.metrics import LogMetrics
from dpud.worker.metrics import WorkerMetrics
from dpud.worker.spool import Spool


def batch(*texts, seconds_ago=0.0):
    now_us = time.time_ns() // 1000
    count = len(texts)
    return LogBatch(
        ref=TaskRef(job_id=1, task=0, attempt=1),
        time_us=[round(now_us - seconds_ago * 1e6)] * count,
        levels=bytes(count),
        streams=bytes(count),
        texts=texts,
    )


def shown(collector):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


def test_stored_lines_are_counted_with_how_long_they_were_on_their_way():
    metrics = LogMetrics()
    batches = [batch("one", "two", seconds_ago=2.0), batch("three", seconds_ago=20.0), batch()]
    metrics.took(batches)
    values = shown(metrics)
    assert values["dpu_log_lines_total",] == 3
    assert values["dpu_log_bytes_total",] == sum(each.ByteSize() for each in batches)
    assert values["dpu_log_delay_seconds_count",] == 2
    assert values["dpu_log_delay_seconds_bucket", "1"] == 0
    assert values["dpu_log_delay_seconds_sum",] >= 22.0


async def test_a_worker_shows_how_long_its_oldest_line_waits(tmp_path):
    spool = Spool(tmp_path / "spool")
    agent = SimpleNamespace(leases=(2, 5))
    worker = WorkerMetrics(agent, spool)
    assert shown(worker)["dpu_log_lag_seconds",] == 0
    await spool.put(AppendRequest(batch=batch("old", seconds_ago=90.0)))
    await spool.put(AppendRequest(batch=batch("new")))
    values = shown(worker)
    assert values["dpu_log_lag_seconds",] >= 90.0
    assert values["dpu_log_spool_bytes",] > 0
    assert (values["dpu_worker_leases", "running"], values["dpu_worker_leases", "waiting"]) == (2, 5)
    await spool.next(1)
    spool.acknowledge((1, 0, 1), 1)
    assert shown(worker)["dpu_log_lag_seconds",] < 90.0
    spool.close()
