"""The simulator: what it declares is what its frames hold, and ingest reads them as real ones."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits

from dpu_recipes import header as headers
from dpu_recipes.exposure import split
from dpu_recipes.frames import Strips
from dpu_recipes.instrument import InstrumentError
from dpu_recipes.instruments import load
from dpu_recipes.simulate import BadNight, Detector, Exposure, Layout, Night, Truth, write_night
from dpu_recipes.simulate.__main__ import main
from dpu_recipes.simulate.cards import example
from dpu_recipes.simulate.counts import drifts, expose
from dpu_recipes.simulate.draw import HOT_AMPLITUDE, HOT_FRACTION
from dpu_recipes.simulate.flaw import FLAWS, OTHER_FILTER
from dpu_recipes.simulate.night import LAMP_GRADIENT, illumination
from dpu_recipes.simulate.rays import thrown
from dpu_recipes.simulate.stars import SEEING, Stars
from dpu_recipes.testing import Allowance, assert_agrees

if TYPE_CHECKING:
    from pathlib import Path

INSTRUMENTS = load()
WFI = INSTRUMENTS.get("WFI")
SMALL = 1 / 32
BIAS = Exposure(frame_class="RawBiasFrame")


TWIN = """
name = "TWIN"
telescope = "a telescope of our own"
longitude_deg = 173.0
recognise = [{ DETECTOR = "twin ?", INSTRUME = "camera | cam*" }]
types = [
    { class = "RawBiasFrame", when = { IMAGETYP = "zero* | bias", exptime = "<= 0.01" } },
    { class = "RawDomeFlatFrame", when = { IMAGETYP = "flat*", exptime = "> 0" } },
]
chips = [{ name = "left" }, { name = "right", column = 1 }]

[detector]
chip_size = [100, 80]
pixel_arcsec = 0.5
gain = 1.0
read_noise = 4.0
saturation = 65535
strips = { overscan_x = 12, prescan_y = 3 }

