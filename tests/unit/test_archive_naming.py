"""File names of products."""

import pytest

from dpud.archive.naming import mjd, product_name
from fakes_archive import DATE_OBS, a_frame, digest

IDENTIFIER = "3f2a"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"frame_class": "BiasFrame"}, "Cal-JDOE-WFI-------#842-ccd50-Bias---Bia-51662.9173958-3f2a.fits"),
        ({"frame_class": "HotPixelMap"}, "Cal-JDOE-WFI-------#842-ccd50-Hot---Bia-51662.9173958-3f2a.fits"),
        ({"frame_class": "DomeFlatFrame"}, "Cal-JDOE-WFI-------#842-ccd50-Flat---Dom-51662.9173958-3f2a.fits"),
        ({"frame_class": "ReducedScienceFrame"}, "Sci-JDOE-WFI-------#842-ccd50-Red---Sci-51662.9173958-3f2a.fits"),
        (
            {"frame_class": "CoaddedRegriddedFrame", "chip": ""},
            "Sci-JDOE-WFI-------#842--Coadd---Sci-51662.9173958-3f2a.fits",
        ),
        ({"frame_class": "NewThing", "filter": ""}, "Sci-JDOE-WFI--------ccd50-NewThing---Sci-51662.9173958-3f2a.fits"),
        (
            {"frame_class": "BiasFrame", "filter": "../r/SDSS", "chip": "ESO_CCD_#65"},
            "Cal-JDOE-WFI-------.._r_SDSS-ESO_CCD_#65-Bias---Bia-51662.9173958-3f2a.fits",
        ),
    ],
)
def test_a_product_is_called_by_its_fields(changes, name):
    assert product_name(a_frame(digest=digest("pixels"), **changes), "jdoe", IDENTIFIER) == name


def test_a_product_of_values_has_no_ending():
    name = product_name(a_frame(frame_class="ReadNoise"), "jdoe", IDENTIFIER)
    assert name == "Cal-JDOE-WFI-------#842-ccd50-Read---Bia-51662.9173958-3f2a"


def test_the_modified_julian_date_counts_days_since_1858():
    assert mjd(DATE_OBS) == pytest.approx(51662.9173958, abs=1e-7)
