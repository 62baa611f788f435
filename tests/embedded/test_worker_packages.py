"""Packages that a shipped tree asks for: installed from wheels that the test makes, by real uv."""

import base64
import hashlib
import socket
import tarfile
import zipfile
from importlib.metadata import distributions, version
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from dpu.errors import BadTree, Unreachable
from dpu.packages import check_here, check_there, missing, offered, pins
from dpu_api.v1.job_pb2 import FailureCategory
from dpud.worker.packages import Packages
from fakes_worker import tree_of, working

RECIPES = """
def Greet(options, archive, scratch, spec):
    import numpy
    import greeting
    print(greeting.WORDS, Path(greeting.__file__).parent.parent == Path(sys.path[-1]), numpy.__version__)
    try:
        Path(greeting.__file__).write_text("")
    except PermissionError:
        print("it stays as it is")
"""


def wheel(folder: Path, name: str, number: str, source: str) -> str:
    """Write a wheel of one module; return its SHA-256."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{number}.dist-info"
    files = {
        f"{name}/__init__.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={_b64(text)},{len(text)}\n" for path, text in files.items())
    place = folder / f"{name}-{number}-py3-none-any.whl"
    with zipfile.ZipFile(place, "w") as archive:
        for path, text in (files | {f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}).items():
            archive.writestr(path, text)
    return hashlib.sha256(place.read_bytes()).hexdigest()


def _b64(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def asking(folder: Path, lock: str) -> Path:
    """Return a tree with this lock."""
    folder.mkdir()
    (folder / "requirements.lock").write_text(lock)
    return folder


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    return tmp_path / "wheels"


async def test_a_task_has_the_packages_of_its_tree(tmp_path: Path, wheels: Path) -> None:
    hashes = [wheel(wheels, "greeting", number, f"WORDS = 'hello {number}'") for number in ("1.0", "2.0")]
    async with working(tmp_path, packages=str(wheels)) as rig:
        for number, sha in zip(("1.0", "2.0"), hashes, strict=True):
            lock = f"# made\ngreeting=={number} \\\n    --hash=sha256:{sha}\nnumpy=={version('numpy')}\n"
            digest = rig.code.put(tree_of(RECIPES) | {"requirements.lock": lock.encode()})
            lease = rig.lease("Greet", digest)
            report = await rig.done(lease)
            assert not report.HasField("failure"), report
            said = [f"hello {number} True {version('numpy')}", "it stays as it is"]
            assert rig.logs.texts(lease.ref) == said


async def test_where_nothing_is_installed_a_task_that_asks_is_refused_and_told_what_to_do(
    tmp_path: Path,
) -> None:
    async with working(tmp_path) as rig:
        digest = rig.code.put(tree_of(RECIPES) | {"requirements.lock": b"greeting==1.0\n"})
        lease = rig.lease("Greet", digest)
        report = await rig.done(lease)
        assert report.failure.category == FailureCategory.FAILURE_CATEGORY_CODE
        assert report.failure.message == (
            "requirements.lock asks for greeting==1.0, and this DPU installs no packages for tasks: leave it out, or "
            "ask its operator for DPU_WORKER_PACKAGES"
        )
        assert rig.logs.texts(lease.ref) == [report.failure.message]


async def test_what_is_asked_for_is_installed_once_and_kept_over_restarts_within_bounds(
    tmp_path: Path, wheels: Path
) -> None:
    for name in ("one", "two", "three"):
        wheel(wheels, name, "1.0", "#" * 100_000)
    trees = [asking(tmp_path / name, f"{name}==1.0\n") for name in ("one", "two", "three")]
    kept = tmp_path / "packages"
    for _ in range(2):
        packages, found = Packages(kept, 250_000, str(wheels)), []
        for tree in trees[:2]:
            async with packages.holding(tree) as place:
                assert place is not None
                found.append(place)
        # What is there needs no wheel any more.
        wheels.joinpath("two-1.0-py3-none-any.whl").unlink(missing_ok=True)
    async with packages.holding(trees[2]) as place:
        assert place is not None
        assert place.joinpath("three", "__init__.py").stat().st_size == 100_000
    assert sorted(kept.iterdir()) == sorted([found[1], place])


@pytest.mark.parametrize(
    ("lock", "why"),
    [
        ("greeting>=1.0\n", "'greeting>=1.0' is not NAME==VERSION"),
        ("greeting==1.*\n", "is not NAME==VERSION"),
        ("greeting @ https://example.org/greeting-1.0-py3-none-any.whl\n", "is not NAME==VERSION"),
        ("--index-url https://example.org/simple\ngreeting==1.0\n", "'--index-url https://example.org/simple' is not"),
        ("-e /etc\n", "'-e /etc' is not"),
        ("-r /etc/passwd\n", "'-r /etc/passwd' is not"),
        ("./greeting.whl\n", "is not NAME==VERSION"),
        ("greeting==1.0 --hash=md5:0\n", "is not NAME==VERSION"),
        ("numpy==1.0\n", "asks for numpy 1.0, and the recipes run with .*: ask for that"),
        (f"greeting==1.0 --hash=sha256:{'0' * 64}\n", "cannot be installed from .* Hash mismatch"),
        ("greeting==7.0\n", "cannot be installed from"),
        ("sourced==1.0\n", "cannot be installed from"),
    ],
)
async def test_what_is_no_lock_or_cannot_be_installed_is_refused_and_leaves_nothing(
    tmp_path: Path, wheels: Path, lock: str, why: str
) -> None:
    wheel(wheels, "greeting", "1.0", "")
    ran = tmp_path / "ran"
    (tmp_path / "setup.py").write_text(f"open({str(ran)!r}, 'w')\n")
    with tarfile.open(wheels / "sourced-1.0.tar.gz", "w:gz") as source:
        source.add(tmp_path / "setup.py", "sourced-1.0/setup.py")
    packages = Packages(tmp_path / "packages", 10_000_000, str(wheels))
    with pytest.raises(BadTree, match=f"requirements.lock.* {why}"):
        async with packages.holding(asking(tmp_path / "tree", lock)):
            pass
    assert list((tmp_path / "packages").iterdir()) == []
    assert not ran.exists()


async def test_an_index_that_does_not_answer_is_no_fault_of_the_tree(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        packages = Packages(tmp_path / "packages", 10_000_000, f"http://127.0.0.1:{closed.getsockname()[1]}/simple")
        with pytest.raises(Unreachable, match="cannot be installed from http://127.0.0.1"):
            async with packages.holding(asking(tmp_path / "tree", "greeting==1.0\n")):
                pass


def test_what_the_worker_has_itself_or_another_machine_needs_is_not_missing(tmp_path: Path) -> None:
    lock = f"numpy=={version('numpy')}  # as here\nwinter==1.0 ; sys_platform == 'win32'\n\n"
    assert missing(pins(asking(tmp_path / "tree", lock))) == []
    (tmp_path / "none").mkdir()
    assert pins(tmp_path / "none") == []


def test_where_no_packages_are_installed_for_tasks_a_tree_is_refused_before_it_travels(tmp_path: Path) -> None:
    check_here(asking(tmp_path / "fine", f"numpy=={version('numpy')}"))
    check_here(tmp_path)
    with pytest.raises(BadTree, match=r"asks for greeting==1\.0, and the DPU of this machine installs no packages"):
        check_here(asking(tmp_path / "tree", "greeting==1.0"))


def test_what_is_offered_is_all_that_is_installed() -> None:
    told = offered(more=True)
    assert told.more
    assert told.installed == {canonicalize_name(each.name): version(each.name) for each in distributions()}


def test_a_tree_is_held_to_what_tasks_have_where_they_run(tmp_path: Path) -> None:
    there = offered(more=False)
    there.installed["numpy"] = "7.0"
    there.markers["sys_platform"] = "plan9"
    fine = "NumPy==7.0\nonly-here==1.0 ; sys_platform == 'linux'\n"
    check_there(asking(tmp_path / "fine", fine), there)
    check_there(tmp_path, there)
    asks = asking(tmp_path / "asks", "greeting==1.0 ; sys_platform == 'plan9'\n")
    with pytest.raises(BadTree, match=r"asks for greeting==1\.0, and this DPU installs no .* ask its operator"):
        check_there(asks, there)
    there.more = True
    check_there(asks, there)
    with pytest.raises(BadTree, match=r"asks for numpy 1\.0, and the recipes run with 7\.0: ask for that"):
        check_there(asking(tmp_path / "old", "numpy==1.0\n"), there)
