"""A lineage as text and as boxes."""

from dpu.lineage import Lineage
from dpu.products import Product


def a_frame(name, frame_class="RawBiasFrame", **changes):
    return Product(
        id=name, frame_class=frame_class, instrument="WFI", chip="ccd50", file_name=f"{name}.fits", **changes
    )


def lineage(*, progeny=False, **branches):
    frames = {
        "map": a_frame("map", "HotPixelMap", quality_flags=2),
        "bias": a_frame("bias", "BiasFrame", is_valid=False),
        "noise": a_frame("noise", "ReadNoise"),
        "r1": a_frame("r1"),
        "r2": a_frame("r2"),
    }
    return Lineage(
        product=frames["map"], frames=frames, branches=branches, progeny=progeny, digests={"gone": "0123456789abcdef"}
    )


NIGHT = {"map": ("bias", "gone"), "bias": ("r1", "r2", "noise"), "noise": ("r1", "r2")}


def test_the_prompt_shows_a_tree():
    assert repr(lineage(**NIGHT)).splitlines() == [
        "HotPixelMap map.fits (quality_flags=2)",
        " +--BiasFrame bias.fits (is_valid=0)",
        " |   +--RawBiasFrame r1.fits",
        " |   +--RawBiasFrame r2.fits",
        " |   +--ReadNoise noise.fits",
        " |       +--RawBiasFrame r1.fits",
        " |       +--RawBiasFrame r2.fits",
        " +--(gone, or not yours to see; digest 0123456789ab)",
    ]


def test_what_comes_a_second_time_is_not_followed_again():
    branches = {"map": ("bias", "noise"), "bias": ("noise",), "noise": ("r1",)}
    assert lineage(**branches).lines()[1:] == [
        " +--BiasFrame bias.fits (is_valid=0)",
        " |   +--ReadNoise noise.fits",
        " |       +--RawBiasFrame r1.fits",
        " +--ReadNoise noise.fits (see above)",
    ]


def test_a_picture_has_a_box_a_class_and_generation():
    from dpu.lineage_plot import generations

    boxes = generations(lineage(**NIGHT))
    assert {key: sorted(names) for key, names in boxes.items()} == {
        (0, "HotPixelMap"): ["map"],
        (1, "BiasFrame"): ["bias"],
        (1, ""): ["gone"],
        (2, "ReadNoise"): ["noise"],
        (3, "RawBiasFrame"): ["r1", "r2"],
    }


def test_a_picture_is_a_png(tmp_path):
    for progeny in (False, True):
        path = lineage(progeny=progeny, **NIGHT).plot(tmp_path / "lineage.png")
        assert path.read_bytes().startswith(b"\x89PNG")
