"""What KEDA asks, by its own contract: compiled here from its own names and numbers, apart from ours."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_tools import protoc

from dpud.hosting.settings import Address, BadSetting, Environment
from dpud.scheduler import scaler
from fakes_house import House, ending, specs, submission, until_ended
from fakes_tls import HOST, certify, free_port

CONTRACT = """
syntax = "proto3";
package externalscaler;
message ScaledObjectRef { string name = 1; string namespace = 2; map<string, string> scalerMetadata = 3; }
message IsActiveResponse { bool result = 1; }
message GetMetricSpecResponse { repeated MetricSpec metricSpecs = 1; }
message MetricSpec { string metricName = 1; int64 targetSize = 2; double targetSizeFloat = 3; }
message GetMetricsRequest { ScaledObjectRef scaledObjectRef = 1; string metricName = 2; }
message GetMetricsResponse { repeated MetricValue metricValues = 1; }
message MetricValue { string metricName = 1; int64 metricValue = 2; double metricValueFloat = 3; }
"""
SMALL = {"scalerAddress": "scheduler:47316", "upToMib": "1000", "slots": "2"}
LARGE = {"scalerAddress": "scheduler:47316", "aboveMib": "1000"}


@pytest.fixture(scope="module")
def keda(tmp_path_factory):
    """Return KEDA's messages by name."""
    folder = tmp_path_factory.mktemp("keda")
    (folder / "keda.proto").write_text(CONTRACT)
    assert protoc.main(["protoc", f"-I{folder}", f"--descriptor_set_out={folder}/set", "keda.proto"]) == 0
    files = descriptor_pb2.FileDescriptorSet.FromString((folder / "set").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    found = pool.AddSerializedFile(files.file[0].SerializeToString()) or pool.FindFileByName("keda.proto")
    return {name: message_factory.GetMessageClass(kind) for name, kind in found.message_types_by_name.items()}


class Keda:
    """A client that knows KEDA's contract only."""

    def __init__(self, channel, messages):
        self._channel = channel
        self._messages = messages

    def ref(self, metadata):
        return self._messages["ScaledObjectRef"](name="worker", namespace="dpu", scalerMetadata=metadata)

    async def is_active(self, metadata):
        return (await self._call("IsActive", self.ref(metadata), "IsActiveResponse")).result

    async def spec(self, metadata):
        (spec,) = (await self._call("GetMetricSpec", self.ref(metadata), "GetMetricSpecResponse")).metricSpecs
        return spec.metricName, spec.targetSize, spec.targetSizeFloat

    async def wanted(self, metadata):
        request = self._messages["GetMetricsRequest"](scaledObjectRef=self.ref(metadata), metricName="wanted_slots")
        (value,) = (await self._call("GetMetrics", request, "GetMetricsResponse")).metricValues
        assert value.metricValue == value.metricValueFloat
        return value.metricValue

    def _call(self, method, request, answer):
        call = self._channel.unary_unary(
            f"/externalscaler.ExternalScaler/{method}",
            type(request).SerializeToString,
            self._messages[answer].FromString,
        )
        return call(request, timeout=60)

    def stream(self, metadata):
        call = self._channel.unary_stream(
            "/externalscaler.ExternalScaler/StreamIsActive",
            self._messages["ScaledObjectRef"].SerializeToString,
            self._messages["IsActiveResponse"].FromString,
        )
        return call(self.ref(metadata))


@asynccontextmanager
async def asked(folder, messages):
    """Run a scheduler that KEDA may ask; yield the callers and KEDA."""
    house = House(folder)
    house.settings = replace(house.settings, scaler=scaler.Settings(Address(f"unix:{folder}/k")))
    async with house.open() as callers, grpc.aio.insecure_channel(f"unix:{folder}/k") as channel:
        yield callers, Keda(channel, messages)


async def until_wanted(keda, metadata, number):
    async with asyncio.timeout(60):
        while (found := await keda.wanted(metadata)) != number:  # noqa: ASYNC110 (KEDA asks again and again)
            await asyncio.sleep(0.05)  # its answers are half a second old at most
    return found


async def test_the_first_task_is_told_at_once_and_the_last_end_too(tmp_path, keda):
    async with asked(tmp_path, keda) as (callers, asker), asyncio.timeout(60):
        anna, worker = callers.person(), await callers.worker()
        stream = asker.stream(SMALL)
        assert (await stream.read()).result is False
        job = (await anna.SubmitJob(submission(tasks=specs("one")))).job
        assert (await stream.read()).result is True
        lease = (await worker.work(room=1)).leases[0]
        assert await until_wanted(asker, SMALL, 1) == 1
        await worker.work(ended=[ending(lease)], wait=0.0)
        await until_ended(anna, job.id)
        assert (await stream.read()).result is False
        assert await asker.is_active(SMALL) is False
        stream.cancel()


async def test_what_runs_and_waits_is_counted_a_class_of_memory_each(tmp_path, keda):
    async with asked(tmp_path, keda) as (callers, asker):
        anna, worker = callers.person(), await callers.worker()
        tasks = specs("a", "b", "c")
        tasks[2].memory_mib = 64_000
        await anna.SubmitJob(submission(tasks=tasks))
        await worker.work(room=1)
        assert (await until_wanted(asker, SMALL, 2), await until_wanted(asker, LARGE, 1)) == (2, 1)
        assert await asker.spec(SMALL) == ("wanted_slots", 2, 2.0)
        assert await asker.spec(LARGE) == ("wanted_slots", 1, 1.0)


async def test_a_trigger_that_makes_no_sense_is_refused(tmp_path, keda):
    async with asked(tmp_path, keda) as (_, asker):
        for call in (asker.is_active, asker.spec, asker.wanted):
            with pytest.raises(grpc.aio.AioRpcError, match="slots='two'") as caught:
                await call({"slots": "two"})
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_many_ask_at_once_while_much_is_queued(tmp_path, keda):
    """20,000 tasks wait and are claimed meanwhile: no answer is wrong, and no call waits for its turn for long."""
    async with asked(tmp_path, keda) as (callers, asker):
        anna, worker = callers.person(), await callers.worker(slots=64)
        for _ in range(4):
            await anna.SubmitJob(submission(tasks=specs(*map(str, range(5_000)))))
        await until_wanted(asker, SMALL, 20_000)

        async def asking():
            return {await asker.wanted(SMALL) for _ in range(25)}

        async def claiming():
            return len((await worker.work(room=64, wait=0.0)).leases)

        *found, claimed = await asyncio.gather(*(asking() for _ in range(40)), claiming())
        assert set().union(*found) == {20_000}
        assert claimed > 0


async def test_its_health_is_told(tmp_path, keda):
    async with asked(tmp_path, keda), grpc.aio.insecure_channel(f"unix:{tmp_path}/k") as channel:
        for name in ("", scaler.NAME):
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_beyond_loopback_only_who_shows_a_certificate_is_answered(tmp_path, keda):
    tls = certify(tmp_path)
    authority = tmp_path / "ca.crt"
    settings = scaler.Settings(Address(f"{HOST}:{free_port()}"), tls, authority)
    house = House(tmp_path)
    house.settings = replace(house.settings, scaler=settings)
    known = grpc.ssl_channel_credentials(authority.read_bytes(), tls.key.read_bytes(), tls.certificate.read_bytes())
    nameless = grpc.ssl_channel_credentials(authority.read_bytes())
    async with house.open():
        async with grpc.aio.secure_channel(settings.listen.text, known) as channel:
            assert await Keda(channel, keda).is_active(SMALL) is False
        async with grpc.aio.secure_channel(settings.listen.text, nameless) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await Keda(channel, keda).is_active(SMALL)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_beyond_loopback_it_needs_certificates():
    assert scaler.Settings.read(Environment({})) is None
    assert scaler.Settings.read(Environment({"DPU_SCALER_LISTEN": "127.0.0.1:1"})).tls is None
    with pytest.raises(BadSetting, match=r"DPU_SCALER_LISTEN='0\.0\.0\.0:1': refused"):
        scaler.Settings.read(Environment({"DPU_SCALER_LISTEN": "0.0.0.0:1"}))
