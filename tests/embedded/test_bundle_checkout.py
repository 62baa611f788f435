"""Which files of a checkout travel, and which refuse to."""

import os
import socket
import stat
from pathlib import Path

import pytest

from dpu.bundle import bundle, find_checkout
from dpu.errors import BadTree
from dpu.tree import Limits, digest_of
from fakes_codeship import checkout, commit, digest, write

BIAS = "recipes/awe/bias.py"


def paths(folder, **options):
    return [entry.path for entry in bundle(folder, **options).tree.entries]


def reasons(folder, **options):
    with pytest.raises(BadTree) as refused:
        bundle(folder, **options)
    return refused.value.message


@pytest.fixture(params=["git", "no git"])
def either(request, tmp_path):
    """Make a checkout, and what commits it where it is one of git."""
    checkout(tmp_path)

    def committed():
        if request.param == "git":
            commit(tmp_path)
        return tmp_path

    return tmp_path, committed


def test_a_bundle_holds_the_roots_relative_to_what_goes_on_the_path(either):
    folder, committed = either
    write(folder, {"README.md": "not shipped", "recipes/other.py": "neither"})
    bundled = bundle(committed())
    assert [entry.path for entry in bundled.tree.entries] == ["awe/__init__.py", "awe/bias.py"]
    bias = bundled.tree.entries[1]
    assert (bias.mode, bias.size, bias.digest) == (0o644, 6, digest(b"B = 1\n"))
    assert bundled.blobs[bias.digest] == str(folder / BIAS)
    assert bundled.digest == digest_of(bundled.tree.entries)


def test_a_lock_beside_the_roots_travels_at_the_top(either):
    folder, committed = either
    write(folder, {"requirements.lock": "greeting==1.0\n"})
    assert paths(committed()) == ["awe/__init__.py", "awe/bias.py", "requirements.lock"]


def test_a_lock_that_is_ignored_stays(either):
    folder, committed = either
    write(folder, {"requirements.lock": "greeting==1.0\n", ".gitignore": "*.lock\n"})
    assert paths(committed()) == ["awe/__init__.py", "awe/bias.py"]


def test_what_git_ignores_stays(either):
    folder, committed = either
    write(
        folder,
        {
            ".gitignore": "*.log\n/recipes/awe/build/\n",
            "recipes/awe/.gitignore": "local.py\n!keep.log\n",
            "recipes/awe/x.log": "",
            "recipes/awe/keep.log": "",
            "recipes/awe/local.py": "",
            "recipes/awe/build/made.py": "",
            "recipes/awe/deep/local.py": "",
            "recipes/awe/deep/er.py": "",
        },
    )
    found = ["awe/.gitignore", "awe/__init__.py", "awe/bias.py", "awe/deep/er.py", "awe/keep.log"]
    assert paths(committed()) == found


def test_what_dpuignore_names_and_what_must_not_travel_stays_and_is_said(either):
    folder, committed = either
    secrets = [".env", ".env.local", "id_rsa", "server.key", "cert.pem", "credentials.json", ".netrc", ".git-like"]
    data = ["bias.fits", "bias.fits.fz", "deep/x.fits.gz", "deep/job_pb2.py", "deep/__pycache__/a.cpython-311.pyc"]
    write(folder, {f"recipes/awe/{name}": "x" for name in [*secrets, *data, "big/table.dat"]})
    write(folder, {".dpuignore": "big/\n"})
    bundled = bundle(committed())
    assert [entry.path for entry in bundled.tree.entries] == ["awe/.git-like", "awe/__init__.py", "awe/bias.py"]
    assert bundled.left_out["recipes/awe/big/table.dat"] == "named in .dpuignore"
    assert bundled.left_out["recipes/awe/.env"].startswith("never travels")
    assert len(bundled.left_out) == 13


