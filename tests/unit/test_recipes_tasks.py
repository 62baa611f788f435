import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from dpu_recipes.archive import ArchiveError, MissingCalibration
from dpu_recipes.frames import QUALITY_FIGURE, RAW, Frame
from dpu_recipes.instruments import Instruments
from dpu_recipes.task import RecipeError
from dpu_recipes.tasks.bias import BiasFlag
from dpu_recipes.tasks.hot_pixels import HotPixelFlag
from dpu_recipes.tasks.read_noise import ReadNoiseFlag
from fakes_recipes import NIGHT, NOISE, SHAPE, STRIPS, Night


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


@pytest.fixture
def biases(night: Night) -> list[Frame]:
    """Five biases of one chip."""
    return [night.bias() for _ in range(5)]


@pytest.fixture
def read_noise(night: Night, biases: list[Frame]) -> Frame:
    (made,) = night.run("ReadNoise")
    assert made.inputs == (biases[0].id, biases[1].id)
    return made


@pytest.fixture
def bias(night: Night, read_noise: Frame) -> Frame:
    (made,) = night.run("Bias")
    assert made.inputs[-1] == read_noise.id
    return made


def refused(night: Night, recipe: str, **options: object) -> str:
    with pytest.raises(RecipeError) as raised:
        night.run(recipe, **options)
    message = str(raised.value)
    assert "\n" not in message
    return message


