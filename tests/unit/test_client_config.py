"""Configuration: the file, the environment over it, and what is wrong with either."""

import getpass
from pathlib import Path

import pytest

from dpu.config import Config, KnownDpu
from dpu.errors import NotLoggedIn, UsageError

FILE = """
default = "groningen"
project = "KIDS"
username = "osada"

[dpus.groningen]
address = "dpu.example.org:50051"
token_file = "groningen.token"

[dpus.bonn]
address = "10.0.0.1:50051"
archive = "10.0.0.2:50051"
"""


@pytest.fixture
def environ(tmp_path):
    return {"DPU_CONFIG": str(tmp_path / "config.toml"), "DPU_HOME": str(tmp_path / "home")}


def write(environ: dict[str, str], text: str) -> dict[str, str]:
    Path(environ["DPU_CONFIG"]).write_text(text)
    return environ


def test_with_nothing_configured_the_dpu_is_this_users_own(tmp_path):
    config = Config.read({"XDG_CONFIG_HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")})
    assert config == Config(
        home=tmp_path / "state" / "dpu",
        username=getpass.getuser(),
        project="default",
        dpu_name="local",
        dpus={"local": KnownDpu(name="local")},
    )


def test_the_file_names_dpus_project_and_user(environ, tmp_path):
    assert Config.read(write(environ, FILE)) == Config(
        home=tmp_path / "home",
        username="osada",
        project="KIDS",
        dpu_name="groningen",
        dpus={
            "local": KnownDpu(name="local"),
            "groningen": KnownDpu(
                name="groningen", address="dpu.example.org:50051", token_file=tmp_path / "groningen.token"
            ),
            "bonn": KnownDpu(name="bonn", address="10.0.0.1:50051", archive="10.0.0.2:50051"),
        },
    )


def test_the_environment_overrides_the_file(environ):
    config = Config.read(write(environ, FILE) | {"DPU_DPU_NAME": "bonn", "DPU_PROJECT": "test", "DPU_USER": "me"})
    assert (config.dpu_name, config.project, config.username) == ("bonn", "test", "me")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("projct = 'x'", "projct is unknown (did you mean 'project'?); known are default, project, username, dpus"),
        ("project = 5", "project = 5: must be a text"),
        ("default = 'leiden'", None),
        ("dpus = 3", "dpus must hold a table for each DPU, [dpus.NAME]"),
        ("[dpus.x]\nadress = 'a:1'", "dpus.x.adress is unknown (did you mean 'address'?)"),
        ("[dpus.x]", "dpus.x.address is missing: 'host:port' or 'unix:/path'"),
        (
            "[dpus.x]\naddress = 'a:1,b:1'",
            "dpus.x.address = 'a:1,b:1': several addresses must be sockets of this machine",
        ),
        ("[dpus.local]\naddress = 'a:1'", "[dpus.local]: this name is the embedded DPU's: choose another"),
        ("project", "is not TOML: "),
    ],
)
def test_what_is_wrong_in_the_file_is_named(environ, text, message):
    with pytest.raises(UsageError) as caught:
        Config.read(write(environ, text))
    if message is None:
        assert caught.value.message == "there is no DPU 'leiden'; known are local"
    else:
        assert caught.value.message.startswith(f"{environ['DPU_CONFIG']}: {message}")


def test_a_file_that_is_named_must_be_there(environ):
    with pytest.raises(UsageError, match="DPU_CONFIG='.*config.toml': there is no such file"):
        Config.read(environ)


def test_a_token_comes_from_its_file_and_nowhere_else(tmp_path):
    (tmp_path / "token").write_text("secret\n")
    assert KnownDpu(name="x", token_file=tmp_path / "token").token() == "secret"
    with pytest.raises(NotLoggedIn, match="^the token of DPU 'x' cannot be read from '.*/none': No such file"):
        KnownDpu(name="x", token_file=tmp_path / "none").token()
    with pytest.raises(NotLoggedIn, match="^no token_file is configured for DPU 'x': see docs/how-to/log-in.md$"):
        KnownDpu(name="x").token()
