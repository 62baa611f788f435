"""`awe query` and `awe plot` as commands: what they print, and what they refuse in one line."""

import pytest

from dpu.prompt import main
from fakes_client import SECRET, images, product, serving


@pytest.fixture
def script(tmp_path, monkeypatch):
    made = images()
    with serving(tmp_path, made) as address:
        (tmp_path / "token").write_text(SECRET)
        text = f'default = "groningen"\nusername = "osada"\n[dpus.groningen]\naddress = "{address}"\n'
        (tmp_path / "config.toml").write_text(text + 'token_file = "token"\n')
        monkeypatch.setenv("DPU_CONFIG", str(tmp_path / "config.toml"))
        monkeypatch.setenv("DPU_HOME", str(tmp_path / "home"))
        monkeypatch.chdir(tmp_path)
        yield made


def test_query_lists_what_is_found(script, capsys):
    script.frames = [product("ccd50", frame_class="BiasFrame")]
    assert main(["query", "BiasFrame"]) == 0
    assert capsys.readouterr().out.endswith("Bias-ccd50.fits\n1 frame\n")


@pytest.mark.parametrize("name", ["RawBiasFrame", "BiasFrame", "ReducedScienceFrame"])
def test_of_a_known_class_there_may_be_no_frame(script, capsys, name):
    script.frames = []
    assert main(["query", name]) == 0
    assert capsys.readouterr().out == "0 frames\n"


def test_a_class_that_nobody_knows_is_not_passed_over_as_empty(script, capsys):
    script.frames = []
    assert main(["query", "BiasFrames"]) == 2
    assert capsys.readouterr().err.startswith(
        "awe: there is no frame of a class 'BiasFrames' (did you mean 'BiasFrame'?); known are RawBiasFrame, "
    )


@pytest.mark.usefixtures("script")
def test_plot_saves_a_picture_under_the_name_of_the_job(capsys, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    assert main(["plot", "84820"]) == 0
    assert capsys.readouterr().out.endswith("Job 84820 is drawn in job-84820.png\n")
    assert (tmp_path / "job-84820.png").is_file()
