"""Records the present release, beside the releases before: `make released`."""

import asyncio
import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import dpu
from recorded import catalogue, conversation, journal, wire


def main(folder: Path) -> None:
    """Write the recording into a folder of its version."""
    folder = folder / dpu.__version__
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dpu") as temporary:
        scratch = Path(temporary)
        for name, module in (("journal", journal), ("catalogue", catalogue)):
            module.record(scratch / f"{name}.sqlite")
            data = (scratch / f"{name}.sqlite").read_bytes()
            (folder / f"{name}.sqlite.gz").write_bytes(gzip.compress(data, mtime=0))
            (folder / f"{name}.json").write_text(json.dumps(module.told(scratch / f"{name}.sqlite"), indent=1) + "\n")
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        (folder / "commit").write_text(commit.stdout)
        wire.write(asyncio.run(_said(scratch)), folder / "wire.jsonl.gz")


async def _said(scratch: Path) -> list[dict[str, object]]:
    async with wire.house(scratch) as address:
        recorder = wire.Recorder(address)
        await conversation.converse(recorder.say, scratch)
        await recorder.close()
    return recorder.entries


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
