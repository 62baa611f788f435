"""The log aggregator as it is put together for a process: settings, folder, background tasks."""

import os
import time

import pytest

import fakes_s3
from dpu_api.v1.logs_pb2 import ReadRequest
from dpu_api.v1.logs_pb2_grpc import LogServiceStub
from dpud.hosting.server import listening
from dpud.hosting.settings import BadSetting, Environment
from dpud.logs.main import Settings, built
from dpud.logs.retention import DAY_S, Retention
from fakes_hosting import eventually, place
from fakes_logs import request, text, texts


def environment(where, folder, **more):
    return Environment(
        {"DPU_LISTEN": where.address, "DPU_TOKENS_FILE": str(where.listening.tokens), "DPU_STATE": str(folder), **more}
    )


@pytest.fixture
def where():
    with place() as found:
        yield found


def test_settings_have_a_default_for_retention_alone(where, tmp_path):
    settings = Settings.read(environment(where, tmp_path))
    assert (settings.state, settings.retention, settings.listening) == (
        tmp_path,
        Retention(90.0, 90.0),
        where.listening,
    )
    assert Settings.read(environment(where, tmp_path, DPU_LOG_DAYS="0.5")).retention == Retention(0.5, 0.5)
    asked = environment(where, tmp_path, DPU_LOG_DAYS_FAILED="365")
    assert Settings.read(asked).retention == Retention(90.0, 365.0)
    with pytest.raises(BadSetting, match="DPU_STATE is not set"):
        Settings.read(environment(where, ""))


@pytest.mark.parametrize("days", ["0", "-1", "a week"])
def test_a_bad_number_of_days_is_named(where, tmp_path, days):
    with pytest.raises(BadSetting, match=f"DPU_LOG_DAYS='{days}'"):
        Settings.read(environment(where, tmp_path, DPU_LOG_DAYS=days))


async def test_what_is_built_serves_and_lets_go_of_its_folder(where, tmp_path):
    settings = Settings.read(environment(where, tmp_path / "state"))
    for first in (0, 3):
        async with (
            built(settings) as services,
            listening(settings.listening, services),
            where.channel("worker's", "") as worker,
            where.channel("anna's") as user,
        ):
            call = LogServiceStub(worker).Append(iter([request(first, 3)]))
            assert [answer.acknowledged async for answer in call] == [first + 3]
            found = [response async for response in LogServiceStub(user).Read(ReadRequest(job_id=1))]
        assert texts(found) == [text(number) for number in range(first + 3)]


async def test_one_folder_is_for_one_process(where, tmp_path):
    settings = Settings.read(environment(where, tmp_path))
    async with built(settings):
        with pytest.raises(BadSetting, match="another process uses it"):
            async with built(settings):
                pass


async def test_old_logs_go_when_the_service_starts(where, tmp_path):
    settings = Settings.read(environment(where, tmp_path))
    async with (
        built(settings) as services,
        listening(settings.listening, services),
        where.channel("worker's") as worker,
    ):
        call = LogServiceStub(worker).Append(iter([request(0, 3, job=job) for job in (1, 2)]))
        assert [answer.acknowledged async for answer in call] == [3, 3]
    (old,) = (tmp_path / "jobs" / "000000000001").iterdir()
    os.utime(old, (0, time.time() - 91 * DAY_S))
    async with built(settings):
        await eventually(lambda: not old.exists(), lambda: list((tmp_path / "jobs").iterdir()))
    assert [path.name for path in (tmp_path / "jobs").iterdir() if path.is_dir()] == ["000000000002"]


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("DPU_LOG_BUCKET", "bucket", "must be 's3://bucket'"),
        ("DPU_DATABASE", "mysql://x/y", "must be 'postgresql"),
        ("DPU_LOG_DAYS_FAILED", "0", "above 0"),
    ],
)
def test_a_bad_place_for_logs_is_named(where, tmp_path, key, value, why):
    with pytest.raises(BadSetting, match=f"{key}='{value}': .*{why}"):
        Settings.read(environment(where, tmp_path, **{key: value}))


async def test_lines_are_kept_in_a_bucket_where_one_is_named(where, tmp_path, monkeypatch):
    pytest.importorskip("moto", reason="no moto[server]: no S3 for tests")
    with fakes_s3.running() as s3:
        for key, value in s3.environment.items():
            monkeypatch.setenv(key, value)
        settings = Settings.read(environment(where, tmp_path, DPU_LOG_BUCKET=f"s3://{s3.bucket()}/dpu"))
        for first in (0, 3):
            async with (
                built(settings) as services,
                listening(settings.listening, services),
                where.channel("worker's", "") as worker,
                where.channel("anna's") as user,
            ):
                call = LogServiceStub(worker).Append(iter([request(first, 3)]))
                assert [answer.acknowledged async for answer in call] == [first + 3]
                found = [response async for response in LogServiceStub(user).Read(ReadRequest(job_id=1))]
            assert texts(found) == [text(number) for number in range(first + 3)]
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("index")] == ["lock"]
