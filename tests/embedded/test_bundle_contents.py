"""What a person is told of the code that would travel."""

from pathlib import Path

from dpu.bundle import bundle
from dpu.contents import contents, described
from fakes_codeship import checkout, write


def test_it_is_said_what_travels_and_what_stays_and_why(tmp_path: Path) -> None:
    checkout(tmp_path)
    write(tmp_path, {"recipes/awe/.env": "SECRET=1\n", "recipes/awe/old.py": "", ".dpuignore": "old.py\n"})
    write(tmp_path, {"recipes/awe/raw.fits": "", "recipes/awe/tool.sh": "#!/bin/sh\n"})
    (tmp_path / "recipes/awe/tool.sh").chmod(0o755)
    bundled = bundle(tmp_path)
    assert contents(bundled).splitlines() == [
        f"{bundled.digest[:12]}: 3 files of 16 bytes travel",
        "           0  awe/__init__.py",
        "           6  awe/bias.py",
        "          10  awe/tool.sh *",
        "1 file left behind, named in .dpuignore",
        "  recipes/awe/old.py",
        "2 files left behind, never travels: a secret, data, or made from something else",
        "  recipes/awe/.env",
        "  recipes/awe/raw.fits",
    ]


def test_the_prompt_shows_it_for_the_local_checkout(tmp_path: Path) -> None:
    first, *rest = described(checkout(tmp_path)).splitlines()
    assert first == str(tmp_path)
    assert rest == contents(bundle(tmp_path)).splitlines()
    assert described(None) == "There is no local checkout: jobs use the code of the cluster"
