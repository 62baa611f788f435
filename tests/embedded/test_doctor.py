"""The doctor finds what keeps a service from its work, and says what to do."""

import asyncio
import re
import shutil
import socket
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from dpud import __main__, doctor
from fakes_s3 import running
from recorded.wire import ROLES, house


@pytest.fixture
def folder():
    """A folder with a short name (a socket's path has at most 107 bytes)."""
    path = Path(tempfile.mkdtemp(prefix="dpu"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def there(folder):
    """The folder of services that run, with their own settings."""
    async with house(folder):
        for name in ROLES:
            (folder / f"{name}.token").write_text(name)
            (folder / f"{name}.token").chmod(0o600)
        yield folder


@pytest.fixture(scope="module")
def s3():
    with running() as server:
        yield server


def settings(folder, service, **changes):
    """Return good settings of a service beside those in the folder."""
    address = f"unix:{folder / 's'}"
    own = "worker" if service == "worker" else "service"
    values = {
        "DPU_NAME": "trial",
        "DPU_LISTEN": f"unix:{folder / 'other'}",
        "DPU_TOKENS_FILE": str(folder / "tokens.toml"),
        "DPU_TOKEN_FILE": str(folder / f"{own}.token"),
        "DPU_STATE": str(folder / "new" / service),
        **dict.fromkeys(("DPU_SCHEDULER", "DPU_ARCHIVE", "DPU_LOGS", "DPU_CODE"), address),
    }
    return {key: str(value) for key, value in (values | changes).items() if value is not None}


async def complaints(service, values):
    """Return what is not good."""
    found = await asyncio.to_thread(lambda: list(doctor.examine(service, values)))
    assert found
    # Of this machine, and not of the settings.
    machine = ("GiB are free", "tasks are not kept apart")
    return [each.text for each in found if not each.good and not any(text in each.text for text in machine)]


@pytest.mark.parametrize("service", __main__.SERVICES)
async def test_with_good_settings_there_is_nothing_to_say(there, service):
    assert await complaints(service, settings(there, service)) == []
    assert not (there / "new").exists()


async def test_a_bad_setting_ends_the_examination(there):
    (only,) = await complaints("scheduler", settings(there, "scheduler", DPU_LISTEN="nowhere"))
    assert only.startswith("DPU_LISTEN='nowhere': must be")


@pytest.mark.parametrize(
    ("service", "changes", "complaint"),
    [
        (
            "worker",
            {"DPU_SCHEDULER": "unix:/nowhere/s"},
            "DPU_SCHEDULER='unix:/nowhere/s': .*start it, or mend the address",
        ),
        ("scheduler", {"DPU_DATABASE": "postgresql+psycopg://u@127.0.0.1:1/d"}, "DPU_DATABASE: no answer: .*refused"),
        ("logs", {"DPU_LISTEN": "unix:/nowhere/at/all"}, "DPU_LISTEN: no socket can be made in /nowhere/at"),
        ("logs", {"DPU_LISTEN": f"unix:/tmp/{'x' * 120}"}, "longer than a socket's 107 bytes"),
        (
            "logs",
            {"DPU_STATE": "/proc/version/logs"},
            "DPU_STATE='/proc/version/logs': /proc/version cannot be written",
        ),
        (
            "logs",
            {"DPU_TOKENS_FILE": "/nowhere"},
            "DPU_TOKENS_FILE='/nowhere': cannot be read: .*`dpud token` makes a row",
        ),
        (
            "archive",
            {"DPU_COLD_FILES": "/proc/version/cold"},
            "DPU_COLD_FILES='/proc/version/cold': /proc/version cannot",
        ),
        ("worker", {"DPU_WORKER_CGROUP": "/usr"}, "DPU_WORKER_CGROUP='/usr': it is no control group of memory"),
        (
            "worker",
            {"DPU_WORKER_CGROUP": "/sys/fs/cgroup", "DPU_WORKER_RUNNER": "/usr"},
            "DPU_WORKER_CGROUP='/sys/fs/cgroup': tasks run next door",
        ),
        ("worker", {"DPU_WORKER_PACKAGES": "/nowhere"}, "DPU_WORKER_PACKAGES='/nowhere': no folder that can be read"),
        (
            "worker",
            {"DPU_WORKER_PACKAGES": "http://127.0.0.1:1/simple"},
            "DPU_WORKER_PACKAGES='http://127.0.0.1:1/simple': no answer: .*refused",
        ),
    ],
)
async def test_what_is_wrong_is_named_with_what_to_do(there, service, changes, complaint):
    (only,) = await complaints(service, settings(there, service, **changes))
    assert re.search(complaint, only), only


async def test_a_database_in_a_file_is_looked_at_and_none_is_made(there):
    file = there / "catalogue.sqlite"
    asked = settings(there, "archive", DPU_DATABASE=f"sqlite:///{file}")
    assert await complaints("archive", asked) == []
    assert not file.exists()
    file.write_bytes(b"no database" * 1000)
    (only,) = await complaints("archive", asked)
    assert only.startswith(f"{file} is damaged")


async def test_people_whom_a_provider_knows_need_no_row(there):
    rows = (there / "tokens.toml").read_text().replace('["user"]', '["service"]')
    asked = settings(there, "archive", DPU_TOKENS_FILE=there / "people.toml")
    (there / "people.toml").write_text(rows)
    (only,) = await complaints("archive", asked)
    assert "nobody has the role 'user'" in only
    (there / "people.toml").write_text(f'{rows}\n[oidc]\nissuer = "https://id.example.org"\naudience = "dpu"\n')
    assert await complaints("archive", asked) == []


async def test_packages_that_can_be_installed_are_not_complained_about(there):
    assert await complaints("worker", settings(there, "worker", DPU_WORKER_PACKAGES=there)) == []


async def test_a_worker_without_what_installs_packages_is_told_so(there, monkeypatch):
    monkeypatch.setattr("sys.executable", str(there / "python"))
    monkeypatch.setenv("PATH", str(there))
    (only,) = await complaints("worker", settings(there, "worker", DPU_WORKER_PACKAGES=there))
    assert only.endswith("uv is not installed: pip install 'dpu[packages]'")


@pytest.mark.parametrize(
    ("service", "key"),
    [
        ("codeship", "DPU_CODE_BUCKET"),
        ("logs", "DPU_LOG_BUCKET"),
        ("archive", "DPU_FILES"),
        ("archive", "DPU_COLD_FILES"),
    ],
)
async def test_a_bucket_that_is_not_there_is_found(there, s3, monkeypatch, service, key):
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    good = f"s3://{s3.bucket()}/part"
    assert await complaints(service, settings(there, service, **{key: good})) == []
    (only,) = await complaints(service, settings(there, service, **{key: "s3://nowhere/part"}))
    assert only.startswith(f"{key}='s3://nowhere/part': ")
    assert only.endswith("make the bucket, or mend the URL or AWS_*")


async def test_a_token_that_is_not_known_or_of_another_role_is_found(there):
    (there / "strange.token").write_text("strange")
    (there / "strange.token").chmod(0o600)
    unknown = await complaints("scheduler", settings(there, "scheduler", DPU_TOKEN_FILE=there / "strange.token"))
    assert len(unknown) == 2
    assert all("append the row of DPU_TOKEN_FILE's token" in each for each in unknown)
    wrong = await complaints("scheduler", settings(there, "scheduler", DPU_TOKEN_FILE=there / "anna.token"))
    assert len(wrong) == 2
    assert all("give that token the role" in each for each in wrong)


async def test_a_token_that_others_can_read_is_found(there):
    (there / "service.token").chmod(0o644)
    (only,) = await complaints("scheduler", settings(there, "scheduler"))
    assert only.endswith(f"chmod 600 {there}/service.token")


async def test_a_role_that_nobody_has_is_found(there):
    rows = (there / "tokens.toml").read_text().replace('["worker"]', '["user"]')
    (there / "few.toml").write_text(rows)
    (only,) = await complaints("archive", settings(there, "archive", DPU_TOKENS_FILE=there / "few.toml"))
    assert "nobody has the role 'worker'" in only


async def test_a_port_that_is_taken_is_found(there):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (only,) = await complaints("logs", settings(there, "logs", DPU_METRICS_LISTEN=address))
    assert only.startswith(f"DPU_METRICS_LISTEN='{address}': Address already in use: stop what listens there")
    assert await complaints("logs", settings(there, "logs", DPU_METRICS_LISTEN=address)) == []


async def test_a_damaged_journal_is_found(there):
    state = there / "damaged"
    state.mkdir()
    with (
        closing(sqlite3.connect(there / "scheduler" / "journal.sqlite")) as used,
        closing(sqlite3.connect(state / "journal.sqlite")) as copy,
    ):
        used.backup(copy)
    assert await complaints("scheduler", settings(there, "scheduler", DPU_STATE=state)) == []
    with (state / "journal.sqlite").open("r+b") as file:
        file.seek(4096)
        file.write(b"x" * 4096)
    (only,) = await complaints("scheduler", settings(there, "scheduler", DPU_STATE=state))
    assert "is damaged" in only
    assert "docs/how-to/backup.md" in only


async def test_the_command_prints_each_finding_and_tells_by_its_exit_code(there, monkeypatch, capsys):
    monkeypatch.setattr("os.environ", settings(there, "archive"))
    code = await asyncio.to_thread(__main__.main, ["doctor", "archive"])
    printed = capsys.readouterr().out
    assert "ok   the settings of archive" in printed
    assert code == ("BAD " in printed)
    monkeypatch.setattr("os.environ", settings(there, "archive", DPU_STATE=""))
    assert await asyncio.to_thread(__main__.main, ["doctor", "archive"]) == 1
    assert "BAD  DPU_STATE is not set" in capsys.readouterr().out
