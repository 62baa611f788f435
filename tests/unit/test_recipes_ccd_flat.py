import numpy as np
import pytest

from dpu_recipes.ccd.cold_pixels import cold_pixels
from dpu_recipes.ccd.flat import FlatLayer, combined, level, residuals, row_scatters, starless
from dpu_recipes.ccd.large_scale import large_scale
from dpu_recipes.ccd.layer import Layer
from dpu_recipes.ccd.noise import NoiseModel
from dpu_recipes.ccd.stars import stars
from dpu_recipes.ccd.steadiness import likeness, unsteadiness

SHAPE = (160, 192)
MODEL = NoiseModel(gain=2.0, read_noise=4.0)
BIAS = np.full(SHAPE, 7.0, np.float32)
#: A response with a slope, a dark pixel and a bright one.
RESPONSE = np.linspace(0.9, 1.1, SHAPE[1], dtype=np.float32) * np.ones(SHAPE, np.float32)
RESPONSE[40, 50], RESPONSE[41, 51] = 0.5, 1.3
LIGHTS = (20_000.0, 22_000.0, 25_000.0, 27_000.0, 30_000.0)


def pixels(light: float, seed: int, extra: np.ndarray | float = 0.0) -> np.ndarray:
    """A raw flat with the noise of photons and read-out, and more light where `extra`, ADU, says."""
    falling = RESPONSE * (light + extra)
    noise = np.sqrt(falling / MODEL.gain + MODEL.read_noise**2)
    return (falling + BIAS + noise * np.random.default_rng(seed).standard_normal(SHAPE)).astype(np.float32)


def a_layer(image: np.ndarray) -> FlatLayer:
    layer = Layer(pixels=image, level=np.zeros((1, 1), np.float32))
    return FlatLayer(layer=layer, bias=BIAS, light=level(layer, BIAS))


def layers() -> list[FlatLayer]:
    return [a_layer(pixels(light, seed)) for seed, light in enumerate(LIGHTS)]


def truth() -> np.ndarray:
    return RESPONSE / RESPONSE.mean(dtype=float)


class TestNoiseModel:
    def test_it_adds_photons_to_the_read_out(self):
        assert MODEL.variance(20_000.0) == 20_000 / 2 + 16
        assert MODEL.relative(20_000.0) == pytest.approx(np.sqrt(10_016) / 20_000)

    def test_below_nothing_there_is_read_noise_alone(self):
        assert MODEL.variance(-5.0) == 16

    @pytest.mark.parametrize(("gain", "read_noise"), [(0.0, 4.0), (-1.0, 4.0), (np.nan, 4.0), (2.0, -1.0)])
    def test_a_model_that_cannot_be_is_refused(self, gain: float, read_noise: float):
        with pytest.raises(ValueError, match="a gain above 0 and a read noise not below it are needed"):
            NoiseModel(gain=gain, read_noise=read_noise)


class TestCombined:
    def test_it_has_the_noise_of_all_photons(self):
        flat = combined(layers(), noise=MODEL, threshold=5.0)
        expected = 1 / np.sqrt(MODEL.gain * sum(LIGHTS))
        # 30,000 pixels: the rms is known to 0.4 %.
        assert np.std(flat.mean / truth()) == pytest.approx(expected, rel=0.03)
        assert flat.rejected < 1e-4

    def test_its_mean_is_one_whatever_the_levels(self):
        assert combined(layers(), noise=MODEL, threshold=5.0).mean.mean(dtype=float) == pytest.approx(1.0, abs=1e-4)

    def test_dim_frames_count_less(self):
        lights = (30_000.0, 30_000.0, 30_000.0, 10_000.0, 10_000.0)
        frames = [a_layer(pixels(light, seed)) for seed, light in enumerate(lights)]
        flat = combined(frames, noise=MODEL, threshold=5.0)
        # Of equal weight, they would leave 15 % more.
        assert np.std(flat.mean / truth()) == pytest.approx(1 / np.sqrt(MODEL.gain * sum(lights)), rel=0.03)

    def test_a_cosmic_ray_leaves_no_trace(self):
        hit = pixels(25_000.0, 9)
        hit[80, 90] += 5_000
        clean = layers()
        flat = combined([*clean, a_layer(hit)], noise=MODEL, threshold=5.0)
        assert flat.count[80, 90] == len(clean)
        assert flat.mean[80, 90] / truth()[80, 90] == pytest.approx(1.0, abs=5 / np.sqrt(MODEL.gain * sum(LIGHTS)))

    def test_a_pixel_that_all_frames_reject_has_the_centre(self):
        far = np.full(SHAPE, 3.0, np.float32)
        flat = combined(layers(), noise=MODEL, threshold=5.0, about=far)
        assert (flat.count == 0).all()
        assert flat.rejected == 1.0
        np.testing.assert_allclose(flat.mean, 1.0)

    def test_the_order_of_frames_changes_nothing(self):
        one = combined(layers(), noise=MODEL, threshold=5.0)
        other = combined(layers()[::-1], noise=MODEL, threshold=5.0)
        np.testing.assert_allclose(one.mean, other.mean, rtol=3e-7)

    def test_the_level_is_that_of_the_light_alone(self):
        assert a_layer(pixels(25_000.0, 1)).light == pytest.approx(25_000.0, rel=2e-3)

    def test_rows_of_a_steady_lamp_scatter_as_expected(self):
        flat = combined(layers(), noise=MODEL, threshold=5.0)
        # 160 rows: known to 6 %.
        assert row_scatters(flat, LIGHTS, MODEL) == pytest.approx([1.0] * 5, abs=0.25)

    def test_a_flat_of_one_frame_scatters_about_nothing(self):
        one = layers()[:1]
        assert row_scatters(combined(one, noise=MODEL, threshold=5.0), LIGHTS[:1], MODEL) == [0.0]

    def test_stripes_of_one_frame_stand_out(self):
        stripes = 300.0 * np.sin(np.arange(SHAPE[0]) / 3)[:, np.newaxis]
        spoiled = [*layers(), a_layer(pixels(25_000.0, 9, stripes))]
        flat = combined(spoiled, noise=MODEL, threshold=5.0)
        scatters = row_scatters(flat, [layer.light for layer in spoiled], MODEL)
        assert int(np.argmax(scatters)) == 5
        assert scatters[5] > 5


