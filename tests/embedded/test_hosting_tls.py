"""Beyond loopback: TLS, a certificate that is renewed, and health alone in plain text beside it."""

import asyncio
import os
import ssl
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dpu_api.v1 import codeship_pb2_grpc
from dpu_api.v1.codeship_pb2 import GetTreeRequest
from dpud.hosting.server import listening
from dpud.hosting.settings import Address, BadSetting, Environment, Tls
from fakes_hosting import place
from fakes_tls import HOST, certify, free_port


@asynccontextmanager
async def secured(folder, **changes):
    with place() as where:
        address = Address(f"{HOST}:{free_port()}")
        settings = replace(where.listening, listen=address, tls=certify(folder), **changes)
        async with listening(settings, [("dpu_api.v1.CodeService", lambda _: None)]):
            yield address


async def healthy(channel):
    answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
    return answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_who_trusts_the_authority_is_served(tmp_path):
    trusted = grpc.ssl_channel_credentials((certify(tmp_path).certificate.parent / "ca.crt").read_bytes())
    async with secured(tmp_path) as address, grpc.aio.secure_channel(address.text, trusted) as channel:
        assert await healthy(channel)


async def test_plain_text_and_strangers_are_refused(tmp_path):
    certify(tmp_path / "another")
    stranger = grpc.ssl_channel_credentials((tmp_path / "another" / "ca.crt").read_bytes())
    async with (
        secured(tmp_path) as address,
        grpc.aio.insecure_channel(address.text) as plain,
        grpc.aio.secure_channel(address.text, stranger) as distrusting,
    ):
        for channel in (plain, distrusting):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await healthy(channel)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_our_own_channels_speak_tls_beyond_loopback(tmp_path):
    """In a process of its own, since gRPC reads the authorities that it trusts once a process."""
    program = (
        "import sys; from dpu.channel import open_channel; from grpc_health.v1 import health_pb2, health_pb2_grpc\n"
        "with open_channel(sys.argv[1], 'token', '') as channel:\n"
        "    print(health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30).status)\n"
    )
    async with secured(tmp_path) as address:
        environment = {**os.environ, "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(tmp_path / "ca.crt")}
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, address.text, env=environment, stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await child.communicate()
    assert printed.decode().strip() == str(health_pb2.HealthCheckResponse.SERVING)


async def test_a_renewed_certificate_is_shown_at_the_next_handshake(tmp_path):
    async with secured(tmp_path) as address:
        first = await shown(address)
        certify(tmp_path)
        second = await shown(address)
        assert (tmp_path / "tls.crt").read_text() == second != first


async def shown(address):
    return await asyncio.to_thread(ssl.get_server_certificate, (address.host, address.port))


async def test_a_certificate_that_is_gone_goes_on_being_shown(tmp_path):
    async with secured(tmp_path) as address:
        first = await shown(address)
        (tmp_path / "tls.crt").unlink()
        assert await shown(address) == first


async def test_a_certificate_that_is_not_there_is_named(tmp_path):
    with place() as where:
        nowhere = Tls(tmp_path / "no.crt", tmp_path / "no.key")
        settings = replace(where.listening, listen=Address("0.0.0.0:0"), tls=nowhere)
        with pytest.raises(BadSetting, match=r"DPU_TLS_CERTIFICATE='.*no.crt'"):
            async with listening(settings, []):
                pass


def test_a_certificate_needs_its_key():
    assert Tls.read(Environment({})) is None
    assert Tls.read(Environment({"DPU_TLS_CERTIFICATE": "/a", "DPU_TLS_KEY": "/b"})) == Tls(Path("/a"), Path("/b"))
    with pytest.raises(BadSetting, match="DPU_TLS_KEY is not set"):
        Tls.read(Environment({"DPU_TLS_CERTIFICATE": "/a"}))


async def test_health_alone_is_served_in_plain_text(tmp_path):
    probed = Address(f"{HOST}:{free_port()}")
    async with secured(tmp_path, health=probed), grpc.aio.insecure_channel(probed.text) as channel:
        assert await healthy(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await codeship_pb2_grpc.CodeServiceStub(channel).GetTree(GetTreeRequest(), timeout=30)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
