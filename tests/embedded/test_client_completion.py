"""What the Tab key offers, as text and through IPython itself."""

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

from dpu.completion import install, offers
from dpu.processor import Processor
from fakes_client import Script, configured, serving

HOT = ["i=", "d=", "c=", "p=", "C=", "privileges=", "instrument=", "date=", "chip=", "pars=", "commit="]
OWN = ["send_code=", "dpu_time=", "dpu_mem=", "dpu_priority=", "dpu_dryrun=", "dpu_aweversion=", "dryrun=", "follow="]


@pytest.fixture(scope="module")
def dpu(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dpu")
    with serving(folder, Script()) as address:
        processor = Processor(configured(folder, address), find_checkout=lambda: None)
        yield processor
        processor.close()


@pytest.mark.parametrize(
    ("text", "begun", "names"),
    [
        ("dpu.run('", "", ["HotPixels", "Bias"]),
        ('job = dpu.run("Bi', "Bi", ["Bias"]),
        ("dpu.run(sequence='H", "H", ["HotPixels"]),
        ("dpu.show_sequence_options('", "", ["HotPixels", "Bias"]),
        ("dpu.run('HotPixels', ", "", [*HOT, *OWN]),
        ("dpu.run('HotPixels', i='WFI', d", "d", ["d=", "date=", "dpu_time=", "dpu_mem=", "dpu_priority="]),
        ("dpu.run('HotPixels', d='2000-04-28', dat", "dat", []),
        ("dpu.run('HotPixels',\n    i='a, c=', c", "c", ["c=", "chip=", "commit="]),
        ("dpu.run('HotPixels', i='WF", "", []),
        ("dpu.run('HotPixels', p=dict(a=1), com", "com", ["commit="]),
        ("dpu.run('Nothing', ", "", []),
        ("pars = Pars('Bias", "Bias", ["BiasFrame", "Bias"]),
        ("dpu.select_dpu('gr", "gr", ["groningen"]),
        ("Env['dpu_name'] = '", "", ["local", "groningen"]),
        ("print('", "", []),
    ],
)
def test_what_fits_there_is_offered(dpu, text, begun, names):
    found, offered = offers(text, dpu)
    if text.endswith(" d"):
        offered = offered[: len(names)]
    assert (found, offered) == (begun, names)


def test_no_dpu_in_reach_offers_nothing(tmp_path, monkeypatch):
    from dpu import submission
    from dpu.errors import BadTree

    def nothing(_cache: object) -> None:
        raise BadTree("no recipes are installed here")

    monkeypatch.setattr(submission, "describe_installed", nothing)
    dpu = Processor(configured(tmp_path, f"unix:{tmp_path}/nobody.sock"), find_checkout=lambda: None)
    assert offers("dpu.run('", dpu) == ("", [])


def test_ipython_asks_us(dpu):
    shell = InteractiveShell()
    shell.user_ns["dpu"] = dpu
    install(shell, dpu)
    with provisionalcompleter():
        assert [item.text for item in shell.Completer.completions("dpu.run('HotPixels', com", 24)] == ["commit="]
        assert [item.text for item in shell.Completer.completions("dpu.run('Ho", 11)] == ["HotPixels"]
        assert "get_status" in {item.text.lstrip(".") for item in shell.Completer.completions("dpu.get_st", 10)}
