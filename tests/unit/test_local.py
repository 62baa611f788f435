import errno
import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from dpu import local
from dpu.errors import NotAllowed, StorageFull, UsageError
from dpu.local import Home, Running


def test_a_network_file_system_is_refused_with_a_hint(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/home {tmp_path} nfs4 rw 0 0\n")
    with pytest.raises(UsageError, match=r"network file system \(nfs4\): set DPU_HOME"):
        local.refuse_network(tmp_path / "dpu", mounts)


def test_the_nearest_mount_decides(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/home / nfs4 rw 0 0\n/dev/vda {tmp_path} ext4 rw 0 0\n")
    local.refuse_network(tmp_path / "dpu", mounts)


def test_sockets_of_a_deep_home_go_to_a_short_private_folder(tmp_path: Path) -> None:
    assert Home(Path("/home/me")).sockets == Path("/home/me/run")
    deep = Home(tmp_path / ("x" * 120))
    assert len(str(deep.sockets / "archive.sock")) <= local.LONGEST_SOCKET
    assert deep.sockets != Home(tmp_path / ("y" * 120)).sockets


def test_a_home_is_private(tmp_path: Path) -> None:
    home = Home(tmp_path / "dpu")
    home.prepare()
    assert home.folder.stat().st_mode & 0o777 == 0o700
    assert home.sockets.stat().st_mode & 0o777 == 0o700


def test_a_home_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "dpu").write_text("")
    with pytest.raises(StorageFull, match="cannot write in .*set DPU_HOME"):
        Home(tmp_path / "dpu").prepare()


def test_on_a_disk_that_takes_nothing_more_only_a_dpu_that_runs_is_of_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "dpu")
    home.prepare()

    def full(**_where: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(StorageFull, match=r"cannot write in .* \(No space left on device\)"):
        home.prepare()
    with home.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        home.prepare()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_somebody_elses_home_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "dpu"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    with pytest.raises(NotAllowed, match="belongs to somebody else"):
        Home(folder).prepare()


def test_what_a_running_dpu_writes_is_read_back_and_nonsense_is_nobody(tmp_path: Path) -> None:
    home = Home(tmp_path)
    running = Running(pid=1, version="1", address="unix:a", archive_address="unix:b", slots=2)
    home.write_running(running)
    assert home.read_running() == running
    home.running.write_text("{")
    assert home.read_running() is None


def test_nobody_lives_where_nothing_is(tmp_path: Path) -> None:
    assert not Home(tmp_path).is_alive()
    assert local.stop(tmp_path) is False
