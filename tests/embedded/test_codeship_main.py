"""Code shipping as it is put together for a process."""

import pytest

from dpu_api.v1.codeship_pb2 import FindMissingRequest
from dpu_api.v1.codeship_pb2_grpc import CodeServiceStub
from dpud.codeship.main import Settings, built
from dpud.hosting.server import listening
from dpud.hosting.settings import BadSetting, Environment
from fakes_codeship import digest
from fakes_hosting import place


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
