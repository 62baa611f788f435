"""The process that takes FITS files apart, draws and packs them.

A request is a line on standard input, its answer a line on standard output. It has no database and no store. Whatever
a file does to it, a crash or a flood of memory, the service survives.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dpu_recipes import reference_file
from dpu_recipes.exposure import BadExposure, split
from dpu_recipes.frames import BadImage
from dpu_recipes.instruments import load
from dpu_recipes.reduced import Companion, adopt
from dpu_recipes.reference_file import BadCatalogue

if TYPE_CHECKING:
    from dpu_recipes.instruments import Instruments

#: Address space of this process: a file that unpacks to more is refused, not served.
MEMORY_BYTES = 8 << 30


def main(extra: str) -> None:
    """Answer requests until standard input ends; `extra` is a folder of further instruments, or ''."""
    instruments = load(Path(extra) if extra else None)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    # Nothing that a library prints may mix with the answers.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            request = json.loads(line)
            _answer(answers, _answered(request, instruments))


def _answer(answers: IO[str], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _answered(request: dict[str, Any], instruments: Instruments) -> dict[str, Any]:
    if "size" in request:
        return _draw(request)
    if "target" in request:
        return _move(request)
    return _split(request, instruments)


def _split(request: dict[str, Any], instruments: Instruments) -> dict[str, Any]:
    name = request["name"]
    try:
        file, folder = Path(request["file"]), Path(request["folder"])
        if request["catalogue"]:
            pairs = reference_file.split(file, request["catalogue"], request["columns"], folder)
        elif request["frame_class"]:
            belonging = [Companion(kind, Path(path), named) for kind, path, named in request["companions"]]
            pairs = adopt(file, name, belonging, instruments, folder, instrument=request["instrument"])
        else:
            pairs = split(file, name, instruments, folder, instrument=request["instrument"])
    except BadExposure as error:
        return {"bad": str(error)}
    except BadCatalogue as error:
        return {"bad": f"{name}: {error}"}
    except OSError as error:
        return {"errno": error.errno, "bad": f"{name}: {error.strerror}"}
    except MemoryError:
        return {"bad": f"{name}: it unpacks to more than {MEMORY_BYTES >> 30} GiB"}
    except Exception as error:  # noqa: BLE001 (whatever a strange file makes a library raise is the file's fault)
        return {"bad": f"{name}: it cannot be understood: {type(error).__name__}: {error}"}
    return {"frames": [[frame.to_dict(), str(path)] for frame, path in pairs]}


def _draw(request: dict[str, Any]) -> dict[str, Any]:
    # Only now: a file that comes in must not wait for what draws to be loaded.
    from dpud.archive.drawing import draw

    name = request["name"]
    try:
        png, *rest = draw(Path(request["file"]), request["size"])
    except BadImage as error:
        return {"bad": f"{name}: {error}"}
    except OSError as error:
        return {"bad": f"{name}: {error.strerror}"}
    except MemoryError:
        return {"bad": f"{name}: its image takes more than {MEMORY_BYTES >> 30} GiB"}
    return {"picture": [base64.b64encode(png).decode(), *rest]}


def _move(request: dict[str, Any]) -> dict[str, Any]:
    """Pack a file for the cold tier, or unpack it."""
    from dpud.archive.packing import NotPackable, pack, unpack

    target = Path(request["target"])
    try:
        if "unpack" in request:
            return {"digest": unpack(Path(request["unpack"]), target)}
        pack(Path(request["pack"]), target)
    except NotPackable as error:
        return {"bad": str(error)}
    except OSError as error:
        return {"errno": error.errno, "bad": error.strerror or str(error)}
    except MemoryError:
        return {"bad": f"it takes more than {MEMORY_BYTES >> 30} GiB to pack"}
    except Exception as error:  # noqa: BLE001 (whatever a strange file makes a library raise is the file's fault)
        return {"bad": f"it cannot be packed: {type(error).__name__}: {error}"}
    return {"size": target.stat().st_size}


if __name__ == "__main__":
    main(sys.argv[1])
