"""A release of before, from the repository's history: its code, a Python that runs it, and a job for its worker."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import zstandard

from dpu_api.v1 import codeship_pb2
from fakes_codeship import digest, entry

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "tests" / "recorded"

#: Prints, works for a moment, and makes a product without a file.
RECIPE = """
import time
from dpu_recipes.frames import Frame

LINES = 5

def run(recipe, options, archive, scratch, spec):
    raw = archive.find(spec.inputs[0])
    for number in range(LINES):
        print(f"{spec.label} {number}", flush=True)
        time.sleep(0.05)
    values = {"LABEL": spec.label}
    archive.save(raw.evolve(id="", frame_class="BiasFrame", file_name="", digest="", size=0, values=values))
"""


def newest_release():
    """Return the last tag's or the last recording's commit; skip where the history is not here."""
    tag = _git("describe", "--tags", "--abbrev=0")
    recorded = max(RECORDED.glob("*/commit"), key=lambda file: file.parent.name).read_text().strip()
    commit = tag.stdout.strip() if tag.returncode == 0 else recorded
    if _git("cat-file", "-e", f"{commit}^{{commit}}").returncode:
        pytest.skip(f"the history of this checkout is too short to have {commit}: git fetch --unshallow")
    return commit


def _git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def installed(commit, folder):
    """Check the commit out into `folder`, and return a Python in which its packages are, with this one's others."""
    source = folder / "source"
    source.mkdir()
    packed = subprocess.run(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "x", "-C", source], input=packed.stdout, check=True)
    subprocess.run([sys.executable, "protos/generate.py"], cwd=source, check=True)
    venv.create(folder / "venv", with_pip=False)
    packages = next((folder / "venv").glob("lib/python*/site-packages"))
    # Found through a file of paths, whose own such files are not read: the present checkout is in one of them.
    paths = [*(source / name for name in ("protos", "client", "services")), sysconfig.get_path("purelib")]
    (packages / "release.pth").write_text("\n".join(map(str, paths)))
    python = folder / "venv" / "bin" / "python"
    where = [python, "-c", "import dpu, dpud, dpu_api; print(dpu.__file__, dpud.__file__, dpu_api.__path__[0])"]
    told = subprocess.run(where, capture_output=True, text=True, check=True).stdout.split()
    assert all(path.startswith(str(source)) for path in told), told
    return python


def shipped(stub, source):
    """Ship the recipe above with the ports of the release, by a stub; return its digest."""
    recipes = source / "services" / "dpu_recipes"
    files = {f"dpu_recipes/{name}.py": (recipes / f"{name}.py").read_bytes() for name in ("archive", "frames", "task")}
    files |= {"dpu_recipes/__init__.py": b"", "dpu_recipes/registry.py": RECIPE.encode()}
    requests = [
        codeship_pb2.UploadBlobsRequest(
            chunk=codeship_pb2.BlobChunk(
                digest=digest(content), size=len(content), zstd=zstandard.compress(content), last=True
            )
        )
        for content in files.values()
    ]
    stub.UploadBlobs(iter(requests))
    tree = codeship_pb2.Tree(entries=[entry(path, content) for path, content in sorted(files.items())])
    return stub.PutTree(codeship_pb2.PutTreeRequest(tree=tree)).digest
