"""Code shipping as it is put together for a process."""

import pytest
import zstandard

from dpu.tree import digest_of
from dpu_api.v1.codeship_pb2 import BlobChunk, FindMissingRequest, PutTreeRequest, Tree
from dpu_api.v1.codeship_pb2_grpc import CodeServiceStub
from dpud.codeship.main import Settings, built
from dpud.hosting.server import listening
from dpud.hosting.settings import BadSetting, Environment
from fakes_codeship import digest, entry
from fakes_hosting import place
from fakes_s3 import running


async def test_what_is_built_serves_and_owns_its_folder(tmp_path):
    with place() as where:
        tokens = str(where.listening.tokens)
        values = {"DPU_LISTEN": where.address, "DPU_TOKENS_FILE": tokens, "DPU_STATE": str(tmp_path)}
        settings = Settings.read(Environment(values))
        assert (settings.state, settings.listening) == (tmp_path, where.listening)
        async with built(settings) as services, listening(settings.listening, services):
            async with where.channel("anna's") as channel:
                asked = FindMissingRequest(digests=[digest(b"x")])
                assert list((await CodeServiceStub(channel).FindMissing(asked)).digests) == [digest(b"x")]
            with pytest.raises(BadSetting, match="another process uses it"):
                async with built(settings):
                    pass


def test_the_folder_must_be_named():
    with place() as where, pytest.raises(BadSetting, match="DPU_STATE is not set"):
        Settings.read(Environment({"DPU_LISTEN": where.address, "DPU_TOKENS_FILE": str(where.listening.tokens)}))


async def test_code_in_a_bucket_outlives_the_service_and_its_folder(tmp_path, monkeypatch):
    with running() as s3, place() as where:
        for key, value in s3.environment.items():
            monkeypatch.setenv(key, value)
        values = {"DPU_LISTEN": where.address, "DPU_TOKENS_FILE": str(where.listening.tokens)}
        values["DPU_CODE_BUCKET"] = f"s3://{s3.bucket()}/dpu"
        blob = zstandard.compress(b"x")
        tree = Tree(entries=[entry("a/b.py")])
        put = PutTreeRequest(tree=tree, blobs=[BlobChunk(digest=digest(b"x"), size=1, zstd=blob, last=True)])
        for folder, request in (("first", put), ("second", PutTreeRequest(tree=tree))):
            settings = Settings.read(Environment(values | {"DPU_STATE": str(tmp_path / folder)}))
            async with (
                built(settings) as services,
                listening(settings.listening, services),
                where.channel("anna's") as channel,
            ):
                assert (await CodeServiceStub(channel).PutTree(request)).digest == digest_of(tree.entries)


def test_a_bucket_that_is_none_is_refused():
    with place() as where, pytest.raises(BadSetting, match="DPU_CODE_BUCKET='bucket': must be 's3://bucket'"):
        Settings.read(
            Environment(
                {
                    "DPU_LISTEN": where.address,
                    "DPU_TOKENS_FILE": str(where.listening.tokens),
                    "DPU_STATE": "/nowhere",
                    "DPU_CODE_BUCKET": "bucket",
                }
            )
        )
