"""What the pictures of a job's page are drawn from: chips, the focal plane, the time line."""

from __future__ import annotations

from dpu_api.v1 import archive_pb2, job_pb2
from dpud.web.chips import Chip, chips
from dpud.web.lineage import Traced, picture
from dpud.web.mosaic import mosaic
from dpud.web.timeline import timeline

SUCCEEDED, FAILED = job_pb2.TASK_STATE_SUCCEEDED, job_pb2.TASK_STATE_FAILED
RUNNING, QUEUED = job_pb2.TASK_STATE_RUNNING, job_pb2.TASK_STATE_QUEUED


def task(number: int, label: str, state: int = SUCCEEDED, when: tuple[float, float] = (0, 0), **more: object):
    made = job_pb2.Task(
        ref=job_pb2.TaskRef(job_id=7, task=number), label=label, state=state, recipe="Bias", worker="one"
    )
    for name, moment in zip(("started", "ended"), when, strict=True):
        if moment:
            getattr(made, name).FromNanoseconds(int(moment * 1e9))
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_a_chip_is_in_the_worst_state_of_its_tasks():
    tasks = [
        task(0, "", plan=True),
        task(1, "ccd51"),
        task(2, "ccd50 #842", FAILED),
        task(3, "ccd50 #843"),
        task(4, "ccd50 #844"),
        task(5, "odd", QUEUED),
    ]
    assert chips(tasks, ["ccd50", "ccd51", "ccd52"]) == [
        Chip("ccd50", "FAILED", "1 failed, 2 succeeded"),
        Chip("ccd51", "SUCCEEDED", "1 succeeded"),
        Chip("odd", "QUEUED", "1 queued"),
    ]
    assert [chip.sign for chip in chips(tasks, ["ccd50"])] == ["✕", "✓", "…"]


def test_the_mosaic_has_each_chip_where_the_instrument_has_it():
    places = [
        archive_pb2.ChipPlace(chip="low", x=0, y=0, width=2000, height=4000),
        archive_pb2.ChipPlace(chip="high", x=2000, y=4000, width=2000, height=4000),
    ]
    chip = Chip("high", "FAILED", "1 failed")
    found = mosaic(archive_pb2.Instrument(name="WFI", places=places), [chip])
    assert found is not None
    assert (found.instrument, found.height) == ("WFI", 200.0)
    low, high = found.tiles
    assert (low.chip, low.x, low.y, low.width, low.height) == (None, 0.3, 100.3, 49.4, 99.4)
    assert (high.chip, high.x, high.y, high.middle) == (chip, 50.3, 0.3, (75.0, 50.0))
    assert mosaic(archive_pb2.Instrument(name="WFI"), [chip]) is None


def test_names_fit_their_chips():
    place = archive_pb2.ChipPlace(chip="a-name-of-a-chip", width=100, height=1000)
    other = archive_pb2.ChipPlace(chip="other", x=900, width=100, height=100)
    found = mosaic(archive_pb2.Instrument(places=[place, other]), [])
    assert found is not None
    for tile in found.tiles:
        assert 0 < tile.letters * 0.62 * len(tile.name) <= tile.width
        assert tile.letters <= tile.height


def test_tasks_that_overlap_are_in_lanes_of_their_own():
    found = timeline(
        [
            task(1, "ccd50", when=(100, 150)),
            task(2, "ccd51", when=(125, 200)),
            task(3, "ccd52", FAILED, when=(150, 200)),
            task(4, "ccd53", RUNNING, when=(180, 0), worker="two"),
            task(5, "ccd54", QUEUED),
        ],
        now=200.0,
    )
    assert found is not None
    assert found.ticks == ("00:01:40", "00:02:05", "00:02:30", "00:02:55", "00:03:20")
    one, two = found.workers
    assert [(bar.x, bar.width, bar.lane, bar.state) for bar in one.bars] == [
        (0.0, 500.0, 0, "succeeded"),
        (250.0, 750.0, 1, "succeeded"),
        (500.0, 500.0, 0, "failed"),
    ]
    assert (one.lanes, one.tasks, one.busy, one.height) == (2, 3, "88%", 28)
    assert one.bars[2].words == "task 3, Bias ccd52: failed, 50 s"
    assert (two.worker, two.bars[0].x, two.bars[0].width) == ("two", 800.0, 200.0)


def test_ten_thousand_short_tasks_are_few_bars():
    tasks = [task(n, "ccd50", when=(n, n + 1), worker="") for n in range(1, 10_001)]
    tasks.append(task(10_001, "ccd51", FAILED, when=(5000.5, 5001), worker=""))
    found = timeline(tasks, now=0.0)
    assert found is not None
    (worker,) = found.workers
    assert (worker.worker, worker.lanes) == ("(unknown)", 2)
    bars = worker.bars
    assert len(bars) < 10
    assert [bar.state for bar in bars].count("failed") == 1
    assert "several tasks: succeeded" in {bar.words for bar in bars}
    assert timeline([task(1, "ccd50", QUEUED)], now=0.0) is None


def frame(identifier: str, kind: str = "BiasFrame", chip: str = "ccd50") -> archive_pb2.Frame:
    made = archive_pb2.Frame(id=identifier, frame_class=kind, chip=chip, night="2000-04-28")
    made.ref.job_id = 0 if kind.startswith("Raw") else 7
    made.published = True
    return made


def links(*pairs: str) -> list[archive_pb2.Link]:
    """Return links by 'product<input'."""
    return [archive_pb2.Link(product=pair.split("<")[0], input=pair.split("<")[1]) for pair in pairs]


def test_a_lineage_goes_from_left_to_right_by_generations():
    raw = [frame(f"raw{number}", "RawBiasFrame") for number in range(6)]
    bias, noise, hot = frame("bias"), frame("noise", "ReadNoise"), frame("hot", "HotPixelMap")
    sources = Traced(
        [*raw, noise],
        links(*(f"bias<raw{n}" for n in range(6)), "bias<noise", "noise<raw0", "bias<gone"),
        is_progeny=False,
    )
    drawn = picture(bias, sources, Traced([hot], links("hot<bias"), is_progeny=True))
    assert drawn is not None
    boxes = {(box.title, box.x): box for box in drawn.boxes}
    across = [box.x for box in sorted(drawn.boxes, key=lambda box: box.x)]
    assert across == [1, 273, 273, 273, 545, 817]
    assert [entry.path for entry in boxes["BiasFrame", 545].entries] == [""]
    assert boxes["BiasFrame", 545].is_here
    assert boxes["HotPixelMap", 817].entries[0].path == "/frames/hot"
    assert (len(boxes["RawBiasFrame", 273].entries), boxes["RawBiasFrame", 273].more) == (4, 1)
    assert boxes["not to be seen", 273].entries[0].words == "gone, or not yours"
    assert boxes["RawBiasFrame", 1].entries[0].words == "ccd50 1970-01-01 00:00"
    # Raw to noise, raw to bias from two boxes, noise to bias, what is gone to bias, bias to the map.
    assert len(drawn.curves) == 6
    assert all(0 <= box.x < box.x + 216 < drawn.width and 0 <= box.y + box.height < drawn.height for box in drawn.boxes)


def test_a_frame_alone_has_no_picture_of_its_lineage():
    assert (
        picture(frame("raw", "RawBiasFrame"), Traced([], [], is_progeny=False), Traced([], [], is_progeny=True)) is None
    )
