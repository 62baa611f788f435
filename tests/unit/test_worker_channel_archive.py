"""What a task's process asks its agent, and what it knows without asking."""

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from dpu_recipes.archive import ArchiveError
from dpu_recipes.frames import Frame
from dpud.worker import channel_archive
from dpud.worker.channel import Channel
from dpud.worker.channel_archive import ChannelArchive

NIGHT, MOMENT = date(2000, 4, 28), datetime(2000, 4, 28, 22, 1, 3, tzinfo=UTC)


def bias(name: str) -> Frame:
    return Frame(
        id=name, frame_class="RawBiasFrame", instrument="WFI", chip="ccd50", night=NIGHT, date_obs=MOMENT, digest=name
    )


class Agent:
    """Answers on the other end of a channel, and notes what it was asked; 'gone' it does not have."""

    def __init__(self, ours: socket.socket, cache: Path) -> None:
        self.asked: list[tuple[str, Any]] = []
        #: Of frames that are in the node's cache.
        self.cached: set[str] = set()
        self.cache = cache
        self._channel = Channel(ours)

    def serve(self) -> None:
        while (message := self._channel.order()) is not None:
            call, arguments = message["ask"], message["arguments"]
            self.asked.append((call, arguments.get("frame_ids") or arguments.get("frame_id")))
            self._channel.send(getattr(self, call)(**arguments))

    def find(self, frame_ids: list[str]) -> dict[str, Any]:
        if "gone" in frame_ids:
            return {"error": "NotFound", "message": "there is no frame gone"}
        return {"result": {"frames": [bias(name).to_dict() for name in frame_ids], "files": self._files(frame_ids)}}

    def calibration(self, frame_id: str, **_: Any) -> dict[str, Any]:
        found = f"for {frame_id}"
        return {"result": {"frame": bias(found).to_dict(), "why": "near", "files": self._files([found])}}

    def open(self, frame_id: str) -> dict[str, Any]:
        self.cached.add(frame_id)
        return {"result": self._files([frame_id])[frame_id]}

    def _files(self, names: list[str]) -> dict[str, str]:
        files = {name: self.cache / name for name in names if name in self.cached}
        for file in files.values():
            file.touch()
        return {name: str(file) for name, file in files.items()}


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[Agent, Channel]]:
    ours, theirs = socket.socketpair()
    with ours:
        agent, channel = Agent(ours, tmp_path), Channel(theirs)
        serving = threading.Thread(target=agent.serve)
        serving.start()
        yield agent, channel
        channel.close()
        serving.join()


def test_inputs_are_asked_for_together_and_those_in_the_cache_are_opened_unasked(ends: tuple[Agent, Channel]) -> None:
    agent, channel = ends
    agent.cached = {"a", "b"}
    archive = ChannelArchive(channel, ("a", "b", "c"))
    frames = [archive.find(name) for name in ("a", "b", "c")]
    assert frames == [bias(name) for name in ("a", "b", "c")]
    assert [archive.open(frame) for frame in frames[:2]] == [agent.cache / "a", agent.cache / "b"]
    assert agent.asked == [("find", ["a", "b", "c"])]
    assert [archive.open(frames[2]) for _ in range(2)] == [agent.cache / "c"] * 2
    assert agent.asked[1:] == [("open", "c")]


def test_a_file_that_has_gone_meanwhile_is_asked_for(ends: tuple[Agent, Channel]) -> None:
    agent, channel = ends
    agent.cached = {"a"}
    archive = ChannelArchive(channel)
    frame = archive.find("a")
    (agent.cache / "a").unlink()
    assert archive.open(frame).exists()
    assert agent.asked == [("find", ["a"]), ("open", "a")]


def test_nothing_is_asked_before_the_first_input(ends: tuple[Agent, Channel]) -> None:
    agent, channel = ends
    archive = ChannelArchive(channel, ("a", "b"))
    archive.find("another")
    assert agent.asked == [("find", ["another"])]


def test_the_file_of_a_calibration_comes_with_it(ends: tuple[Agent, Channel]) -> None:
    agent, channel = ends
    agent.cached = {"for a"}
    archive = ChannelArchive(channel)
    found = archive.calibration("BiasFrame", archive.find("a"))
    assert archive.open(found) == agent.cache / "for a"
    assert [call for call, _ in agent.asked] == ["find", "calibration"]


def test_many_inputs_are_asked_for_a_number_at_a_time(
    ends: tuple[Agent, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, channel = ends
    monkeypatch.setattr(channel_archive, "TOGETHER", 2)
    archive = ChannelArchive(channel, ("a", "b", "c", "d", "e"))
    for name in ("b", "a", "c", "d", "e"):
        archive.find(name)
    assert [names for _, names in agent.asked] == [["b", "a"], ["c", "d"], ["e"]]


def test_an_input_that_is_gone_is_named_when_it_is_asked_for(ends: tuple[Agent, Channel]) -> None:
    agent, channel = ends
    archive = ChannelArchive(channel, ("a", "gone", "b"))
    assert archive.find("a") == bias("a")
    with pytest.raises(ArchiveError, match="there is no frame gone"):
        archive.find("gone")
    archive.find("b")
    assert [names for _, names in agent.asked] == [["a", "gone", "b"], ["a"], ["gone"], ["b"]]
