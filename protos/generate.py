"""Generate the Python side of the contracts: `python protos/generate.py`, and the build hook of the wheel."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script, without hatchling
    BuildHookInterface = object

ROOT = Path(__file__).resolve().parent


def generate(root: Path = ROOT) -> list[Path]:
    """Write `*_pb2*.py` and their type stubs beside the protos below `root`; return the protos."""
    from grpc_tools import protoc

    protos = sorted((root / "dpu_api").rglob("*.proto"))
    scripts = Path(sys.executable).parent
    arguments = [
        "protoc",
        f"--proto_path={root}",
        f"--proto_path={files('grpc_tools') / '_proto'}",
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        f"--python_out={root}",
        f"--grpc_python_out={root}",
        f"--mypy_out=quiet:{root}",
        f"--mypy_grpc_out=quiet:{root}",
        *map(str, protos),
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc refused the contracts: see the lines above")
    return protos


class GenerateContracts(BuildHookInterface):  # type: ignore[misc]  # untyped base
    """Hatchling calls this before it packs a wheel, so that generated code is never committed."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 (hatchling's)
        """Generate before the files are collected."""
        generate()


if __name__ == "__main__":
    generate()
