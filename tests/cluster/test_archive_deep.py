"""deep=True: a master flat of raw frames alone, through seven recipes."""

import subprocess
import sys
from pathlib import Path

from google.protobuf.json_format import Parse

from dpu.submission import asked
from dpu_api.v1.catalogue_pb2 import Catalogue
from dpu_recipes import instruments, registry
from dpu_recipes.archive import Selection
from dpu_recipes.archive_folder import FolderArchive
from dpu_recipes.describe import describe

FLATS = ("--instrument", "WFI", "--chips", "1", "--scale", "0.1", "--biases", "3", "--domes", "3", "--twilights", "3")


def test_a_master_flat_is_made_of_raw_frames_alone(tmp_path: Path):
    folder, known = tmp_path / "night", instruments.load()
    subprocess.run([sys.executable, "-m", "dpu_recipes.simulate", folder, *FLATS], check=True, capture_output=True)
    archive = FolderArchive(tmp_path / "archive", known)
    for file in sorted((folder / "raw").iterdir()):
        archive.ingest(file)
    sequence, options = asked(
        Parse(describe(), Catalogue()), "MasterFlat", {"i": "WFI", "d": "2000-04-28", "deep": True}
    )

    def tasks():
        """Run the stages, and give what each task's recipe makes."""
        for number, stage in enumerate(sequence.stages):
            scratch = tmp_path / f"scratch-{number}"
            scratch.mkdir(exist_ok=True)
            for spec in registry.plan(stage.recipe, options, archive, scratch, known):
                registry.run(stage.recipe, options, archive, scratch, spec, known=known)
                yield stage.makes

    assert list(tasks()) == [
        *("ReadNoise", "BiasFrame", "HotPixelMap", "DomeFlatFrame", "TwilightFlatFrame", "ColdPixelMap"),
        "MasterFlatFrame",
    ]
    (flat,) = archive.select("MasterFlatFrame", Selection(instrument="WFI"))
    # What a stage starts from is planned again, in case that it is outdated, and stands.
    assert list(tasks()) == ["DomeFlatFrame", "MasterFlatFrame"]
    assert archive.select("MasterFlatFrame", Selection(instrument="WFI")) == [flat]
