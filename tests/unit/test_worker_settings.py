from pathlib import Path

import pytest

from dpu.errors import Exhausted
from dpud.hosting.settings import BadSetting, Environment
from dpud.worker.attempt import PLAN_S
from dpud.worker.main import Settings
from dpud.worker.sandbox import Allowance, caches_of, process_environment, task_environment
from dpud.worker.uids import Uids

PEERS = dict.fromkeys(("DPU_SCHEDULER", "DPU_LOGS", "DPU_CODE", "DPU_ARCHIVE"), "127.0.0.1:7000")


@pytest.fixture
def given(tmp_path: Path) -> dict[str, str]:
    token = tmp_path / "token"
    token.write_text("secret\n")
    return {**PEERS, "DPU_TOKEN_FILE": str(token), "DPU_STATE": str(tmp_path / "state")}


def test_settings_are_read_from_the_environment(given: dict[str, str]) -> None:
    settings = Settings.read(
        Environment(
            given
            | {
                "DPU_WORKER_NAME": "anvil",
                "DPU_WORKER_SLOTS": "3",
                "DPU_WORKER_MEMORY_MIB": "4096",
                "DPU_ARCHIVE_IN_PLACE": "/archive/files",
                "DPU_WORKER_UIDS": "5000-5009",
                "DPU_WORKER_READABLE": "/opt/tools:/data",
                "DPU_WORKER_ISOLATION": "required",
                "DPU_WORKER_GRACE_S": "2.5",
            }
        )
    )
    assert (settings.name, settings.slots, settings.memory_mib) == ("anvil", 3, 4096)
    assert (settings.in_place, settings.grace_s, settings.archive.token) == (Path("/archive/files"), 2.5, "secret")
    assert (settings.uids, settings.isolation_required) == (Uids(5000, 10), True)
    assert settings.readable == (Path("/opt/tools"), Path("/data"))


def test_a_source_of_packages_is_an_index_or_a_folder(given: dict[str, str]) -> None:
    told = {text: Settings.read(Environment(given | {"DPU_WORKER_PACKAGES": text})).packages for text in ("off", "/w")}
    assert told == {"off": None, "/w": "/w"}
    with pytest.raises(BadSetting, match="DPU_WORKER_PACKAGES='pypi': must be an index, as https://pypi.org/simple"):
        Settings.read(Environment(given | {"DPU_WORKER_PACKAGES": "pypi"}))


def test_a_worker_takes_what_the_machine_has_unless_it_is_told(given: dict[str, str]) -> None:
    settings = Settings.read(Environment(given))
    assert settings.slots >= 1
    assert settings.memory_mib > 100
    assert settings.name
    assert not settings.in_place


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("DPU_WORKER_SLOTS", "0", "DPU_WORKER_SLOTS='0': must be at least 1"),
        ("DPU_WORKER_GRACE_S", "nan", "DPU_WORKER_GRACE_S='nan': must be a number of seconds, 0 or more"),
        ("DPU_WORKER_IDLE_S", "-1", "DPU_WORKER_IDLE_S='-1': must be a number of seconds, 0 or more"),
        ("DPU_WORKER_MEMORY_MIB", "much", "DPU_WORKER_MEMORY_MIB='much'"),
        ("DPU_ARCHIVE_IN_PLACE", "yes", "DPU_ARCHIVE_IN_PLACE='yes': 'yes' must be a folder's whole path"),
        ("DPU_WORKER_UIDS", "0-9", "DPU_WORKER_UIDS='0-9': must be FIRST-LAST, two uids above 0, or 'none'"),
        ("DPU_WORKER_READABLE", "/opt:tools", "'tools' must be a folder's whole path"),
        ("DPU_WORKER_ISOLATION", "maybe", "DPU_WORKER_ISOLATION='maybe': must be 'required' or 'best'"),
    ],
)
def test_a_bad_setting_names_its_key_and_its_value(given: dict[str, str], key: str, value: str, message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        Settings.read(Environment(given | {key: value}))


def test_the_environment_of_a_task_is_built_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPU_TOKEN_FILE", "/secret")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    environment = process_environment(Path("/home")) | task_environment(Path("/scratch"), Path("/c/user/tree"))
    assert not {key for key in environment if key.startswith("DPU")}
    assert "PYTHONPATH" not in environment
    assert environment["HOME"] == environment["TMPDIR"] == "/scratch"
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["NUMBA_CACHE_DIR"] == "/c/user"


def test_two_users_and_two_trees_share_no_compile_cache() -> None:
    folders = {caches_of(Path("/c"), user, digest) for user in ("a", "../a") for digest in ("", "ab" * 32)}
    assert len(folders) == 4
    assert len({folder.parent for folder in folders}) == 2
    assert all(folder.is_relative_to("/c") and ".." not in folder.parts for folder in folders)


def test_limits_leave_room_for_what_is_reserved_and_not_used() -> None:
    limits = Allowance(time_s=PLAN_S, memory_mib=100, scratch_mib=10).limits()
    assert limits["RLIMIT_DATA"] == (100 + 256) * 2**20
    assert limits["RLIMIT_FSIZE"] == 10 * 2**20


def test_each_user_has_one_uid_until_there_are_no_more() -> None:
    uids = Uids(5000, 2)
    assert [uids.of(user) for user in ("anna", "bert", "anna")] == [5000, 5001, 5000]
    with pytest.raises(Exhausted, match="all 2 uids of this worker are given to other users: widen DPU_WORKER_UIDS"):
        uids.of("carl")


def test_root_may_be_told_to_keep_its_uid() -> None:
    assert Uids.parse("none") is None
