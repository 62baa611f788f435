"""`dpu` in the shell: what each verb prints where, and its exit code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dpu.shell import VERBS, main
from dpu_api.v1 import job_pb2
from fakes_client import SECRET, batch, images, job, job_end, serving, task_end
from fakes_debian import lacking

NIGHT = ("-i", "WFI", "-d", "2000-04-28")


@pytest.fixture
def script():
    made = images()
    made.jobs[84821] = job(84821, state=job_pb2.JOB_STATE_FAILED, counts=job_pb2.TaskCounts(normal=1, error=1))
    made.jobs[84822] = job(84822, state=job_pb2.JOB_STATE_CANCELLED, counts=job_pb2.TaskCounts(aborted=2))
    for known in made.jobs.values():
        known.ended.GetCurrentTime()
    made.logs = [batch(1, "Making BiasFrame object"), task_end(1, 2), job_end(3)]
    return made


@pytest.fixture(autouse=True)
def dpu(tmp_path, monkeypatch, script):
    """A configured DPU, outside any checkout."""
    for name in ("DPU_DPU_NAME", "DPU_PROJECT", "DPU_USER", "AWEPIPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("dpu.bundle.find_checkout", lambda _environ: None)
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path, script) as address:
        (tmp_path / "token").write_text(SECRET)
        text = f'default = "groningen"\nusername = "osada"\n[dpus.groningen]\naddress = "{address}"\n'
        (tmp_path / "config.toml").write_text(text + 'token_file = "token"\n')
        monkeypatch.setenv("DPU_CONFIG", str(tmp_path / "config.toml"))
        monkeypatch.setenv("DPU_HOME", str(tmp_path / "home"))
        yield


def test_run_prints_the_job_identifier_alone_on_standard_output(capsys, script):
    assert (
        main(["run", "Bias", *NIGHT, "-C", "--oc", "10", "--mem", "512", "-p", "BiasFrame.process_params.SIGMA_CLIP=5"])
        == 0
    )
    said = capsys.readouterr()
    assert said.out == "82382\n"
    assert "Sending job with identifier 82382 to DPU" in said.err
    (request,) = script.submitted
    assert (request.commit, request.limits.memory_mib) == (True, 512)
    assert request.options.entries["overscan"].int_value == 10
    sigma = request.options.entries["pars"].map_value.entries["BiasFrame.process_params.SIGMA_CLIP"]
    assert sigma.double_value == 5.0


@pytest.mark.parametrize(
    ("state", "exit_code"),
    [
        (job_pb2.JOB_STATE_FINISHED, 0),
        (job_pb2.JOB_STATE_FAILED, 1),
        (job_pb2.JOB_STATE_CANCELLED, 3),
    ],
)
@pytest.mark.parametrize("how", ["--wait", "--follow"])
def test_the_end_of_a_job_that_is_waited_for_is_the_exit_code(script, capsys, how, state, exit_code):
    script.becomes = [job(82385, state=state)]
    script.jobs[82385] = script.becomes[0]
    assert main(["run", "HotPixels", *NIGHT, how]) == exit_code
    assert capsys.readouterr().out.startswith("82382\n")


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["wait", "84820"], 0),
        (["wait", "84820", "84821"], 1),
        (["wait", "84820", "84821", "84822"], 3),
        (["logs", "84820"], 0),
        (["cancel", "84820"], 0),
        (["show", "84820"], 0),
        (["status"], 0),
        (["sequences", "Bias"], 0),
        (["code"], 0),
        (["watch"], 0),
        (["cancel", "7"], 1),
        (["status", "--json", "7"], 1),
    ],
)
def test_every_verb_says_by_its_exit_code_how_it_went(arguments, exit_code):
    assert main(arguments) == exit_code


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "Bia"], "dpu: there is no sequence 'Bia' (did you mean 'Bias'?); known are HotPixels, Bias"),
        (["run"], "dpu: name a sequence, as in `dpu run Bias`; `dpu sequences` lists them"),
        (["run", "Bias", *NIGHT, "--oc", "x"], "dpu: overscan='x': must be a whole number"),
        (
            ["run", "Bias", *NIGHT, "-p", "x"],
            "dpu: -p 'x': must be NAME=VALUE, as in BiasFrame.process_params.SIGMA_CLIP=5.0",
        ),
        (
            ["run", "Bias", "-i", "WFI"],
            "dpu: Bias needs to know what to select: give d= (date) or raw= (raw_filenames)",
        ),
    ],
)
def test_a_command_that_is_used_wrongly_is_one_line_and_2(capsys, arguments, line):
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run", "Bias", "--nonsense"], ["wait"], ["show", "x"]])
def test_arguments_that_mean_nothing_are_2(arguments):
    with pytest.raises(SystemExit, match="^2$"):
        main(arguments)


def test_a_dpu_that_is_not_there_is_4(tmp_path, capsys):
    text = (tmp_path / "config.toml").read_text().replace("dpu.sock", "nobody.sock")
    (tmp_path / "config.toml").write_text(text)
    assert main(["status"]) == 4
    assert capsys.readouterr().err.startswith("dpu: DPU 'groningen' cannot be reached: ")


def test_code_says_what_travels(capsys):
    assert main(["code"]) == 0
    assert capsys.readouterr().out == "There is no local checkout: jobs use the code of the cluster\n"
    done = run_shell("bash", "dpu code")
    assert re.match(r"/.*\n\S+, git \S+ \+ \d+ changed files?: \d+ files of \S+ bytes travel\n", done.stdout)


def test_status_is_json_for_programs(capsys):
    assert main(["status", "--json", "84821"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["id"], told["sequence"], told["state"], told["user"]) == (84821, "Bias", "FAILED", "osada")
    assert told["counts"] == {"normal": 1, "error": 1, "aborted": 0, "submitted": 0, "unknown": 0}
    assert (told["started"], told["ended"][:2]) == (None, "20")


def test_show_is_json_for_programs(capsys):
    assert main(["show", "84820", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["tasks"][0]["label"]) == ("FINISHED", "ccd50")


def test_fetch_prints_the_paths(capsys, tmp_path):
    assert main(["fetch", "84820", "here"]) == 0
    assert capsys.readouterr().out == "here/Bias-ccd50.fits\nhere/Bias-ccd51.fits\n"
    assert (tmp_path / "here" / "Bias-ccd50.fits").exists()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ([""], list(VERBS)),
        (["st"], ["status"]),
        (["run", ""], ["HotPixels", "Bias"]),
        (["run", "HotPixels", "--c"], ["--chip", "--commit"]),
        (["wait", "8482"], ["84820", "84821", "84822"]),
        (["completion", ""], ["bash", "zsh"]),
        (["run", "Nothing", "-"], []),
    ],
)
def test_the_tab_key_is_told_what_fits(capsys, words, offered):
    assert main(["completion", "words", "--", *words]) == 0
    assert capsys.readouterr().out.split() == offered


def test_bash_completes_with_the_script():
    asked = """
source <(dpu completion bash)
COMP_WORDS=(dpu run Hot) COMP_CWORD=2
_dpu
echo "${COMPREPLY[@]}"
"""
    done = run_shell("bash", asked)
    assert (done.stdout, done.stderr) == ("HotPixels\n", "")


@pytest.mark.timeout(600)
def test_zsh_takes_the_script():
    if why := lacking("zsh", "zsh"):
        pytest.skip(why)
    done = run_shell("zsh", "autoload -U compinit; compinit -u; source <(dpu completion zsh); which _dpu")
    assert "compadd" in done.stdout


def run_shell(shell: str, script: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        [shell, "-c", script], env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False, timeout=60
    )