def a_star(y: float, x: float, peak: float) -> np.ndarray:
    down, along = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return peak * (1 + ((down - y) ** 2 + (along - x) ** 2) / 15.4) ** -3.0


class TestStarless:
    def test_a_star_that_moves_is_left_out(self):
        frames = [
            a_layer(pixels(light, seed, a_star(40 + 20 * seed, 60 + 20 * seed, 8_000)))
            for seed, light in enumerate(LIGHTS)
        ]
        flat, marked = starless(frames, noise=MODEL, threshold=5.0)
        noise = 1 / np.sqrt(MODEL.gain * sum(LIGHTS))
        for seed, layer in enumerate(marked):
            y, x = 40 + 20 * seed, 60 + 20 * seed
            assert layer.stars[y // 2, x // 2]
            part = np.s_[y - 8 : y + 9, x - 8 : x + 9]
            # 289 pixels; of those under the star four frames are left of five.
            assert (flat.mean / truth())[part].mean() == pytest.approx(1.0, abs=4 * 1.12 * noise / 17)
        assert all(layer.stars.mean() < 0.1 for layer in marked)

    def test_levels_are_matched_without_the_stars(self):
        many = sum(a_star(y, x, 3_000) for y in range(10, 160, 30) for x in range(10, 190, 30))
        frames = [*layers()[:4], a_layer(pixels(30_000.0, 8, many))]
        _, marked = starless(frames, noise=MODEL, threshold=5.0)
        ratios = [layer.light / light for layer, light in zip(marked, (*LIGHTS[:4], 30_000.0), strict=True)]
        assert frames[4].light / 30_000 > 1.001
        assert np.ptp(ratios) < 3e-4

    def test_a_sky_that_is_brighter_on_one_side_is_no_star(self):
        slope = np.linspace(-25, 25, SHAPE[0])[:, np.newaxis]
        frames = [*layers(), a_layer(pixels(25_000.0, 9, slope))]
        flat = combined(frames, noise=MODEL, threshold=5.0)
        assert stars(residuals(frames[-1], flat.mean)).mean() < 0.03

    @pytest.mark.parametrize("length", [40, 400])
    def test_a_trail_is_masked_as_wide_as_it_is_however_long(self, length: int):
        sky = np.random.default_rng(3).normal(0, 1, (256, 512)).astype(np.float32)
        rows = np.arange(256)[:, np.newaxis]
        sky[:, 50 : 50 + length] += 10 * np.exp(-0.5 * ((rows - 128) / 1.0) ** 2)
        found = stars(sky)[:, 60 : 40 + length]
        # Above 2 sigma of the smoothed sky it is 7 bins wide; then half of its radius and a bin more on either side.
        assert found.sum(axis=0).mean() == pytest.approx(7 + 2 * (0.5 * 3.5 + 1), abs=2)

    def test_an_even_sky_has_none(self):
        assert not stars(np.zeros((64, 64), np.float32)).any()

    def test_noise_alone_has_hardly_a_star(self):
        frames = layers()
        flat = combined(frames, noise=MODEL, threshold=5.0)
        assert max(stars(residuals(layer, flat.mean)).mean() for layer in frames) < 0.02

    def test_what_is_left_beyond_the_last_bin_is_kept(self):
        odd = (161, 191)
        bias = np.zeros(odd, np.float32)
        image = np.full(odd, 25_000.0, np.float32)
        one = FlatLayer(
            layer=Layer(pixels=image, level=np.zeros((1, 1), np.float32)),
            bias=bias,
            light=25_000.0,
            stars=np.zeros((80, 95), bool),
        )
        assert combined([one], noise=MODEL, threshold=5.0).mean.shape == odd
        assert one.starless(0, 161).shape == odd
        assert residuals(one, np.ones(odd, np.float32)).shape == (80, 95)


class TestColdPixels:
    def test_dark_and_bright_deviants_are_found_and_a_slope_is_not(self):
        found = cold_pixels(truth().astype(np.float32), low=0.94, high=1.06)
        assert np.argwhere(found).tolist() == [[40, 50], [41, 51]]

    def test_a_wide_dark_column_does_not_hide_in_its_own_background(self):
        flat = np.ones(SHAPE, np.float32)
        flat[:, 60:75] = 0.8
        found = cold_pixels(flat, low=0.94, high=1.06)
        assert found[:, 60:75].all()
        assert found.sum() == 15 * SHAPE[0]

    def test_a_scale_changes_nothing(self):
        flat = truth().astype(np.float32)
        np.testing.assert_array_equal(
            cold_pixels(flat, low=0.94, high=1.06), cold_pixels(flat * np.float32(25_000), low=0.94, high=1.06)
        )

    def test_where_nothing_responds_all_is_bad(self):
        assert cold_pixels(np.full(SHAPE, -1.0, np.float32), low=0.94, high=1.06).all()


class TestLargeScale:
    def test_a_slope_goes_on_to_the_edges(self):
        y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float32)
        slope = 1 + 1e-3 * y - 5e-4 * x
        np.testing.assert_allclose(large_scale(slope, good=np.ones(SHAPE, bool)), slope, atol=2e-3)

    def test_bad_pixels_do_not_count(self):
        image = np.ones(SHAPE, np.float32)
        image[:64, :48] = 9.0
        good = image < 5
        np.testing.assert_allclose(large_scale(image, good=good), 1.0, atol=1e-6)

    def test_a_frame_smaller_than_a_mesh_has_its_mean(self):
        np.testing.assert_allclose(large_scale(np.full((20, 30), 7.0, np.float32), good=np.ones((20, 30), bool)), 7.0)

    def test_without_a_good_pixel_there_is_none(self):
        with pytest.raises(ValueError, match="no pixel is good"):
            large_scale(np.ones(SHAPE, np.float32), good=np.zeros(SHAPE, bool))