def test_untracked_and_changed_files_travel_and_are_counted(tmp_path):
    checkout(tmp_path)
    commit(tmp_path)
    clean = bundle(tmp_path)
    assert clean.description.startswith(f"{clean.digest[:12]}, git ")
    assert clean.description.endswith(" + 0 changed files")
    write(tmp_path, {BIAS: "B = 2\n"})
    assert bundle(tmp_path).description.endswith(" + 1 changed file")
    write(tmp_path, {"recipes/awe/new/flat.py": "F = 1\n"})
    changed = bundle(tmp_path)
    assert changed.description.endswith(" + 2 changed files")
    assert [entry.path for entry in changed.tree.entries] == ["awe/__init__.py", "awe/bias.py", "awe/new/flat.py"]
    assert changed.digest != clean.digest


def test_a_file_that_was_deleted_and_not_committed_stays_away(tmp_path):
    checkout(tmp_path)
    commit(tmp_path)
    (tmp_path / BIAS).unlink()
    assert paths(tmp_path) == ["awe/__init__.py"]


def test_a_folder_without_git_has_a_digest_only(tmp_path):
    bundled = bundle(checkout(tmp_path))
    assert bundled.description == bundled.digest[:12]


def test_a_checkout_without_a_commit_travels(tmp_path):
    from fakes_codeship import git

    git(checkout(tmp_path), "init", "-q")
    bundled = bundle(tmp_path)
    assert bundled.description.endswith(", git (initial) + 2 changed files")


def test_a_broken_repository_is_walked(tmp_path):
    checkout(tmp_path)
    (tmp_path / ".git").write_text("gitdir: /nowhere\n")
    assert paths(tmp_path) == ["awe/__init__.py", "awe/bias.py"]


def test_a_file_with_the_same_time_and_size_is_hashed_anew(tmp_path):
    folder = checkout(tmp_path)
    before, status = bundle(folder), (folder / BIAS).stat()
    write(folder, {BIAS: "B = 2\n"})
    os.utime(folder / BIAS, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert bundle(folder).digest != before.digest


def test_an_executable_keeps_its_bit_and_no_other(tmp_path):
    folder = checkout(tmp_path)
    (folder / BIAS).chmod(0o700)
    assert bundle(folder).tree.entries[1].mode == 0o755


def test_a_link_to_a_file_of_the_tree_travels_as_that_file(either):
    folder, committed = either
    (folder / "recipes/awe/again.py").symlink_to("bias.py")
    entries = bundle(committed()).tree.entries
    assert [entry.path for entry in entries] == ["awe/__init__.py", "awe/again.py", "awe/bias.py"]
    assert entries[1].digest == entries[2].digest


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/etc/hostname", "is a symbolic link to '/etc/hostname', which is no file of the tree"),
        ("../../pyproject.toml", "which is no file of the tree"),
        (".env", "which is no file of the tree"),
        (".", "which is no file of the tree"),
        ("deep", "which is no file of the tree"),
        ("nothing", "is a symbolic link to nothing"),
        ("link.py", "is a symbolic link to nothing"),
    ],
)
def test_a_link_out_of_the_tree_is_refused(either, target, why):
    folder, committed = either
    write(folder, {"recipes/awe/.env": "SECRET=1", "recipes/awe/deep/x.py": ""})
    (folder / "recipes/awe/link.py").symlink_to(target)
    message = reasons(committed())
    assert message.startswith("'recipes/awe/link.py'")
    assert why in message


