"""What a container's engine asks by a command: does the service of this container answer."""

import asyncio
from dataclasses import replace

import pytest

from dpu.errors import Unreachable
from dpud import __main__, health
from dpud.hosting.server import listening
from dpud.hosting.settings import Address, BadSetting, Environment
from dpud.web.main import Settings, serving
from dpud.web.places import Place
from fakes_fleet import free_port
from fakes_hosting import place
from fakes_tls import certify

NOWHERE = Address("127.0.0.1:1")


async def asked(service, **settings):
    await asyncio.to_thread(health.ask, service, Environment(settings))


async def test_a_service_is_asked_where_health_alone_is_answered():
    with place() as where:
        probed = Address(f"127.0.0.1:{free_port()}")
        async with listening(replace(where.listening, health=probed), []):
            await asked("logs", DPU_HEALTH_LISTEN=probed.text)
        with pytest.raises(Unreachable, match=probed.text):
            await asked("logs", DPU_HEALTH_LISTEN=probed.text)


@pytest.mark.parametrize("secured", [False, True])
async def test_the_queue_page_is_asked_for_a_file_that_stands_still(tmp_path, secured):
    tls = certify(tmp_path) if secured else None
    listen = Address(f"127.0.0.1:{free_port()}")
    own = {"DPU_LISTEN": listen.text}
    if tls:
        own |= {"DPU_TLS_CERTIFICATE": str(tls.certificate), "DPU_TLS_KEY": str(tls.key)}
    places = (Place(name="groningen", scheduler=NOWHERE, logs=NOWHERE, archive=NOWHERE),)
    async with serving(Settings(listen=listen, places=places, tls=tls)):
        await asked("web", **own)
    with pytest.raises(Unreachable, match=f"port {listen.port} gave no answer"):
        await asked("web", **own)


async def test_something_else_that_listens_there_is_not_the_page():
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", port := free_port()):
        with pytest.raises(Unreachable, match="answered 404"):
            await asked("web", DPU_LISTEN=f"127.0.0.1:{port}")


async def test_a_service_that_answers_nobody_says_which_setting_is_missing(capsys, monkeypatch):
    with pytest.raises(BadSetting, match="DPU_HEALTH_LISTEN is not set"):
        await asked("logs")
    monkeypatch.delenv("DPU_HEALTH_LISTEN", raising=False)
    assert __main__.main(["health", "logs"]) == 2
    monkeypatch.setenv("DPU_HEALTH_LISTEN", NOWHERE.text)
    assert await asyncio.to_thread(__main__.main, ["health", "logs"]) == 1
    assert "dpud health: 127.0.0.1:1 cannot be reached" in capsys.readouterr().err
