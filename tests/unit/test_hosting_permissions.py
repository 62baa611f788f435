"""The one table of permissions covers every method of every service, and nothing else."""

from importlib import import_module
from pathlib import Path

import pytest

import dpu_api.v1
from dpu.errors import NotAllowed, NotLoggedIn
from dpud.hosting.caller import PERMISSIONS, Caller, Identity, Role, allow
from dpud.hosting.settings import BadSetting
from dpud.hosting.tokens import Tokens, digest_of, identify, token_row


def methods():
    """Return the full name of every method of every proto."""
    folder = Path(dpu_api.v1.__path__[0])
    for path in sorted(folder.glob("*.proto")):
        module = import_module(f"dpu_api.v1.{path.stem}_pb2")
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield f"/{service.full_name}/{method.name}"


def caller(*roles, project="KIDS"):
    return Caller(user="anna", project=project, roles=frozenset(roles))


def test_every_method_of_every_proto_is_in_the_table_and_nothing_else():
    assert set(PERMISSIONS) == set(methods())


def test_every_method_may_be_called_by_somebody():
    assert all(PERMISSIONS.values())


@pytest.mark.parametrize("method", sorted(PERMISSIONS))
@pytest.mark.parametrize("role", Role)
def test_a_role_may_call_what_the_table_says_and_nothing_else(method, role):
    if role in PERMISSIONS[method]:
        allow(caller(role), method)
    else:
        with pytest.raises(NotAllowed, match=rf"{method.split('/')[-1]} is not allowed to anna \({role}\)"):
            allow(caller(role), method)


def test_a_visitor_calls_nothing_that_changes_anything():
    called = {method.rpartition("/")[2] for method, roles in PERMISSIONS.items() if Role.VISITOR in roles}
    assert called
    assert all(name.startswith(("Get", "List", "Watch", "Wait", "Explain", "Read", "Find")) for name in called - LOOKS)


LOOKS = {"Preview", "TraceLineage", "DrawFrame", "FetchFrame", "DownloadBlobs"}


def test_an_unknown_method_is_for_nobody():
    with pytest.raises(NotAllowed):
        allow(caller(*Role), "/dpu_api.v1.LogService/Drop")


def test_no_role_may_do_nothing():
    with pytest.raises(NotAllowed, match=r"\(no role\)"):
        allow(caller(), "/dpu_api.v1.LogService/Read")


def test_people_see_their_project_and_workers_all():
    assert caller(Role.USER).may_see("KIDS")
    assert not caller(Role.USER).may_see("VST")
    assert caller(Role.WORKER).may_see("VST")
    assert caller(Role.SERVICE).may_see("VST")


ANNA = Identity(user="anna", projects=frozenset({"KIDS", "VST"}), roles=frozenset({Role.USER}))
TOKENS = Tokens({digest_of("secret"): ANNA})


async def test_a_caller_is_known_by_token_and_project():
    metadata = [("authorization", "Bearer secret"), ("dpu-project", "KIDS"), ("trace-bin", b"\0")]
    assert await identify(TOKENS, metadata) == caller(Role.USER)


@pytest.mark.parametrize(
    "header", ["", "secret", "Bearer", "Bearer ", "Bearer  secret", "Basic secret", "Bearer other"]
)
async def test_a_wrong_token_is_not_logged_in(header):
    with pytest.raises(NotLoggedIn, match="log in"):
        await identify(TOKENS, [("authorization", header), ("dpu-project", "KIDS")])


async def test_a_project_of_others_is_refused():
    with pytest.raises(NotAllowed, match=r"anna is not a member of project 'OMEGA' \(member of: KIDS, VST\)"):
        await identify(TOKENS, [("authorization", "Bearer secret"), ("dpu-project", "OMEGA")])


async def test_without_a_project_it_is_the_default_one():
    with pytest.raises(NotAllowed, match="project 'default'"):
        await identify(TOKENS, [("authorization", "Bearer secret")])


def test_a_star_is_any_project():
    identity = Identity(user="worker", projects=frozenset({"*"}), roles=frozenset({Role.WORKER}))
    assert identity.caller("anything").project == "anything"


async def test_tokens_are_read_from_a_file(tmp_path):
    path = tmp_path / "tokens.toml"
    path.write_text(
        f'[[token]]\nsha256 = "{digest_of("secret")}"\nuser = "anna"\nprojects = ["VST", "KIDS"]\nroles = ["user"]\n'
    )
    assert await Tokens.read(path).identify("Bearer secret") == ANNA


@pytest.mark.parametrize("user", ["anna", 'ann "the star" \\o/', "Ångström 天文"])
async def test_the_row_of_a_token_is_read_whatever_stands_in_it(tmp_path, user):
    path = tmp_path / "tokens.toml"
    path.write_text(token_row("secret", user, [user, "KIDS"], ["user"]), encoding="utf-8")
    known = await Tokens.read(path).identify("Bearer secret")
    assert known == Identity(user=user, projects=frozenset({user, "KIDS"}), roles=frozenset({Role.USER}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not toml =",
        "token = 3",
        '[[token]]\nuser = "anna"\n',
        '[[token]]\nsha256 = "a"\nuser = "b"\nprojects = []\nroles = ["king"]\n',
    ],
)
def test_a_bad_file_of_tokens_names_itself(tmp_path, text):
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    with pytest.raises(BadSetting, match=r"DPU_TOKENS_FILE='.*tokens.toml': must be \[\[token\]\] tables"):
        Tokens.read(path)


def test_a_missing_file_of_tokens_names_itself(tmp_path):
    with pytest.raises(BadSetting, match=r"DPU_TOKENS_FILE='.*none': cannot be read: No such file"):
        Tokens.read(tmp_path / "none")
