"""Pictures of products: where the chips are, what was measured when, and what cannot be drawn."""

import io

import numpy as np
import pytest

from dpu.errors import NothingSelected, UsageError
from dpu.processor import Processor
from dpu.report import Reporter
from dpu.values import to_map
from dpu_api.v1.archive_pb2 import Frame
from fakes_client import configured, images, product, serving

pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def script():
    return images()


@pytest.fixture
def dpu(tmp_path, script):
    with serving(tmp_path, script) as address:
        reporter = Reporter(host="schmidt", out=io.StringIO())
        processor = Processor(configured(tmp_path, address), reporter=reporter)
        yield processor
        processor.close()


def test_images_are_drawn_where_the_chips_are(dpu, tmp_path):
    from dpu import plot

    path = dpu.plot(84820, tmp_path / "bias.png")
    assert (path, path.read_bytes()[:8]) == (tmp_path / "bias.png", PNG)
    drawn = plot.plot(dpu.link, 84820)
    left, right = drawn.axes
    assert (left.get_title().splitlines()[0], right.get_title().splitlines()[0]) == ("ccd50", "ccd51")
    assert left.get_position().x0 < right.get_position().x0
    assert (left.images[0].get_array().shape, drawn.get_suptitle()) == ((64, 32), "BiasFrame WFI 2000-04-28")
    low, high = left.images[0].get_clim()
    assert 90 < low < 100 < high < 110


@pytest.mark.parametrize(
    ("frame_class", "name", "label"),
    [("ReadNoise", "READNOISE", "READNOISE (ADU)"), ("GainLinearity", "GAIN", "GAIN (e-/ADU)")],
)
def test_what_is_only_measured_is_drawn_against_time(dpu, script, tmp_path, frame_class, name, label):
    from dpu import plot

    def measured(identifier: str, value: float, day: int) -> Frame:
        made = product("ccd50", id=identifier, frame_class=frame_class, values=to_map({name: value}))
        made.date_obs.FromJsonString(f"2000-04-{day}T00:00:00Z")
        return made

    script.frames = [measured("late", 2.5, 28)]
    history = [measured("early", 2.25, 20), measured("other", 9.0, 21), *script.frames]
    history[1].instrument = "OMEGACAM"
    axes = plot.against_time(script.frames, history).axes[0]
    line, mine = axes.lines
    assert (list(line.get_ydata()), list(mine.get_ydata())) == ([2.25, 2.5], [2.5])
    assert axes.get_ylabel() == label
    assert dpu.plot(84820, tmp_path / "noise.png").read_bytes()[:8] == PNG


def test_a_gain_is_drawn_with_its_fit_beside_its_past():
    from dpu import plot

    values = {
        "GAIN": 2.0,
        "GAIN_ERROR": 0.01,
        "QUADRATIC": 1e-6,
        "SIGNALS": [1000.0, 50000.0],
        "VARIANCES": [501.0, 27500.0],
    }
    gains = [product(chip, frame_class="GainLinearity", values=to_map(values)) for chip in ("ccd50", "ccd51")]
    fits, past = plot.gain_fits(gains, gains).axes
    curve, points = fits.lines[:2]
    assert (curve.get_xdata()[-1], curve.get_ydata()[-1]) == (50000.0, pytest.approx(50000.0 / 2 + 1e-6 * 50000.0**2))
    assert (list(points.get_xdata()), list(points.get_ydata())) == (values["SIGNALS"], values["VARIANCES"])
    assert points.get_label() == "ccd50: 2.000 +- 0.010 e-/ADU"
    assert (len(fits.lines), past.get_ylabel()) == (4, "GAIN (e-/ADU)")


def test_the_figures_of_a_job_are_one_below_the_other_and_that_of_a_product_is_its_own(dpu, script, tmp_path):
    from PIL import Image

    sheets = {}
    for chip, height in (("ccd50", 30), ("ccd51", 40)):
        written = io.BytesIO()
        Image.new("RGB", (50, height), "red").save(written, "PNG")
        sheets[chip] = written.getvalue()
        figure = product(
            chip, written.getvalue(), id=f"figure-{chip}", frame_class="QualityFigure", inputs=[f"id-{chip}"]
        )
        script.frames.append(figure)
        script.files[figure.id] = written.getvalue()
    with Image.open(dpu.plot(84820, tmp_path / "job.png", quality=True)) as whole:
        assert whole.size == (50, 70)
    for frame in script.frames:
        frame.published = True
    results = dpu.get_job_result(84820)
    assert [(made.frame_class, made.chip) for made in results] == [("BiasFrame", "ccd50"), ("BiasFrame", "ccd51")]
    assert dpu.plot(results[1], tmp_path / "one.png").read_bytes() == sheets["ccd51"]


def test_a_job_without_figures_says_so(dpu, tmp_path):
    with pytest.raises(NothingSelected, match="job 84820 has made nothing that a figure was drawn of"):
        dpu.plot(84820, tmp_path / "none.png", quality=True)
    assert not (tmp_path / "none.png").exists()


def test_what_cannot_be_drawn_is_one_line_and_leaves_no_file(dpu, script, tmp_path):
    with pytest.raises(UsageError, match="cannot be written: "):
        dpu.plot(84820, tmp_path / "none" / "bias.png")
    script.frames = []
    with pytest.raises(NothingSelected, match="job 84820 has made nothing that can be drawn"):
        dpu.plot(84820)


def test_chips_of_a_camera_that_is_not_known_here_lie_side_by_side():
    from dpu.plot import places_of

    unknown = places_of("NEWCAM", ["a", "b", "c"])
    assert [(place.x, place.y, place.width, place.height) for place in unknown.values()] == [
        (0, 0, 1, 1),
        (1, 0, 1, 1),
        (0, 1, 1, 1),
    ]
    assert (places_of("WFI", ["ccd51"])["ccd51"].x, places_of("WFI", ["ccd51"])["ccd51"].y) == (2048, 4096)


def test_a_chip_that_lies_across_is_drawn_turned_and_one_between_two_half_as_high():
    from dpu.plot import focal_plane

    flat = np.tile(np.arange(8.0), (16, 1))
    frames = [product(chip, frame_class="DomeFlatFrame", instrument="WFC") for chip in ("CCD4", "CCD1", "CCD2")]
    left, right, across = focal_plane(frames, [flat] * 3).axes
    assert (left.images[0].get_array().shape, across.images[0].get_array().shape) == ((16, 8), (8, 16))
    # Its columns go down.
    assert np.all(np.diff(across.images[0].get_array(), axis=0) == -1)
    assert left.get_subplotspec().colspan.start == across.get_subplotspec().colspan.start
    assert right.get_subplotspec().colspan.stop == across.get_subplotspec().colspan.stop
    assert across.get_subplotspec().rowspan.stop == left.get_subplotspec().rowspan.start
    frames = [product(chip, frame_class="DomeFlatFrame", instrument="DECAM") for chip in ("S4", "S10")]
    middle, beside = (axes.get_subplotspec() for axes in focal_plane(frames, [flat] * 2).axes)
    # A picture's rows go down.
    assert beside.rowspan.start - middle.rowspan.start == 1
    assert len(beside.rowspan) == len(middle.rowspan) == 2