class TestReadNoise:
    def test_it_is_the_rms_of_the_difference_over_sqrt_2(self, read_noise: Frame):
        assert read_noise.frame_class == "ReadNoise"
        # 12,288 pixels: the rms of the difference is known to 0.64 %.
        assert read_noise.values["READNOISE"] == pytest.approx(np.hypot(NOISE, 12**-0.5), rel=0.02)
        assert read_noise.values["BIAS_DIFFERENCE"] == pytest.approx(0.0, abs=4 * NOISE * (2 / 12288) ** 0.5)
        assert read_noise.quality_flags == 0

    def test_it_takes_the_first_two_biases_of_each_chip_and_mode(self, night: Night):
        first = [night.bias(chip=chip) for chip in ("ccd50", "ccd51") for _ in range(3)]
        fast = [night.bias(chip="ccd51", readout="1x1 fast") for _ in range(2)]
        ids = [frame.id for frame in first]
        assert [(spec.label, spec.inputs) for spec in night.plan("ReadNoise")] == [
            ("ccd50", (ids[0], ids[1])),
            ("ccd51 1x1", (ids[3], ids[4])),
            ("ccd51 1x1 fast", (fast[0].id, fast[1].id)),
        ]

    def test_it_logs_what_it_does(self, night: Night, caplog: pytest.LogCaptureFixture):
        image = np.random.default_rng(3).normal(300.0, NOISE, SHAPE).round().astype(np.uint16)
        other = np.random.default_rng(4).normal(300.0, NOISE, SHAPE).round().astype(np.uint16)
        one, two = night.bias(image=image), night.bias(image=other)
        (spec,) = night.plan("ReadNoise")
        caplog.clear()
        with caplog.at_level(logging.INFO, "dpu_recipes"):
            (made,) = night.run("ReadNoise")
        said = [record.getMessage() for record in caplog.records]
        query = "Querying database for instances of class RawBiasFrame"
        assert spec.label == "ccd50"
        assert said == [
            query,
            query,
            "Making ReadNoise object",
            f"Using RawBiasFrame {one.file_name}",
            f"Using RawBiasFrame {two.file_name}",
            "Computing difference...",
            "Estimating rms iteratively...",
            "Maximum number of iterations : 5",
            "Rejection threshold : 5.0 (sigma)",
            "The read noise (ADU) for ccd ccd50 is : 4.00",
            "Difference between biases is : -0.037 (mean), 0.00 (median)",
            "Looking for an earlier ReadNoise to compare with",
            "There is none",
            f"Made ReadNoise {made.file_name}",
        ]

    def test_it_records_where_it_comes_from_and_when_it_may_be_used(self, read_noise: Frame, biases: list[Frame]):
        assert read_noise.parameters == {
            "REJECTION_THRESHOLD": 5.0,
            "MAXIMUM_ITERATIONS": 5,
            "MAXIMUM_READNOISE": 20.0,
            "MAXIMUM_READNOISE_DIFFERENCE": 1.0,
            "MAXIMUM_BIAS_DIFFERENCE": 10.0,
        }
        assert (read_noise.chip, read_noise.night, read_noise.readout) == ("ccd50", NIGHT, "1x1")
        assert (read_noise.date_obs, read_noise.overscan, read_noise.size) == (biases[0].date_obs, RAW, 0)
        assert read_noise.timestamp_end - read_noise.timestamp_start == timedelta(days=30)
        assert read_noise.timestamp_start < read_noise.date_obs < read_noise.timestamp_end

    @pytest.mark.parametrize(
        ("level", "pars", "flag"),
        [
            (330.0, {}, ReadNoiseFlag.MAXIMUM_BIAS_DIFFERENCE),
            (300.0, {"ReadNoise.process_params.MAXIMUM_READNOISE": 2.0}, ReadNoiseFlag.MAXIMUM_READNOISE),
        ],
    )
    def test_a_limit_that_is_missed_flags_the_product_and_warns(
        self, night: Night, caplog: pytest.LogCaptureFixture, level: float, pars: dict[str, float], flag: ReadNoiseFlag
    ):
        night.bias()
        night.bias(level=level)
        (made,) = night.run("ReadNoise", pars=pars)
        assert made.quality_flags == flag
        limits = {name: (abs(said["measured"]) > said["limit"], said["flag"]) for name, said in made.limits.items()}
        assert limits == {str(each.name): (each is flag, each) for each in ReadNoiseFlag if each.name in limits}
        assert str(flag.name) in limits
        (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert str(flag.name) in warning

    def test_a_change_since_the_earlier_one_is_measured_and_limited(self, night: Night, read_noise: Frame):
        values = {"READNOISE": 7.0}
        night.add(replace(read_noise, values=values, id=""))
        (made,) = night.run("ReadNoise", force=1)
        assert made.values["READNOISE_DIFFERENCE"] == pytest.approx(read_noise.values["READNOISE"] - 7.0)
        assert made.quality_flags == ReadNoiseFlag.MAXIMUM_READNOISE_DIFFERENCE

    def test_one_bias_is_too_few(self, night: Night):
        only = night.bias()
        assert refused(night, "ReadNoise") == (
            f"ReadNoise needs at least 2 frames of class RawBiasFrame of chip ccd50, found 1: {only.file_name}"
        )

    def test_twice_the_same_frame_is_no_pair(self, night: Night):
        image = np.full(SHAPE, 300, np.uint16)
        night.bias(image=image)
        night.bias(image=image)
        assert "are the same: there is no noise to measure" in refused(night, "ReadNoise")


class TestBias:
    def test_it_is_overscan_corrected_trimmed_and_averaged(self, night: Night, bias: Frame):
        image = night.image(bias)
        assert image.shape == (128, 96)
        assert image.dtype == np.dtype(">f4")
        # The mean of 128 rows whose levels are known to 4 / sqrt(16) / sqrt(5) ADU each.
        assert image.mean() == pytest.approx(0.0, abs=4 * NOISE / (16 * 5 * 128) ** 0.5)
        expected = NOISE * ((1 + 1 / 16) / 5) ** 0.5
        # 12,288 pixels: known to 0.64 %; the clip costs 2.7 % for five frames.
        assert image.std() == pytest.approx(1.027 * expected, rel=0.02)

    def test_it_is_flagged_by_nothing_and_says_what_was_measured(self, bias: Frame, read_noise: Frame):
        assert bias.frame_class == "BiasFrame"
        assert (bias.overscan, bias.quality_flags) == (6, 0)
        assert bias.values["NCOMBINE"] == 5
        assert 0 < bias.values["NREJECTED"] < 0.02 * 5 * 128 * 96
        assert bias.values["READNOISE"] == read_noise.values["READNOISE"]
        assert bias.values["OVERSCAN_VARIANCE"] == pytest.approx(NOISE**2 / 16, rel=0.1)
        assert bias.values["MEAN"] == pytest.approx(0.0, abs=4 * NOISE / (16 * 5 * 128) ** 0.5)
        assert set(bias.values) >= {"MEDIAN", "STDEV", "SUBWIN_FLATNESS", "SUBWIN_STDEV"}

    def test_it_records_where_it_comes_from(self, night: Night, bias: Frame, biases: list[Frame], read_noise: Frame):
        assert bias.inputs == (*(frame.id for frame in biases), read_noise.id)
        assert bias.parameters["SIGMA_CLIP"] == 3.0
        assert bias.timestamp_end - bias.timestamp_start == timedelta(days=7)
        assert night.archive.calibration("BiasFrame", biases[0], overscan=6).id == bias.id

    @pytest.mark.usefixtures("read_noise")
    def test_a_drifting_level_does_not_matter(self, night: Night):
        for level in (200.0, 350.0, 1000.0):
            night.bias(level=level)
        (made,) = night.run("Bias")
        assert made.values["MEAN"] == pytest.approx(0.0, abs=0.1)
        assert made.values["NREJECTED"] < 0.02 * 8 * 128 * 96

    @pytest.mark.usefixtures("read_noise")
    def test_without_overscan_the_frames_are_brought_to_one_level(self, night: Night):
        night.bias(level=400.0)
        (made,) = night.run("Bias", overscan=0)
        assert made.overscan == 0
        assert made.values["MEAN"] == pytest.approx((5 * 300.0 + 400.0) / 6, abs=0.3)
        assert made.values["NREJECTED"] < 0.02 * 6 * 128 * 96
        assert made.quality_flags == 0, "the level is meant to stay in, so its limit does not count"

    @pytest.mark.usefixtures("read_noise")
    def test_a_cosmic_ray_is_rejected(self, night: Night):
        struck = np.full(SHAPE, 300, np.uint16)
        struck[50, 60] = 40000
        night.bias(image=struck)
        (made,) = night.run("Bias")
        assert abs(night.image(made)[50, 52]) < 5 * NOISE

    def test_the_cameras_own_method_reads_the_strip_at_the_other_end(
        self, night: Night, caplog: pytest.LogCaptureFixture
    ):
        turned = replace(STRIPS, prescan_x=STRIPS.overscan_x, overscan_x=0).to_values()
        frames = [night.bias(level=level, values=turned) for level in (300.0, 306.0, 303.0)]
        night.run("ReadNoise")
        with caplog.at_level(logging.INFO, "dpu_recipes"):
            (made,) = night.run("Bias")
        # Without the overscan it would be 303.
        assert made.values["MEAN"] == pytest.approx(0, abs=0.2)
        assert f"Overscan of {frames[0].file_name} : its prescan_x, as it has no overscan_x" in caplog.text

    @pytest.mark.parametrize("method", range(1, 11))
    @pytest.mark.usefixtures("read_noise")
    def test_every_overscan_method_makes_a_bias(self, night: Night, method: int):
        if method in (3, 7):
            assert "lacks; oc=0 needs none" in refused(night, "Bias", overscan=method)
            return
        (made,) = night.run("Bias", overscan=method)
        assert (made.overscan, made.quality_flags) == (method, 0)

    @pytest.mark.usefixtures("read_noise")
    def test_the_instrument_says_which_method_is_the_default(self, night: Night):
        wfi = replace(night.instruments.get("WFI"), overscan_method=10)
        night.instruments = Instruments({"WFI": wfi})
        (made,) = night.run("Bias", overscan="")
        assert made.overscan == 10

    @pytest.mark.parametrize(
        ("name", "flag"),
        [
            ("MAXIMUM_ABS_MEAN", BiasFlag.MAXIMUM_ABS_MEAN),
            ("MAXIMUM_STDEV", BiasFlag.MAXIMUM_STDEV),
            ("MAXIMUM_SUBWIN_FLATNESS", BiasFlag.MAXIMUM_SUBWIN_FLATNESS),
            ("MAXIMUM_SUBWIN_STDEV", BiasFlag.MAXIMUM_SUBWIN_STDEV),
        ],
    )
    @pytest.mark.usefixtures("read_noise")
    def test_a_limit_that_is_missed_flags_the_product(
        self, night: Night, caplog: pytest.LogCaptureFixture, name: str, flag: BiasFlag
    ):
        (made,) = night.run("Bias", pars={f"BiasFrame.process_params.{name}": 0.0})
        assert made.quality_flags == flag
        assert name in caplog.text
        assert night.image(made).shape == (128, 96)

    def test_a_change_since_the_earlier_one_is_measured_and_limited(self, night: Night, bias: Frame):
        (made,) = night.run("Bias", pars={"BiasFrame.process_params.SIGMA_CLIP": 5.0})
        assert made.values["STDEV_DIFFERENCE"] == made.values["STDEV"] - bias.values["STDEV"]
        (flagged,) = night.run("Bias", pars={"BiasFrame.process_params.MAXIMUM_STDEV_DIFFERENCE": 0})
        assert flagged.quality_flags == BiasFlag.MAXIMUM_STDEV_DIFFERENCE

    @pytest.mark.usefixtures("read_noise")
    def test_the_instrument_may_set_a_limit_and_the_user_another(self, night: Night):
        wfi = replace(night.instruments.get("WFI"), limits={"BiasFrame": {"MAXIMUM_STDEV": 0.5}})
        night.instruments = Instruments({"WFI": wfi})
        (made,) = night.run("Bias")
        assert (made.quality_flags, made.parameters["MAXIMUM_STDEV"]) == (BiasFlag.MAXIMUM_STDEV, 0.5)
        (made,) = night.run("Bias", pars={"BiasFrame.process_params.MAXIMUM_STDEV": 30.0})
        assert (made.quality_flags, made.parameters["MAXIMUM_STDEV"]) == (0, 30.0)

    @pytest.mark.usefixtures("biases")
    def test_without_a_read_noise_it_names_the_call_that_makes_one(self, night: Night):
        with pytest.raises(MissingCalibration, match=r"dpu\.run\('ReadNoise', i='WFI', d='2000-04-28'.*C=1\)"):
            night.run("Bias")
        assert night.products("BiasFrame") == []

    @pytest.mark.usefixtures("biases")
    def test_a_flagged_read_noise_is_not_used(self, night: Night):
        night.run("ReadNoise", pars={"ReadNoise.process_params.MAXIMUM_READNOISE": 1.0})
        with pytest.raises(MissingCalibration, match="quality_flags=1"):
            night.run("Bias")

    def test_two_biases_are_too_few(self, night: Night):
        night.bias()
        night.bias()
        night.run("ReadNoise")
        assert refused(night, "Bias").startswith("Bias needs at least 3 frames of class RawBiasFrame of chip ccd50")

    def test_frames_of_a_mode_that_has_too_few_are_left_out_by_name(
        self, night: Night, biases: list[Frame], caplog: pytest.LogCaptureFixture
    ):
        odd = night.bias(readout="2x2")
        (spec,) = night.plan("Bias")
        assert spec.inputs == tuple(frame.id for frame in biases)
        assert f"leaves out {odd.file_name}: too few of read-out mode 2x2" in caplog.text

    def test_modes_that_all_have_too_few_are_refused_by_name(self, night: Night):
        frames = [night.bias(readout=mode) for mode in ("1x1", "2x2", "2x2")]
        message = refused(night, "Bias")
        assert message.startswith("the frames are of different read-out modes: ")
        assert f"{frames[2].file_name} (2x2)" in message

    def test_named_frames_go_together_whatever_their_mode(self, night: Night, biases: list[Frame]):
        names = [frame.file_name for frame in biases] + [night.bias(readout="2x2").file_name]
        assert "different read-out modes" in refused(night, "Bias", raw_filenames=names)

    def test_named_frames_are_used_and_no_others(self, night: Night, biases: list[Frame], read_noise: Frame):
        (made,) = night.run("Bias", raw_filenames=[frame.file_name for frame in biases[1:4]])
        assert made.inputs == (*(frame.id for frame in biases[1:4]), read_noise.id)

    def test_a_named_frame_that_is_not_there_is_named(self, night: Night, biases: list[Frame]):
        message = refused(night, "Bias", raw_filenames=[biases[0].file_name, "no.fits"])
        assert message == "no RawBiasFrame of WFI in the archive is named 'no.fits'"

    def test_a_named_frame_of_another_instrument_is_not_taken(self, night: Night, biases: list[Frame]):
        other = night.bias(instrument="NICKEL", chip="ccd0")
        message = refused(night, "Bias", raw_filenames=[biases[0].file_name, other.file_name])
        assert message == f"no RawBiasFrame of WFI in the archive is named '{other.file_name}'"

    @pytest.mark.usefixtures("read_noise")
    def test_mixed_sizes_are_refused_by_name(self, night: Night):
        odd = night.bias(image=np.full((100, 120), 300, np.uint16))
        message = refused(night, "Bias")
        assert message.startswith("the frames are of different sizes: ")
        assert f"{odd.file_name} (120 x 100)" in message

    @pytest.mark.parametrize(
        ("image", "reason"),
        [
            (np.zeros(SHAPE, np.uint16), "every pixel is zero"),
            (np.full(SHAPE, 65535, np.uint16), "it is saturated"),
            (np.full(SHAPE, np.nan, np.float32), "it has pixels that are not a number"),
        ],
    )
    @pytest.mark.usefixtures("read_noise")
    def test_a_frame_that_is_no_good_is_refused_by_name(self, night: Night, image: np.ndarray, reason: str):
        bad = night.bias(image=image)
        message = refused(night, "Bias")
        assert message == f"no good: {bad.file_name} ({reason}); name the good frames with raw=[...]"
        assert night.products("BiasFrame") == []

    def test_a_file_that_is_cut_short_is_refused_by_name(self, night: Night, biases: list[Frame]):
        night.run("ReadNoise")
        file = night.archive.open(biases[3])
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content[: len(content) // 2])
        with pytest.warns(UserWarning, match="truncated"):
            assert refused(night, "Bias").startswith(f"{biases[3].file_name} cannot be read: ")

    def test_strips_that_leave_no_data_are_refused_by_name(self, night: Night):
        odd = [night.bias(image=np.full((20, 20), 300, np.uint16)) for _ in range(3)]
        assert refused(night, "ReadNoise").startswith(f"{odd[0].file_name}: 20 x 20 pixels leave no data beside")

    def test_nothing_of_the_night_is_refused(self, night: Night):
        assert refused(night, "Bias").startswith("there is no RawBiasFrame of WFI of night 2000-04-28")

    @pytest.mark.usefixtures("biases")
    def test_an_unknown_chip_is_refused_with_the_known_ones(self, night: Night):
        assert refused(night, "Bias", chip="ccd58").startswith("chip 'ccd58' is not one of WFI's ccd50, ")

    @pytest.mark.usefixtures("biases")
    def test_a_chip_without_frames_is_refused_by_name(self, night: Night):
        assert "WFI chip ccd51 of night 2000-04-28" in refused(night, "Bias", chip="ccd51")

    @pytest.mark.usefixtures("read_noise")
    def test_a_frame_that_is_gone_is_the_archives_error(self, night: Night, biases: list[Frame]):
        night.archive.open(biases[0]).unlink()
        with pytest.raises(ArchiveError, match="has no file"):
            night.run("Bias")

    def test_the_order_of_frames_changes_nothing(self, night: Night, bias: Frame, biases: list[Frame]):
        names = [frame.file_name for frame in reversed(biases)]
        (again,) = night.run("Bias", raw_filenames=names, force=1)
        np.testing.assert_array_equal(night.image(again), night.image(bias))


class TestHotPixels:
    @pytest.fixture
    def hot(self, night: Night) -> Frame:
        """A map of a night whose biases have a hot pixel and a hot column."""
        for seed in range(5):
            image = np.random.default_rng(seed).normal(300.0, NOISE, SHAPE)
            image[50, 60] += 300.0
            image[:128, 80] += 80.0
            night.bias(image=image.round().astype(np.uint16))
        night.run("ReadNoise")
        night.run("Bias")
        (made,) = night.run("HotPixels")
        return made

    def test_it_is_a_map_of_1_good_and_0_bad(self, night: Night, hot: Frame):
        image = night.image(hot)
        assert (image.dtype, image.shape) == (np.dtype("u1"), (128, 96))
        assert image[50, 52] == 0
        assert (image[:, 72] == 0).all()
        assert image.sum() == image.size - 129

    def test_it_counts_them(self, hot: Frame):
        assert (hot.frame_class, hot.values["COUNT"], hot.quality_flags) == ("HotPixelMap", 129, 0)

    def test_it_records_its_bias_and_how_long_it_may_be_used(self, night: Night, hot: Frame):
        (bias,) = night.products("BiasFrame")
        assert hot.inputs == (bias.id,)
        assert hot.parameters["REJECTION_THRESHOLD"] == 5.0
        assert hot.timestamp_end - hot.timestamp_start == timedelta(days=7)

    @pytest.mark.parametrize("name", ["MAXIMUM_COUNT", "MAXIMUM_COUNT_DIFFERENCE"])
    @pytest.mark.usefixtures("hot")
    def test_a_limit_that_is_missed_flags_the_product(self, night: Night, name: str):
        # A threshold of 3 sigma finds more than one of 5 sigma did.
        limits = {f"HotPixelMap.process_params.{name}": 0, "HotPixelMap.process_params.REJECTION_THRESHOLD": 3}
        (made,) = night.run("HotPixels", pars=limits)
        assert made.quality_flags == HotPixelFlag[name]

    @pytest.mark.usefixtures("bias")
    def test_it_starts_from_the_newest_good_bias(self, night: Night):
        (newer,) = night.run("Bias", force=1)
        (flagged,) = night.run("Bias", pars={"BiasFrame.process_params.MAXIMUM_STDEV": 0.0})
        (spec,) = night.plan("HotPixels")
        assert flagged.quality_flags
        assert (spec.label, spec.inputs) == ("ccd50", (newer.id,))

    def test_a_bias_of_the_instruments_own_overscan_method_goes_before_a_newer_one(self, night: Night, bias: Frame):
        (other,) = night.run("Bias", overscan=0)
        (spec,) = night.plan("HotPixels")
        assert other.creation_date > bias.creation_date
        assert spec.inputs == (bias.id,)

    def test_without_a_bias_it_names_the_call_that_makes_one(self, night: Night):
        assert refused(night, "HotPixels", chip="ccd50") == (
            "there is no BiasFrame of WFI chip ccd50 of night 2000-04-28; "
            "make it with dpu.run('Bias', i='WFI', d='2000-04-28', c='ccd50', C=1)"
        )

    @pytest.mark.usefixtures("read_noise")
    def test_flagged_biases_alone_are_refused(self, night: Night):
        night.run("Bias", pars={"BiasFrame.process_params.MAXIMUM_STDEV": 0.0})
        (flagged,) = night.products("BiasFrame")
        assert refused(night, "HotPixels") == (
            f"no BiasFrame of chip ccd50 of night 2000-04-28 may be used: the newest, {flagged.file_name}, has "
            "is_valid=1 and quality_flags=2; make one with dpu.run('Bias', i='WFI', d='2000-04-28', C=1)"
        )

    def test_a_bias_that_is_no_image_is_refused(self, night: Night, bias: Frame):
        file = night.archive.open(bias)
        file.unlink()
        file.write_bytes(b"nothing of the kind")
        assert "cannot be read as FITS" in refused(night, "HotPixels")

    @pytest.mark.parametrize(
        ("value", "reason"), [(np.nan, "has pixels that are not a number"), (0.0, "is zero everywhere")]
    )
    def test_a_bias_that_is_no_good_is_refused(self, night: Night, value: float, reason: str):
        record = Frame(
            frame_class="BiasFrame",
            instrument="WFI",
            chip="ccd50",
            night=NIGHT,
            date_obs=datetime(2000, 4, 28, 23, tzinfo=UTC),
            values=STRIPS.to_values(),
        )
        night.add(record, np.full(SHAPE, value, np.float32))
        assert reason in refused(night, "HotPixels")


def test_a_product_has_a_figure_that_goes_with_it_and_says_what_it_was_held_to(night, bias):
    night.run("HotPixels")
    figures = {figure.values["OF"]: figure for figure in night.products(QUALITY_FIGURE)}
    assert sorted(figures) == ["BiasFrame", "HotPixelMap", "ReadNoise"]
    figure = figures["BiasFrame"]
    assert (figure.inputs, figure.chip, figure.limits) == ((bias.id,), bias.chip, bias.limits)
    assert night.archive.open(figure).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    # It is no product that could stand for another, and nothing was asked for it.
    assert (figure.identity, figure.consulted, figure.making) == ("", "", "")