class TestSteadiness:
    def test_two_flats_of_one_lamp_are_alike(self):
        first, second = (pixels(light, seed) - BIAS for seed, light in enumerate((24_000.0, 26_000.0)))
        found = likeness(first, second, MODEL)
        assert (found.scatter, found.rows) == pytest.approx((1.0, 1.0), abs=0.2)

    def test_stripes_are_no_likeness(self):
        stripes = 300.0 * np.sin(np.arange(SHAPE[0]) / 3)[:, np.newaxis]
        found = likeness(pixels(24_000.0, 1) - BIAS, pixels(24_000.0, 2, stripes) - BIAS, MODEL)
        assert found.rows > 5
        assert found.scatter > 1.1

    def test_a_gradient_is_none_of_the_lamps_fault(self):
        slope = np.linspace(-400, 400, SHAPE[0])[:, np.newaxis]
        found = likeness(pixels(24_000.0, 1) - BIAS, pixels(24_000.0, 2, slope) - BIAS, MODEL)
        assert found.rows < 1.5

    def test_a_gain_that_is_wrong_shows(self):
        flats = [pixels(24_000.0, seed) - BIAS for seed in (1, 2)]
        assert likeness(*flats, NoiseModel(gain=4.0, read_noise=4.0)).scatter == pytest.approx(np.sqrt(2), rel=0.05)

    def test_without_light_there_is_no_likeness(self):
        dark = np.random.default_rng(1).normal(0, 4, SHAPE).astype(np.float32)
        assert likeness(dark, dark, MODEL).scatter == np.inf

    def test_a_row_with_a_trail_is_left_out(self):
        rows = np.random.default_rng(2).normal(0, 1e-4, 500)
        rows[100] = 0.5
        assert unsteadiness(rows, 1e-4) == pytest.approx(1.0, abs=0.1)