[keys]
date_obs = "SHUTOPEN"
exptime = "TEXP"
filter = "FILTERID"
chip = "CCDNAME"
binning = "CCDSUM"
"""


def night(**changes: object) -> Night:
    """Return a tiny night of two chips, with `changes`."""
    return Night(**{"instrument": WFI, "chips": ("ccd50", "ccd51"), "scale": SMALL, "biases": 2, **changes})


def a_detector(**changes: object) -> Detector:
    """Return a featureless CCD of 200 x 300 pixels with strips on all sides, with `changes`."""
    layout = Layout(rows=200, columns=300, strips=Strips(prescan_x=10, overscan_x=20, prescan_y=5, overscan_y=15))
    height, width = layout.shape
    light = (layout.rows, layout.columns)
    known = {
        "chip": "ccd50",
        "layout": layout,
        "read_noise": 2.5,
        "gain": 2.0,
        "level": 200.0,
        "sigma": 0.8,
        "row_pattern": np.zeros(height, np.float32),
        "column_pattern": np.zeros(width, np.float32),
        "surface": np.zeros(light, np.float32),
        "hot": np.zeros(light, np.float32),
        "flat": np.ones(light, np.float32),
    }
    return Detector(**{**known, **changes})


def everything(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_night_is_the_same_bytes(tmp_path: Path) -> None:
    write_night(night(domes=1), tmp_path / "a")
    write_night(night(domes=1), tmp_path / "b")
    first = everything(tmp_path / "a")
    assert len(first) == 3 + 2 + 1
    assert first == everything(tmp_path / "b")


def test_another_seed_is_another_night(tmp_path: Path) -> None:
    write_night(night(), tmp_path / "a")
    write_night(night(seed=2), tmp_path / "b")
    first, second = everything(tmp_path / "a"), everything(tmp_path / "b")
    assert first.keys() == second.keys()
    assert not any(first[name] == second[name] for name in first)


def test_a_chip_does_not_depend_on_its_neighbours_nor_a_frame_on_those_after_it(tmp_path: Path) -> None:
    write_night(night(), tmp_path / "both")
    write_night(night(chips=("ccd51",), domes=1), tmp_path / "one")
    name = "raw/WFI.2000-04-28T19:42:56.000.fits"
    both, one = (fits.getdata(tmp_path / which / name, "ccd51") for which in ("both", "one"))
    np.testing.assert_array_equal(both, one)


@pytest.mark.parametrize("name", INSTRUMENTS.names())
def test_ingest_reads_the_frames_as_real_ones(name: str, tmp_path: Path) -> None:
    instrument = INSTRUMENTS.get(name)
    chips = instrument.chip_names()[:2]
    wanted = night(
        instrument=instrument, chips=chips, biases=1, domes=1, twilights=1, filter="V", date=date(2004, 2, 29)
    )
    truth = write_night(wanted, tmp_path / "night")
    files = sorted((tmp_path / "night" / "raw").iterdir())
    for file, exposure in zip(files, truth.exposures, strict=True):
        frames = [frame for frame, _ in split(file, file.name, INSTRUMENTS, tmp_path)]
        assert [frame.chip for frame in frames] == list(chips)
        for frame in frames:
            assert frame.frame_class == exposure.frame_class
            assert (frame.instrument, frame.filter, frame.night) == (name, "V", date(2004, 2, 29))
            assert frame.date_obs == exposure.date_obs
            assert frame.exptime == exposure.exptime
            assert Strips.of(frame) == instrument.strips
    classes = ["RawBiasFrame", "RawDomeFlatFrame", "RawTwilightFlatFrame"]
    assert [exposure.frame_class for exposure in truth.exposures] == classes


def test_a_camera_that_only_a_toml_describes_is_simulated(tmp_path: Path) -> None:
    folder = tmp_path / "instruments"
    folder.mkdir()
    (folder / "TWIN.toml").write_text(TWIN)
    arguments = ["--instrument", "TWIN", "--instruments", str(folder), "--scale", "1", "--biases", "1", "--domes", "1"]
    assert main([str(tmp_path / "night"), *arguments]) == 0
    frames = [
        frame
        for file in sorted((tmp_path / "night" / "raw").iterdir())
        for frame, _ in split(file, file.name, load(folder), tmp_path)
    ]
    assert [(frame.frame_class, frame.chip, frame.filter) for frame in frames] == [
        ("RawBiasFrame", "left", "#842"),
        ("RawBiasFrame", "right", "#842"),
        ("RawDomeFlatFrame", "left", "#842"),
        ("RawDomeFlatFrame", "right", "#842"),
    ]
    assert Strips.of(frames[0]) == Strips(overscan_x=12, prescan_y=3)


@pytest.mark.parametrize("pattern", ["BIAS*", "DARK | BIAS", "0", "<= 0.01", "> 0", "< 5", "dome*flat*", "FLAT,???"])
def test_an_example_fits_its_pattern(pattern: str) -> None:
    assert headers.fits(example(pattern), pattern)


def test_an_instrument_without_a_rule_for_a_class_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    blind = replace(WFI, types=WFI.types[:1])
    with pytest.raises(InstrumentError, match=r"WFI.toml has no rule for RawDomeFlatFrame"):
        write_night(night(instrument=blind, domes=1), tmp_path / "night")
    assert list(tmp_path.iterdir()) == []


def test_the_truth_read_back_is_what_was_drawn(tmp_path: Path) -> None:
    asked = night(domes=1)
    written = write_night(asked, tmp_path / "night")
    read = Truth.read(tmp_path / "night")
    assert read == written
    assert list(read.exposures) == asked.exposures()
    drawn, found = (asdict(source.detector("ccd51")) for source in (asked, read))
    for name, value in drawn.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_exposures_follow_each_other_in_the_night_asked_for() -> None:
    exposures = night(domes=2).exposures()
    assert [exposure.frame_class for exposure in exposures] == ["RawBiasFrame"] * 2 + ["RawDomeFlatFrame"] * 2
    assert [exposure.started() for exposure in exposures] == [
        "2000-04-28T19:42:56.000",
        "2000-04-28T19:43:26.141",
        "2000-04-28T19:43:56.282",
        "2000-04-28T19:44:38.923",
    ]


def test_the_noise_is_the_read_noise_and_that_of_rounding() -> None:
    detector = a_detector(read_noise=2.0, level=200.3)
    frame, _ = expose(detector, BIAS, 0.0, np.random.default_rng(1))
    noise = np.std(frame[detector.layout.regions.data].astype(float))
    expected = np.sqrt(2.0**2 + 1 / 12)
    pixels = 200 * 300
    allowance = Allowance(error=expected / np.sqrt(2 * pixels), times=4, systematic=0.002 * expected, because="drifts")
    assert_agrees("noise", float(noise), expected, allowance)


def test_the_mean_is_not_moved_by_rounding() -> None:
    detector = a_detector(read_noise=2.0, level=200.3)
    frame, befell = expose(detector, BIAS, 0.4, np.random.default_rng(2))
    assert befell.drift == 0.4
    assert_agrees("mean", float(frame.mean()), 200.7, Allowance(error=2.0 / np.sqrt(frame.size), times=4))


def test_strips_see_neither_light_nor_surface_nor_hot_pixels() -> None:
    light = (200, 300)
    detector = a_detector(surface=np.full(light, 50, np.float32), hot=np.full(light, 90, np.float32))
    flat = Exposure(frame_class="RawDomeFlatFrame", light=1000.0, exptime=1.0)
    frame, _ = expose(detector, flat, 0.0, np.random.default_rng(3))
    regions = detector.layout.regions
    assert frame[regions.data].mean() == pytest.approx(200 + 50 + 90 + 1000, abs=1)
    for name in ("prescan_x", "overscan_x", "prescan_y", "overscan_y"):
        assert frame[getattr(regions, name)].mean() == pytest.approx(200, abs=0.3), name


def test_each_overscan_method_takes_off_what_its_strip_carries() -> None:
    rows = np.arange(220, dtype=np.float32)
    columns = np.zeros(330, np.float32)
    columns[10:310] = np.arange(300)
    detector = a_detector(row_pattern=rows, column_pattern=columns, hot=np.ones((200, 300), np.float32))
    y, x = rows[5:205, None], columns[None, 10:310]
    np.testing.assert_allclose(detector.bias(0), 201 + y + x, rtol=1e-6)
    for method, left in {
        1: 1 + y - y.mean() + x,
        2: 1 + y - y.mean() + x,
        3: 1 + y - rows[:5].mean() + x - x.mean(),
        4: 1 + y - rows[205:].mean() + x - x.mean(),
        5: 1 + 0 * y + x,
        6: 1 + 0 * y + x,
        7: 1 + y - rows[:5].mean() + 0 * x,
        8: 1 + y - rows[205:].mean() + 0 * x,
    }.items():
        np.testing.assert_allclose(detector.bias(method), left, atol=1e-3, err_msg=f"method {method}")


def test_a_method_without_truth_or_without_its_strip_is_refused() -> None:
    with pytest.raises(ValueError, match=r"overscan method 9 is not one of 0 ... 8, whose truth is known"):
        a_detector().bias(9)
    bare = a_detector()
    bare = replace(bare, layout=replace(bare.layout, strips=replace(bare.layout.strips, overscan_x=0, prescan_x=30)))
    with pytest.raises(ValueError, match=r"overscan method 6 needs overscan_x, and ccd50 has none"):
        bare.bias(6)


@pytest.mark.parametrize("light", [500.0, 20_000.0])
def test_photons_give_the_gain(light: float) -> None:
    detector = a_detector(gain=1.6)
    flat = Exposure(frame_class="RawDomeFlatFrame", light=light)
    data = detector.layout.regions.data
    first, second = (expose(detector, flat, 0.0, np.random.default_rng(seed))[0][data].astype(float) for seed in (4, 5))
    kept = np.abs(first - second) < 5 * np.sqrt(2 * light / 1.6)
    variance = np.var((first - second)[kept]) / 2 - detector.effective_read_noise**2
    level = (first + second)[kept].mean() / 2 - detector.level
    assert_agrees("gain", level / variance, 1.6, Allowance(error=1.6 * np.sqrt(2 / kept.sum()), times=4))


def test_light_is_lost_as_the_nonlinearity_says() -> None:
    detector = a_detector(nonlinearity=0.04)
    flat = Exposure(frame_class="RawDomeFlatFrame", light=25_000.0)
    image, _ = expose(detector, flat, 0.0, np.random.default_rng(7))
    measured = float(np.median(image[detector.layout.regions.data])) - detector.level
    # Half of NONLINEAR_AT loses half of the part.
    assert measured == pytest.approx(25_000 * 0.98, abs=3)


def test_counts_stop_at_the_ends_of_the_converter() -> None:
    bright, _ = expose(a_detector(level=70_000.0), BIAS, 0.0, np.random.default_rng(6))
    dark, _ = expose(a_detector(level=-500.0), BIAS, 0.0, np.random.default_rng(6))
    assert (bright.min(), dark.max()) == (65535, 0)


def test_cosmic_rays_are_where_the_truth_says() -> None:
    # The same random numbers, and an exposure so long that rays are many: what differs is the rays.
    long = Exposure(frame_class="RawDarkFrame", exptime=36_000.0)
    detector = a_detector()
    frame, befell = expose(detector, long, 0.0, np.random.default_rng(7))
    quiet, _ = expose(detector, BIAS, 0.0, np.random.default_rng(7))
    light = frame[detector.layout.regions.data].astype(float) - quiet[detector.layout.regions.data]
    hit = np.zeros(light.shape, np.float32)
    hit[befell.rays.y, befell.rays.x] = befell.rays.signal
    assert (hit > 0).sum() > 100
    np.testing.assert_allclose(light, hit, atol=1)


def test_no_time_brings_no_cosmic_rays() -> None:
    assert thrown(a_detector().layout, 0.0, 2.5, np.random.default_rng(8)).signal.size == 0


def test_levels_walk() -> None:
    walk = drifts(10_000, np.random.default_rng(9))
    assert np.std(np.diff(walk)) == pytest.approx(0.5, rel=0.03)
    assert np.std(walk) > 1


def test_hot_pixels_span_their_range_evenly_in_the_logarithm() -> None:
    detector = night(scale=1 / 8).detector("ccd50")
    amplitudes = detector.hot / np.float32(detector.sigma)
    lines = (amplitudes > 0).mean(axis=0) > 0.1
    single = amplitudes[:, ~lines]
    single = single[single > 0]
    low, high = HOT_AMPLITUDE
    assert low <= single.min() < 1.1 * low
    assert 0.9 * high < single.max() <= high * 1.0001
    assert single.size == pytest.approx(HOT_FRACTION * detector.hot.size, rel=0.05)
    middle = np.sqrt(low * high)
    assert_agrees("half of them", np.mean(single < middle), 0.5, Allowance(error=0.5 / np.sqrt(single.size), times=4))


def test_hot_columns_are_whole_and_partial_to_the_last_row() -> None:
    detector = night(scale=1 / 8).detector("ccd50")
    hot = detector.hot > 0
    assert hot.all(axis=0).sum() == 2
    # A hot pixel may lie in the clean part; the column itself goes from its first row to the last.
    runs = [np.argmin(hot[::-1, column]) for column in range(hot.shape[1])]
    assert sum(run >= 5 for run in runs) == 4


def test_responses_and_dust_leave_the_mean_of_the_flat_at_one() -> None:
    detector = night(scale=1 / 8, domes=1).detector("ccd50")
    assert detector.flat.mean(dtype=float) == pytest.approx(1, abs=1e-5)
    assert detector.flat.min() < 0.6
    assert detector.flat.max() > 1.2


def test_light_falls_off_to_the_corners_of_the_mosaic() -> None:
    # ccd50 is at the upper left: its own upper left is the mosaic's corner, its lower right is near the middle.
    flat = night(scale=1 / 8, domes=1).detector("ccd50").flat
    part = flat.shape[0] // 8
    corner, inner = np.median(flat[-part:, :part]), np.median(flat[:part, -part:])
    assert corner / inner == pytest.approx(0.87, abs=0.02)


def test_a_ccd_is_drawn_within_the_ranges() -> None:
    for seed in range(20):
        detector = night(seed=seed).detector("ccd50")
        assert 2 <= detector.read_noise <= 8
        assert 1.5 <= detector.gain <= 3


def test_dome_flats_have_the_levels_asked_for_in_pairs() -> None:
    lights = [exposure.light for exposure in night(biases=0, domes=6, dome_levels=(5e3, 1e4, 2e4)).exposures()]
    assert lights == pytest.approx([5e3, 5e3, 1e4, 1e4, 2e4, 2e4], rel=0.011)
    assert len(set(lights)) == 6


def test_a_steady_lamp_gives_the_same_light_each_time() -> None:
    lights = [
        exposure.light for exposure in night(biases=0, domes=4, dome_levels=(5e3, 1e4), lamp_drift=0.0).exposures()
    ]
    assert lights == [5e3, 5e3, 1e4, 1e4]


@pytest.mark.parametrize("dawn", [False, True])
def test_twilight_fades_in_the_evening_and_brightens_at_dawn(*, dawn: bool) -> None:
    flats = night(biases=0, twilights=5, dawn=dawn).exposures()
    lights = [flat.light for flat in flats]
    assert lights == sorted(lights, reverse=not dawn)
    assert (min(lights), max(lights)) == pytest.approx((21_000, 29_000))
    assert len({flat.dither for flat in flats}) == 5


def test_the_lamp_falls_off_evenly_over_the_whole_mosaic() -> None:
    # ccd51 is to the right of ccd50, ccd57 below it: where one ends the other begins.
    chips = ("ccd50", "ccd51", "ccd57")
    asked = night(chips=chips, domes=1, scale=1 / 8)
    left, right, below = (asked.detector(chip).lamp_shape() for chip in chips)
    np.testing.assert_allclose(left[:, -1], right[:, 0], rtol=1e-5)
    np.testing.assert_allclose(left[0], below[-1], rtol=1e-5)
    assert 0.001 < np.ptp(left) < 2 * LAMP_GRADIENT


def test_light_goes_on_from_a_chip_to_one_that_lies_across() -> None:
    # CCD2 of the WFC lies on the upper ends of CCD4 and CCD1: its columns go down, its rows to the right.
    asked = Night(instrument=INSTRUMENTS.get("WFC"), chips=("CCD4", "CCD1", "CCD2"), domes=1, scale=1 / 8)
    lamps = [asked.detector(chip).lamp_shape() for chip in asked.chips]
    suns = [illumination(asked.instrument, asked.instrument.chip(chip), asked.layout) for chip in asked.chips]
    for left, right, across in (lamps, suns):
        ends = np.concatenate([left[-1], right[-1]])
        np.testing.assert_allclose(across[:, -1], ends, rtol=1e-3)
        assert np.ptp(ends) > 10 * 1e-3


def test_the_lamp_lights_the_dome_and_not_the_sky() -> None:
    detector = a_detector(lamp=(1.2, 0.0, 0.0))
    data = detector.layout.regions.data
    dome, sky = (
        expose(detector, Exposure(frame_class=name, light=1000.0), 0.0, np.random.default_rng(3))[0][data].mean()
        for name in ("RawDomeFlatFrame", "RawTwilightFlatFrame")
    )
    assert (dome - 200, sky - 200) == pytest.approx((1200, 1000), abs=1)


def test_a_star_has_its_peak_and_its_width() -> None:
    light = np.zeros((100, 120), np.float32)
    one = np.ones(1, np.float32)
    Stars(y=50 * one, x=60 * one, peak=800 * one).add_to(light)
    assert light[50, 60] == 800
    assert light[50, 60 + round(SEEING / 2)] == pytest.approx(400, rel=0.01)
    assert light[50, 5] == 0


def test_a_star_beyond_the_edge_still_sheds_light_on_the_chip() -> None:
    light = np.zeros((100, 120), np.float32)
    one = np.ones(1, np.float32)
    Stars(y=-3 * one, x=60 * one, peak=800 * one).add_to(light)
    Stars(y=500 * one, x=60 * one, peak=800 * one).add_to(light)
    assert light[0, 60] == light.max() > 100
    assert light[60:].max() == 0


def test_stars_are_where_the_truth_says_and_move_with_the_telescope(tmp_path: Path) -> None:
    truth = write_night(night(biases=0, domes=1, twilights=2, scale=1 / 8), tmp_path / "night")
    assert truth.stars("ccd50", 0).y.size == 0
    first, second = truth.stars("ccd50", 1), truth.stars("ccd50", 2)
    moved = np.subtract(truth.exposures[2].dither, truth.exposures[1].dither)
    shifted = np.stack([first.y, first.x], axis=1) + moved
    distances = np.hypot(*(shifted[:, np.newaxis] - np.stack([second.y, second.x], axis=1)).T)
    common = distances.min(axis=0) < 1e-3
    assert common.sum() >= 3
    brightest = int(np.argmax(np.where((first.y > 20) & (first.x > 20), first.peak, 0)))
    with fits.open(tmp_path / "night" / "raw" / f"WFI.{truth.exposures[1].started()}.fits") as units:
        image = units["ccd50"].data[truth.detector("ccd50").layout.regions.data].astype(float)
    y, x = round(float(first.y[brightest])), round(float(first.x[brightest]))
    assert image[y, x] - np.median(image) > 0.4 * min(first.peak[brightest], 30_000)


def test_each_flaw_spoils_its_flats_and_the_truth_tells() -> None:
    good = night(biases=1, domes=3).exposures()
    spoiled = {flaw: night(biases=1, domes=3, flaw=flaw).exposures() for flaw in FLAWS}
    assert {flaw: flats[:3] == good[:3] for flaw, flats in spoiled.items()} == {
        **dict.fromkeys(FLAWS, True),
        "flicker": False,
    }
    assert spoiled["shutter"][3].light == 0
    assert spoiled["saturated"][3].light > 90_000
    assert spoiled["filter"][3].filter == OTHER_FILTER
    assert spoiled["mode"][3].mode
    assert {flat.flicker for flat in spoiled["flicker"][1:]} == {0.01}
    assert np.ptp([flat.light for flat in spoiled["flicker"][1:]]) > 5_000


def test_another_read_out_mode_is_in_the_header(tmp_path: Path) -> None:
    write_night(night(biases=0, domes=2, flaw="mode", chips=("ccd50",)), tmp_path / "night")
    modes = [
        frame.readout
        for file in sorted((tmp_path / "night" / "raw").iterdir())
        for frame, _ in split(file, file.name, INSTRUMENTS, tmp_path)
    ]
    assert modes == ["1x1 64x128", "1x1 64x128 SPEED=other"]


def test_a_flickering_lamp_modulates_the_rows_each_time_in_another_phase() -> None:
    detector = a_detector()
    flat = Exposure(frame_class="RawDomeFlatFrame", light=20_000.0, flicker=0.01)
    data = detector.layout.regions.data
    rows = [expose(detector, flat, 0.0, np.random.default_rng(seed))[0][data].mean(axis=1) for seed in (1, 2)]
    for row in rows:
        assert np.ptp(row - 200) / 20_000 == pytest.approx(0.02, rel=0.1)
    assert np.abs(rows[0] - rows[1]).max() > 50


def test_strips_keep_their_width_at_any_scale(tmp_path: Path) -> None:
    write_night(night(), tmp_path / "night")
    file = min((tmp_path / "night" / "raw").iterdir())
    assert fits.getdata(file, "ccd50").shape == (4096 // 32 + 32, 2048 // 32 + 48 + 46)


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(BadNight, match=r"is there and not empty: name a new folder"):
        write_night(night(), tmp_path)
    assert everything(tmp_path) == {"mine": b"precious"}


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    write_night(night(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "truth"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"biases": 0},
            "0 biases, 0 dome flats, 0 twilight flats, 0 science exposures and 0 of standards: at least one is needed",
        ),
        ({"biases": -1, "domes": 3}, "-1 biases, 3 dome flats, 0 twilight flats, 0 science"),
        ({"scale": 0.01}, "scale 0.01 is not in 0 ... 1 or leaves less than 64 pixels on a side"),
        ({"scale": 2.0}, "scale 2 is not in 0 ... 1"),
        ({"scale": float("nan")}, "scale nan is not in 0 ... 1"),
        ({"chips": ()}, "no chip was asked for"),
        ({"chips": ("ccd50", "ccd50")}, "chip 'ccd50' was asked for more than once"),
        ({"seed": -1}, "seed -1 is negative"),
        ({"flaw": "rain"}, "flaw 'rain' is not one of shutter, saturated, filter, mode, flicker"),
        ({"lamp_drift": 1.0}, "lamp drift 1 is not in 0 ... 1"),
        ({"fringes": 0.5}, "a sky of 3000 ADU with fringes of 0.5: above 0 and within 0 ... 0.5 are needed"),
        ({"sky": 0.0}, "a sky of 0 ADU with fringes of 0: above 0"),
        ({"nonlinearity": 0.5}, "nonlinearity 0.5 is not in 0 ... 0.3"),
        ({"dome_levels": (1e4, 0.0)}, r"levels of dome flats \(10000.0, 0.0\): one or more above 0 ADU are needed"),
    ],
)
def test_a_night_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(BadNight, match=message):
        night(**changes)


def test_an_unknown_chip_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InstrumentError, match=r"chip 'ccd58' is not one of WFI's ccd50, .*ccd57"):
        night(chips=("ccd58",))


def test_the_command_says_where_the_night_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "night"
    assert main([str(folder), "--chips", "1", "--scale", str(SMALL), "--biases", "1"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out == (
        f"WFI 2000-04-28: 1 RawBiasFrame and 0 RawDomeFlatFrame of ccd50 in {folder}/raw, the truth in {folder}/truth\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--instrument", "WFO"],
            "simulate: instrument 'WFO' is not one of DECAM, GENERIC, LCO, NICKEL, OMEGACAM, WFC, WFI\n",
        ),
        (["--chips", "9"], "simulate: 9 chips were asked for: WFI has 8\n"),
        (["--night", "28 April"], "simulate: '28 April' is not a night: write it as 'CCYY-MM-DD', e.g. '2000-04-28'\n"),
        (
            ["--biases", "0"],
            (
                "simulate: 0 biases, 0 dome flats, 0 twilight flats, 0 science exposures and 0 of standards: "
                "at least one is needed\n"
            ),
        ),
    ],
)
def test_the_command_refuses_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "night"), *arguments]) == 1
    assert capsys.readouterr().err == message
    assert list(tmp_path.iterdir()) == []
