"""A changed line through `dpu.run` on a real DPU: it alone travels, and it is what made the product."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from astropy.io import fits

from dpu.bundle import bundle
from dpu.errors import BadOption
from dpu.prompt import main
from fakes_checkout import BIAS, Session, a_dpu_with_biases, change, checkout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with a_dpu_with_biases(tmp_path_factory.mktemp("dpu")) as home:
        yield home


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A session's log file is written where one works.
    monkeypatch.chdir(tmp_path)


def test_a_changed_line_alone_travels_and_is_in_the_product_the_catalogue_and_the_header(
    home: Path, tmp_path: Path
) -> None:
    mine = checkout(tmp_path / "mine", more=100)
    session = Session(home, mine)
    session.run("ReadNoise")
    (first,) = session.dpu.get_job_result(session.run("Bias"))
    assert first.values["NCOMBINE"] == 103
    files = len(bundle(mine).tree.entries)
    (said,) = session.sent()
    assert said.startswith(f"Sent {files} files of local code, ")

    change(mine, before=100, after=200)
    changed = bundle(mine)
    job = session.run("Bias")
    (said,) = session.sent()
    found = re.fullmatch(rf"Sent 1 file of local code, ([\d,]+) bytes \({re.escape(changed.description)}\)", said)
    assert found is not None, said
    assert int(found[1].replace(",", "")) < (mine / BIAS).stat().st_size
    assert changed.description.endswith(" + 1 changed file")
    assert f"Using the code {changed.description}\n" in session.logs(job)
    (second,) = session.dpu.get_job_result(job)
    assert second.values["NCOMBINE"] == 203
    assert (second.code_digest, first.code_digest == second.code_digest) == (changed.digest, False)
    (exported,) = session.dpu.fetch(job, tmp_path / "brought")
    assert fits.getval(exported, "DPUCODE") == changed.digest

    # Nothing has changed: nothing is sent, and what was made stands.
    again = session.run("Bias")
    assert session.sent() == []
    assert session.dpu.get_job_result(again) == []
    session.dpu.close()


def test_two_versions_of_a_recipe_at_once_do_not_mix(home: Path, tmp_path: Path) -> None:
    sessions = [Session(home, checkout(tmp_path / f"of{more}", more)) for more in (1000, 2000)]
    sessions[0].run("ReadNoise")
    with ThreadPoolExecutor() as both:
        jobs = list(both.map(lambda session: session.run("Bias"), sessions))
    found = [session.dpu.get_job_result(job) for session, job in zip(sessions, jobs, strict=True)]
    assert [[product.values["NCOMBINE"] for product in products] for products in found] == [[1003], [2003]]
    for session in sessions:
        session.dpu.close()


def test_a_version_that_was_installed_is_used_by_its_name_whatever_the_checkout_says(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = checkout(tmp_path / "mine", more=5000)
    monkeypatch.setenv("DPU_HOME", str(home))
    monkeypatch.setenv("AWEPIPE", str(mine))
    assert main(["version", "install", "2.4"]) == 0
    installed = bundle(mine)
    change(mine, before=5000, after=6000)
    session = Session(home, mine)
    session.run("ReadNoise")
    session.sent()
    job = session.run("Bias", dpu_aweversion="2.4")
    assert session.sent() == []
    (product,) = [each for each in session.dpu.get_job_result(job) if each.frame_class == "BiasFrame"]
    assert (product.values["NCOMBINE"], product.code_digest) == (5003, installed.digest)
    assert f"Using the code {installed.description}\n" in session.logs(job)
    with pytest.raises(BadOption, match=r"'2\.5' is not installed here: there is current, 2\.4"):
        session.run("Bias", dpu_aweversion="2.5")
    assert main(["version", "remove", "2.4"]) == 0
    assert main(["version", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "current: what the workers have installed"
    with pytest.raises(BadOption, match="there is current$"):
        session.run("Bias", dpu_aweversion="2.4")
    session.dpu.close()
