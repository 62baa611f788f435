import json

import pytest

from dpu.channel import LEADER, OPTIONS, is_local, target
from dpu.channel import _options as options


@pytest.mark.parametrize(
    ("address", "as_grpc_has_it"),
    [
        ("unix:/a", "unix:/a"),
        ("dpu.example.org:443", "dpu.example.org:443"),
        ("unix:/a,unix:/b", "unix:/a,/b"),
        ("127.0.0.1:1,127.0.0.1:2", "ipv4:127.0.0.1:1,127.0.0.1:2"),
        ("[::1]:1,[::1]:2", "ipv6:[::1]:1,[::1]:2"),
    ],
)
def test_addresses_are_put_as_grpc_has_them(address, as_grpc_has_it):
    assert target(address) == as_grpc_has_it


def test_several_addresses_are_local_when_all_are():
    assert is_local("unix:/a,unix:/b")
    assert not is_local("127.0.0.1:1,10.0.0.1:1")


@pytest.mark.parametrize("address", ["unix:/a,unix:/b", "dpu.example.org:443", "10.0.0.1:7070", "dns:///localhost:1"])
def test_where_several_may_listen_the_one_that_serves_is_asked_for(address):
    [(_, found)] = [option for option in options(address) if option not in OPTIONS]
    assert json.loads(found)["healthCheckConfig"] == {"serviceName": LEADER}


@pytest.mark.parametrize("address", ["unix:/a", "127.0.0.1:1", "localhost:1"])
def test_one_place_on_this_machine_is_called_as_it_is(address):
    assert options(address) == OPTIONS
