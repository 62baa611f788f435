from datetime import UTC, date, datetime

import pytest

from dpu.errors import UsageError
from dpu_api.v1 import job_pb2
from dpu_recipes.archive import Selection
from dpu_recipes.frames import Frame
from dpu_recipes.task import TaskSpec
from dpud.worker import wire

FRAME = Frame(
    id="f1",
    frame_class="BiasFrame",
    instrument="WFI",
    chip="ccd50",
    filter="#842",
    object="BIAS",
    night=date(2000, 4, 28),
    date_obs=datetime(2000, 4, 28, 22, 1, 3, 250, tzinfo=UTC),
    exptime=1.5,
    readout="1x1 high",
    overscan=6,
    file_name="WFI.2000-04-28T22:01:03.000_3.fits",
    digest="ab" * 32,
    size=12,
    values={"MEAN": 0.5, "COUNT": 3, "OK": True, "NOTE": None, "LIST": [1, 2.5, "x"]},
    timestamp_start=datetime(2000, 4, 28, 12, tzinfo=UTC),
    timestamp_end=datetime(2000, 4, 29, 12, tzinfo=UTC),
    is_valid=False,
    quality_flags=5,
    creation_date=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    inputs=("a", "b"),
    parameters={"BiasFrame.process_params.SIGMA_CLIP": 3.0},
)


def test_a_frame_of_a_task_is_the_same_after_the_wire() -> None:
    there = wire.frame_from_json(FRAME.to_dict())
    assert Frame.from_dict(wire.frame_to_json(there)) == FRAME
    assert set(wire.frame_to_json(there)) == set(FRAME.to_dict())


def test_a_planned_task_is_the_same_after_the_wire() -> None:
    spec = TaskSpec(label="ccd50", inputs=("a",), arguments={"n": 1, "x": [1.5]}, seconds=2.5, memory_mib=300)
    assert TaskSpec.from_dict(wire.spec_to_json(wire.spec_from_json(spec.to_dict()))) == spec


def test_a_selection_travels_whole() -> None:
    selection = Selection(instrument="WFI", night="2000-04-28", chips=("ccd50",), object="CDF*", file_names=("a", "b"))
    sent = wire.selection_from_json(selection.to_dict())
    assert (sent.instrument, sent.night, list(sent.chips), sent.object) == ("WFI", "2000-04-28", ["ccd50"], "CDF*")
    assert list(sent.file_names) == ["a", "b"]


@pytest.mark.parametrize(
    "change", [{"night": 5}, {"size": "large"}, {"date_obs": "soon"}, {"values": {"x": {1, 2}}}, {"inputs": [1]}]
)
def test_a_product_that_is_no_frame_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="the product is no frame"):
        wire.frame_from_json(FRAME.to_dict() | change)


def test_a_plan_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="a planned task is no TaskSpec: KeyError: 'label'"):
        wire.spec_from_json({})
    with pytest.raises(UsageError, match="the selection is none"):
        wire.selection_from_json({"instrumint": "WFI"})


def test_lines_become_a_batch() -> None:
    from dpud.worker.lines import Level, Lines, Stream

    lines = Lines()
    lines.add("text", Level.WARNING, Stream.STDERR, 17)
    batch = wire.batch(job_pb2.TaskRef(job_id=7), 5, lines)
    assert (batch.first, list(batch.time_us), batch.levels, batch.streams) == (5, [17], b"\x03", b"\x02")
    assert list(batch.texts) == ["text"]
