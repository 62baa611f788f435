import pytest

from dpud.hosting.folder import owned
from dpud.hosting.settings import Address, BadSetting, Environment, Listening, Peer


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("unix:/run/dpu/socket", True),
        ("127.0.0.1:7000", True),
        ("localhost:7000", True),
        ("[::1]:7000", True),
        ("0.0.0.0:7000", False),
        ("[::]:7000", False),
        ("dpu.example.org:443", False),
        ("dns:///dpu.example.org:443", False),
        ("10.1.2.3:1", False),
        ("localhost.example.org:1", False),
    ],
)
def test_an_address_knows_whether_only_this_machine_reaches_it(text, local):
    assert Address.parse(text).is_local is local


@pytest.mark.parametrize(
    "text", ["", "unix:", "host", ":7000", "host:", "host:port", "http://host:1", "a b:1", "host:65536"]
)
def test_an_address_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="must be 'unix:/path' or 'host:port'"):
        Address.parse(text)


def test_a_service_may_be_at_several_addresses_of_one_kind():
    for text in ("unix:/a,unix:/b", "127.0.0.1:1,127.0.0.1:2", "[::1]:1,[::1]:2", "dpu.example.org:1"):
        assert Address.parse_several(text).text == text
    for text in ("unix:/a,127.0.0.1:1", "10.0.0.1:1,10.0.0.2:1", "a.org:1,b.org:1"):
        with pytest.raises(ValueError, match="several addresses must be sockets of this machine"):
            Address.parse_several(text)
    for text in ("unix:/a,", ",", "unix:/a,nowhere"):
        with pytest.raises(ValueError, match="must be 'unix:/path' or 'host:port'"):
            Address.parse_several(text)
    with pytest.raises(ValueError, match="must be"):
        Address.parse("unix:/a,unix:/b")


def test_an_address_has_its_parts():
    assert (Address.parse("dns:///a.b:1").host, Address.parse("[::1]:22").host) == ("a.b", "::1")
    assert (Address.parse("[::1]:22").port, str(Address.parse("unix:/a/b").socket)) == (22, "/a/b")


def test_a_setting_is_converted_or_its_default():
    environment = Environment({"DPU_A": "3", "DPU_EMPTY": ""})
    assert environment.get("DPU_A", int) == 3
    assert environment.get("DPU_EMPTY", int, 4) == 4
    assert environment.get("DPU_B", int, None) is None


def test_a_bad_setting_names_its_key_and_value():
    with pytest.raises(BadSetting, match="DPU_A='three': invalid literal"):
        Environment({"DPU_A": "three"}).get("DPU_A", int)
    with pytest.raises(BadSetting, match="DPU_A is not set"):
        Environment({}).get("DPU_A", int)
    with pytest.raises(BadSetting, match="DPU_LISTEN='nowhere': must be"):
        Listening.read(Environment({"DPU_LISTEN": "nowhere"}))


def test_a_secret_comes_from_a_file(tmp_path):
    (tmp_path / "token").write_text("secret\n")
    environment = Environment({"DPU_TOKEN_FILE": str(tmp_path / "token"), "DPU_LOGS": "localhost:1"})
    assert Peer.read(environment, "DPU_LOGS") == Peer(Address("localhost:1"), "secret")
    with pytest.raises(BadSetting, match=r"DPU_TOKEN_FILE='.*none': cannot be read"):
        Environment({"DPU_TOKEN_FILE": str(tmp_path / "none")}).secret("DPU_TOKEN_FILE")


def test_a_folder_is_used_by_one_at_a_time(tmp_path):
    folder = tmp_path / "a" / "b"
    with owned(folder):
        assert folder.stat().st_mode & 0o777 == 0o700
        with pytest.raises(BadSetting, match=r"DPU_STATE='.*b': another process uses it"), owned(folder):
            pass
    with owned(folder):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadSetting, match=r"DPU_STATE='.*file/x': cannot be used"), owned(tmp_path / "file" / "x"):
        pass
