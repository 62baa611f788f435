"""A real browser on the queue page of a real DPU: what it looks at, and who looks."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

import fakes_debian as debian
from dpu import local
from dpu.config import Config
from dpu.ingest import find_files, ingest
from dpu.processor import Processor
from dpu.report import Reporter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

ROOT = Path(__file__).parents[1]
#: Where npm installs the rules of accessibility, kept between runs.
ROOM = ROOT / "build" / "npm" / "axe"
RULES = "axe-core@4.14.1"
#: What WCAG 2.2 at level AA asks for, as far as a program can tell.
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
#: More of them where pictures are taken for the documentation.
CHIPS = "8" if os.environ.get("DPU_PICTURES") else "2"
NIGHT = ("--instrument", "WFI", "--chips", CHIPS, "--scale", "0.1", "--biases", "3", "--seed", "7")
ASKED = {"i": "WFI", "d": "2000-04-28", "C": 1}
DEADLINE_MS = 60_000
DESK = {"width": 1280, "height": 720}
PHONE = {"width": 390, "height": 844}


def chromium() -> str:
    """Return the program of a browser, installed where it may be. Skips the test where there is none."""
    if why := debian.lacking("chromium", "chromium", "fonts-dejavu-core"):
        pytest.skip(why)
    return shutil.which("chromium") or "chromium"


def rules() -> str:
    """Return the script that looks for what keeps people out. Skips the test where npm cannot install it."""
    script = ROOM / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        if shutil.which("npm") is None:
            pytest.skip(f"npm is not installed: no {RULES} to check the pages with")
        ROOM.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--prefix", str(ROOM), "--no-audit", "--no-fund", RULES]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            pytest.skip(f"npm cannot install {RULES}: {done.stderr[-200:]}")
    return script.read_text()


def barriers(page: Page) -> list[tuple[str, list[str]]]:
    """Return what keeps people from using a page, by rule: the elements that break it."""
    page.evaluate(rules())
    asked = {"runOnly": {"type": "tag", "values": LEVELS}}
    found: dict[str, Any] = page.evaluate("asked => axe.run(document, asked)", asked)
    assert len(found["passes"]) > 5, "the rules did not run"
    return [(broken["id"], [node["html"] for node in broken["nodes"]]) for broken in found["violations"]]


@contextmanager
def browsing(ears: Ears) -> Iterator[Browser]:
    """Run a browser without a screen, every context of which is listened to."""
    # What a browser shuts itself in needs rights that a container's root does not have.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=arguments, timeout=DEADLINE_MS)
        fresh = browser.new_context
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(browser, "new_context", lambda **words: ears.listening(fresh(**words)))
            yield browser
        browser.close()


@dataclass
class Ears:
    """Hear what goes wrong on the pages of every context, as a browser's console tells it."""

    said: list[str] = field(default_factory=list)
    #: What goes wrong on the pages of these origins, as a provider's, is theirs.
    strangers: set[str] = field(default_factory=set)

    def listening(self, context: BrowserContext) -> BrowserContext:
        """Return the context, listened to from now on."""
        context.on("console", self._hear)
        context.on("weberror", lambda error: self.said.append(str(error.error)))
        return context

    def forgive(self, page: Page, text: str, times: int = 1) -> None:
        """Pass over what a test has made go wrong on a page, when it has been said so often."""
        deadline = time.monotonic() + DEADLINE_MS / 1000
        while sum(text in line for line in self.said) < times:
            assert time.monotonic() < deadline, f"{text!r} was not said {times} times within 60 s, but {self.said}"
            page.wait_for_timeout(50)
        self.said = [line for line in self.said if text not in line]

    def _hear(self, message: ConsoleMessage) -> None:
        page = message.page
        if message.type in ("error", "warning") and (page is None or _origin(page.url) not in self.strangers):
            self.said.append(message.text)


@contextmanager
def looking(context: BrowserContext, address: str) -> Iterator[Page]:
    """Give a page."""
    page = context.new_page()
    page.goto(address)
    yield page
    page.close()


def taken(page: Page, name: str, height: int = 800) -> None:
    """Keep a picture of a page for the documentation, of as few colours as it needs."""
    page.set_viewport_size({"width": 1120, "height": height})
    file = ROOT / "docs" / "images" / f"{name}.png"
    page.screenshot(path=file)
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE).save(file, optimize=True)


def _origin(url: str) -> str:
    return urlsplit(url).netloc


@dataclass
class Night:
    """An embedded DPU that has two chips of a night, and whose worker can be held."""

    home: Path
    project: str = "KIDS"
    _open: ExitStack = field(default_factory=ExitStack)

    def processor(self, project: str = "") -> Processor:
        """Return a session in a project."""
        config = Config(home=self.home, username="ann", project=project or self.project)
        session = Processor(config, reporter=Reporter(out=io.StringIO()))
        self._open.callback(session.close)
        return session

    @property
    def token(self) -> str:
        """What its owner signs in with."""
        return local.Home(self.home).token.read_text().strip()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no task begin while the block runs."""
        worker = next(each for each in self._process().children() if "worker" in each.cmdline())
        worker.suspend()
        try:
            yield
        finally:
            with suppress(psutil.NoSuchProcess):
                worker.resume()

    def killed(self) -> None:
        """End it as a power cut would, with all that it has started."""
        processes = [*(dpu := self._process()).children(recursive=True), dpu]
        for process in reversed(processes):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        _, alive = psutil.wait_procs(processes, timeout=60)
        assert not alive, f"still there: {alive}"

    def started(self) -> None:
        """Start it again, where it was."""
        local.ensure(self.home, lambda _: None)

    def close(self) -> None:
        """End it."""
        self._open.close()
        local.stop(self.home)

    def _process(self) -> psutil.Process:
        running = local.Home(self.home).read_running()
        assert running
        return psutil.Process(running.pid)


@contextmanager
def a_night(folder: Path) -> Iterator[Night]:
    """Run an embedded DPU with a night of two small chips."""
    command = [sys.executable, "-m", "dpu_recipes.simulate", str(folder / "night"), *NIGHT]
    subprocess.run(command, check=True, capture_output=True)
    night = Night(folder / "dpu")
    try:
        ingest(night.processor().link, find_files([folder / "night" / "raw"]), lambda _: None)
        yield night
    finally:
        night.close()


@contextmanager
def the_page(night: Night) -> Iterator[str]:
    """Serve its queue page as `awe web` does; give the address that lets in once."""
    environment = {name: os.environ[name] for name in local.KEPT if name in os.environ}
    environment |= {"DPU_HOME": str(night.home), "DPU_PROJECT": night.project}
    awe = Path(sys.executable).parent / "awe"
    with subprocess.Popen([str(awe), "web"], env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