def test_a_pipe_and_a_socket_are_refused(tmp_path):
    folder = checkout(tmp_path)
    os.mkfifo(folder / "recipes/awe/pipe")
    assert reasons(folder) == "'recipes/awe/pipe' is no file but a pipe: name it in .dpuignore"
    (folder / "recipes/awe/pipe").unlink()
    here = Path.cwd()
    os.chdir(folder / "recipes/awe")
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket")
            assert reasons(folder) == "'recipes/awe/socket' is no file but a socket: name it in .dpuignore"
    finally:
        os.chdir(here)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_a_device_never_travels(either):
    folder, committed = either
    os.mknod(folder / "recipes/awe/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    if (committed() / ".git").exists():
        # Git does not know what it is.
        assert paths(folder) == ["awe/__init__.py", "awe/bias.py"]
    else:
        assert reasons(folder) == "'recipes/awe/null' is no file but a device: name it in .dpuignore"


def test_a_repository_inside_the_tree_is_refused(tmp_path):
    checkout(tmp_path)
    commit(tmp_path)
    commit(write(tmp_path / "recipes/awe/nested", {"x.py": ""}))
    assert "is a git repository of its own" in reasons(tmp_path)


@pytest.mark.parametrize("ship", ["/", "..", "../other"])
def test_a_root_outside_the_checkout_is_refused(tmp_path, ship):
    write(checkout(tmp_path), {"pyproject.toml": f'[tool.dpu]\nship = ["{ship}"]\n'})
    assert "must be a folder inside the checkout" in reasons(tmp_path)


def test_a_root_that_links_out_of_the_checkout_is_refused(tmp_path):
    folder = checkout(tmp_path / "checkout", {})
    (tmp_path / "elsewhere").mkdir()
    (folder / "recipes").mkdir()
    (folder / "recipes/awe").symlink_to(tmp_path / "elsewhere")
    assert "is a symbolic link out of the checkout" in reasons(folder)


def test_a_root_that_is_not_there_is_refused(tmp_path):
    assert "is no folder: name the folders to ship" in reasons(checkout(tmp_path, {}))


def test_somebodys_home_is_refused(tmp_path):
    folder = checkout(tmp_path)
    assert "holds your home" in reasons(folder, home=folder / "recipes/awe")
    assert "holds your home" in reasons(folder, home=folder / "recipes/awe/anna")


def test_the_root_of_the_disk_as_a_checkout_is_refused():
    assert reasons(Path("/")).startswith("/services/dpu_recipes is no folder")


def test_a_tree_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    folder = checkout(tmp_path)
    with (folder / "recipes/awe/huge.dat").open("wb") as file:
        file.truncate(10 << 30)
    message = reasons(folder)
    assert message.startswith("a file has more than the 16.0 MiB that may travel; leave files out")
    assert "10240.0 MiB  awe/huge.dat" in message.splitlines()[1]


def test_case_twins_are_refused(tmp_path):
    assert "differs from" in reasons(checkout(tmp_path, {"recipes/awe/x.py": "", "recipes/awe/X.py": ""}))


def test_the_limits_are_those_of_the_caller(tmp_path):
    assert "2 files, more than the 1" in reasons(checkout(tmp_path), limits=Limits(files=1))


def test_two_roots_of_one_name_are_refused(tmp_path):
    folder = write(
        tmp_path,
        {"pyproject.toml": '[tool.dpu]\nship = ["a/awe", "b/awe"]\n', "a/awe/x.py": "", "b/awe/x.py": ""},
    )
    assert "have the same name" in reasons(folder)


def test_awepipe_names_the_checkout(tmp_path):
    assert find_checkout({"AWEPIPE": str(tmp_path)}) == tmp_path
    with pytest.raises(BadTree, match=r"AWEPIPE='/no/such' is no folder"):
        find_checkout({"AWEPIPE": "/no/such"})


def test_without_awepipe_it_is_where_the_recipes_come_from():
    found = find_checkout({})
    assert found is None or (found / "services/dpu_recipes/__init__.py").exists()


@pytest.mark.parametrize("text", ["ship = 3", 'ship = "a"', "not toml ="])
def test_a_bad_pyproject_is_named(tmp_path, text):
    write(checkout(tmp_path), {"pyproject.toml": f"[tool.dpu]\n{text}\n"})
    assert str(tmp_path / "pyproject.toml") in reasons(tmp_path)
