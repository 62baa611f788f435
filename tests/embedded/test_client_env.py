"""`Env`, `context` and `awe env`: what a session goes by, changed and told."""

import pytest

from dpu.context import Context
from dpu.env import Env, main
from dpu.errors import NotAllowed, UsageError
from dpu.processor import Processor
from fakes_client import Script, configured, serving


@pytest.fixture
def dpu(tmp_path):
    script = Script()
    with serving(tmp_path, script) as address:
        processor = Processor(configured(tmp_path, address))
        yield processor
        processor.close()


def test_env_changes_the_default_dpu(dpu, capsys):
    env = Env(dpu)
    assert env["dpu_name"] == "groningen"
    env["dpu_name"] = "local"
    dpu.show_dpu_identifiers()
    assert "* local (on this machine)" in capsys.readouterr().out
    dpu.select_dpu("groningen")
    assert env["dpu_name"] == "groningen"


def test_env_is_a_mapping(dpu):
    env = Env(dpu)
    assert list(env) == ["dpu_name", "project", "username", "home"]
    assert "dpu_name" in env
    assert "colour" not in env
    assert env.get("colour", "none") == "none"
    assert dict(env)["username"] == "osada"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("dpu_nam", "x", r"Env has no 'dpu_nam' \(did you mean 'dpu_name'\?\); it knows dpu_name, project, username"),
        ("dpu_name", "leiden", "there is no DPU 'leiden'; known are local, groningen"),
        ("project", "", r"Env\['project'\] = '': must be a text"),
        ("home", "elsewhere", r"Env\['home'\] is set before the session: DPU_HOME in the shell"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_and_nothing_has_changed(dpu, key, value, message):
    env = Env(dpu)
    before = dict(env)
    with pytest.raises(UsageError, match=message):
        env[key] = value
    assert dict(env) == before


def test_a_setting_cannot_be_taken_away(dpu):
    with pytest.raises(UsageError, match="cannot be without a value"):
        del Env(dpu)["project"]


def test_a_project_is_changed_for_every_call_that_follows(dpu):
    dpu.get_jobids()
    context = Context(dpu)
    context.set_project("KIDS")
    assert (context.project, dpu.link is dpu.link) == ("KIDS", True)
    assert dpu.get_jobids() == []
    assert repr(context) == "<project 'KIDS': context.set_project(name), context.set_privileges(level) change them>"


def test_a_project_of_others_is_refused_and_the_old_one_stays(dpu):
    context = Context(dpu)
    with pytest.raises(NotAllowed, match=r"osada is not a member of project 'ATLAS' \(member of: KIDS, default\)"):
        context.set_project("ATLAS")
    assert context.project == "default"


def test_a_project_is_taken_where_nobody_can_say_no(tmp_path):
    dpu = Processor(configured(tmp_path, f"unix:{tmp_path}/nobody.sock"))
    Context(dpu).set_project("KIDS")
    assert dpu.config.project == "KIDS"


def test_each_setting_says_where_it_comes_from(tmp_path, monkeypatch, capsys):
    path = tmp_path / "config.toml"
    path.write_text('default = "x"\nproject = "KIDS"\n[dpus.x]\naddress = "dpu.example.org:50051"\n')
    for name in ("XDG_STATE_HOME", "DPU_DPU_NAME", "DPU_USER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DPU_CONFIG", str(path))
    monkeypatch.setenv("DPU_PROJECT", "ATLAS")
    monkeypatch.setenv("DPU_HOME", str(tmp_path))
    assert main([]) == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert shown[0] == ["dpu_name", "x", str(path)]
    assert shown[1] == ["project", "ATLAS", "$DPU_PROJECT"]
    assert (shown[2][0], shown[2][2]) == ("username", "default")
    assert shown[3] == ["home", str(tmp_path), "$DPU_HOME"]
    assert shown[4:] == [
        ["DPU", "local", "(on", "this", "machine)"],
        ["*", "DPU", "x", "(dpu.example.org:50051)"],
    ]
    dpu = Processor()
    Env(dpu)["project"] = "GAMA"
    assert repr(Env(dpu)).splitlines()[1].split() == ["project", "GAMA", "this", "session"]
