"""Images that were reduced elsewhere, and what belongs to them."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from dpu_recipes.exposure import BadExposure
from dpu_recipes.frames import read_image
from dpu_recipes.instruments import load
from dpu_recipes.reduced import Companion, adopt
from fakes_instruments import write_wfi
from fakes_reduced import write_plane, write_psf, write_reduced


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "frames"
    made.mkdir()
    return made


def adopted(image: Path, folder: Path, *companions: Companion):
    return adopt(image, image.name, companions, load(), folder, instrument="")


def test_an_image_comes_with_its_weight_mask_and_model(tmp_path, folder):
    image = write_reduced(tmp_path / "sky.fits")
    companions = [
        Companion("WeightFrame", write_plane(tmp_path / "sky.weight.fits"), "sky.weight.fits"),
        Companion("MaskFrame", write_plane(tmp_path / "sky.mask.fits"), "sky.mask.fits"),
        Companion("PsfModel", write_psf(tmp_path / "sky.psf"), "sky.psf"),
    ]
    made = adopted(image, folder, *companions)
    frames = [frame for frame, _ in made]
    assert [frame.frame_class for frame in frames] == ["ReducedScienceFrame", "WeightFrame", "MaskFrame", "PsfModel"]
    science = frames[0]
    assert (science.chip, science.filter, science.object, science.exptime) == ("ccd50", "#842", "CDF4", 60.0)
    assert science.file_name == "WFI.2000-04-28T23:00:00.000_1.red.fits"
    assert {frame.values.get("OF") for frame in frames[1:]} == {science.id}
    assert {(frame.chip, frame.night, frame.filter) for frame in frames} == {(science.chip, science.night, "#842")}
    assert len({frame.id for frame in frames}) == len(frames)
    pixels, _ = read_image(made[0][1])
    with fits.open(image) as units:
        np.testing.assert_array_equal(pixels, units[1].data)
    assert made[3][1].read_bytes() == (tmp_path / "sky.psf").read_bytes()


def test_its_night_is_that_of_the_telescope_that_its_header_names(tmp_path, folder):
    header = fits.Header({"TELESCOP": "0m4-03", "INSTRUME": "kb97", "DETECTID": "kb97", "EXPTIME": 60.0})
    # Evening at Siding Spring, an hour before midnight of the day before on Haleakala.
    header.update({"DATE-OBS": "2017-08-17T10:00:00", "LONGITUD": 149.070593, "FILTER": "rp"})
    fits.PrimaryHDU(np.zeros((20, 30), np.float32), header).writeto(tmp_path / "sky.fits")
    ((science, _),) = adopted(tmp_path / "sky.fits", folder)
    assert (science.chip, science.night) == ("kb97", date(2017, 8, 17))


def test_a_mosaic_has_a_weight_a_chip(tmp_path, folder):
    weight = Companion("WeightFrame", write_plane(tmp_path / "w.fits", planes=2), "w.fits")
    made = adopted(write_reduced(tmp_path / "sky.fits", chips=2), folder, weight)
    assert [(frame.frame_class[:6], frame.chip) for frame, _ in made] == [
        ("Reduce", "ccd50"),
        ("Reduce", "ccd51"),
        ("Weight", "ccd50"),
        ("Weight", "ccd51"),
    ]
    assert [read_image(path)[0].max() for _, path in made[2:]] == [0, 1]


@pytest.mark.parametrize(
    ("frame_class", "write", "message"),
    [
        ("WeightFrame", lambda path: write_plane(path, shape=(20, 31)), "31 x 20 and 30 x 20 pixels differ"),
        ("WeightFrame", lambda path: write_plane(path, planes=2), "has 2 images, not 1"),
        ("MaskFrame", lambda path: path.write_bytes(b"none"), "is no FITS file"),
        ("PsfModel", lambda path: path.write_bytes(b"none"), "is no FITS file"),
        ("BiasFrame", write_plane, "'BiasFrame' belongs to no image; WeightFrame, MaskFrame, PsfModel may"),
    ],
)
def test_what_does_not_belong_to_the_image_is_refused_with_it(tmp_path, folder, frame_class, write, message):
    write(tmp_path / "other.fits")
    with pytest.raises(BadExposure, match=message) as caught:
        adopted(
            write_reduced(tmp_path / "sky.fits"), folder, Companion(frame_class, tmp_path / "other.fits", "other.fits")
        )
    assert str(caught.value).startswith("other.fits: ")
    assert list(folder.iterdir()) == []


def test_one_model_is_not_of_several_chips(tmp_path, folder):
    model = Companion("PsfModel", write_psf(tmp_path / "sky.psf"), "sky.psf")
    with pytest.raises(BadExposure, match="is one model for 2 images: bring them in one by one"):
        adopted(write_reduced(tmp_path / "sky.fits", chips=2), folder, model)


def test_an_image_without_a_date_is_refused(tmp_path, folder):
    image = write_wfi(tmp_path / "sky.fits", DATE_OBS=None, MJD_OBS=None)
    with pytest.raises(BadExposure, match="DATE-OBS"):
        adopted(image, folder)
