"""Lists of stars: how they are read, cut into tables, and asked."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from dpu_recipes import reference_file
from dpu_recipes.archive import ArchiveError, Selection
from dpu_recipes.frames import Frame
from dpu_recipes.reference import stars
from dpu_recipes.reference_file import BadCatalogue, read, split

CSV = """\
# a comment
name,RAJ2000,DEJ2000,V,pmRA,pmDE
b,13:25:50.5,-08:50:53,13.4,,
a,201.0,-9.5,14.1,36.0,-720.0
"""


def written(path: Path, text: str = CSV) -> Path:
    path.write_text(text)
    return path


class Tables:
    """An archive that holds reference catalogues alone."""

    def __init__(self) -> None:
        self.held: list[tuple[Frame, Path]] = []
        self.opened: list[str] = []

    def select(self, frame_class: str, selection: Selection) -> list[Frame]:
        assert (frame_class, selection.instrument) == ("ReferenceCatalogue", "SKY")
        return [
            frame
            for frame, _ in self.held
            if frame.object == selection.object and (not selection.chips or frame.chip in selection.chips)
        ]

    def open(self, frame: Frame) -> Path:
        self.opened.append(frame.chip)
        return next(path for held, path in self.held if held.id == frame.id)


def test_a_csv_list_is_read_in_order_of_declination(tmp_path: Path) -> None:
    table = read(written(tmp_path / "list.csv"), {})
    assert table.dtype.names == ("RA", "DEC", "PMRA", "PMDEC", "NAME", "V")
    assert table["NAME"].tolist() == ["a", "b"]
    np.testing.assert_allclose(table["RA"], [201.0, 201.4604167])
    np.testing.assert_allclose(table["DEC"], [-9.5, -8.8480556])
    assert np.isnan(table["PMRA"][1])


def test_identifiers_keep_all_their_digits(tmp_path: Path) -> None:
    text = "source_id,ra,dec,n\n5853498713190525696,217.39,-62.68,1\n4472832130942575873,269.45,4.69,\n"
    table = read(written(tmp_path / "list.csv", text), {})
    assert table["SOURCE_ID"].tolist() == [5853498713190525696, 4472832130942575873]
    assert (table["RA"].dtype, table["N"].dtype) == ("f8", "f8")


def test_a_fits_table_is_read_and_its_columns_named(tmp_path: Path) -> None:
    rows = np.array(
        [(3.0, 20.0, 7, b"x"), (2.0, 10.0, 8, b"y")],
        dtype=[("alpha", "f4"), ("delta", "f8"), ("id", "i8"), ("c", "S1")],
    )
    fits.BinTableHDU(rows).writeto(tmp_path / "list.fits")
    table = read(tmp_path / "list.fits", {"RA": "alpha", "DEC": "delta"})
    assert table.dtype.names == ("RA", "DEC", "ID", "C")
    assert [tuple(row) for row in table.tolist()] == [(2.0, 10.0, 8, "y"), (3.0, 20.0, 7, "x")]


BAD = [
    ("", "holds no rows"),
    ("ra,dec\n", "holds no rows"),
    ("x,dec\n1,2\n", "has no column for RA (it has x, dec): name it with --column RA=NAME"),
    ("ra,dec\n1,2\n1\n", "row 2 has not the 2 columns of the first line"),
    ("ra,dec\n1,91\n", "DEC of row 1 is 91.0: degrees are needed, or hh:mm:ss and dd:mm:ss"),
    ("ra,dec\n1,2\nnan,3\n", "RA of row 2 is nan: degrees are needed, or hh:mm:ss and dd:mm:ss"),
    ("ra,dec\n1,2\nhere,3\n", "RA of row 2 is nan: degrees are needed, or hh:mm:ss and dd:mm:ss"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadCatalogue) as caught:
        read(written(tmp_path / "list.csv", text), {})
    assert str(caught.value) == message


def test_what_is_neither_fits_nor_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadCatalogue, match="is neither FITS nor text"):
        read(tmp_path / "list", {})
    fits.PrimaryHDU(np.zeros((2, 2))).writeto(tmp_path / "image.fits")
    with pytest.raises(BadCatalogue, match="is a FITS file without a table"):
        read(tmp_path / "image.fits", {})


@pytest.mark.parametrize("columns", [{"RA": "alpha"}, {"MAG": "V"}])
def test_a_column_that_is_not_there_is_refused(tmp_path: Path, columns: dict[str, str]) -> None:
    with pytest.raises(BadCatalogue, match="it has name, RAJ2000|it is not one of RA, DEC"):
        read(written(tmp_path / "list.csv"), columns)


def test_a_small_list_is_one_table_and_the_same_list_the_same_bytes(tmp_path: Path) -> None:
    ids = []
    for turn in range(2):
        folder = tmp_path / str(turn)
        folder.mkdir()
        ((frame, path),) = split(written(tmp_path / "list.csv"), "MINE", {}, folder)
        ids.append(frame.id)
        assert path.stat().st_size == frame.size
    assert ids[0] == ids[1]
    assert (frame.object, frame.chip, frame.values["ROWS"]) == ("MINE", "all", 2)
    with pytest.raises(BadCatalogue, match="'a b' is no name of a catalogue"):
        split(tmp_path / "list.csv", "a b", {}, tmp_path)


def test_of_a_large_list_only_the_tiles_of_a_cone_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_file, "_LARGE", 1000)
    generator, archive = np.random.default_rng(5), Tables()
    rows = np.zeros(2000, dtype=[("ra", "f8"), ("dec", "f8"), ("mag", "f4")])
    rows["ra"], rows["dec"], rows["mag"] = generator.uniform(340, 380, 2000) % 360, generator.uniform(-10, 30, 2000), 15
    fits.BinTableHDU(rows).writeto(tmp_path / "list.fits")
    archive.held = split(tmp_path / "list.fits", "BIG", {}, tmp_path)
    assert len(archive.held) > 60
    found = stars(archive, "BIG", (359.5, 10.2), 4.0)  # type: ignore[arg-type]  # it is asked two things only
    near = [row for row in rows if np.hypot((row["ra"] - 359.5 + 180) % 360 - 180, row["dec"] - 10.2) < 6]
    assert 0 < len(found) <= len(near)
    assert np.all(np.diff(found["DEC"]) >= 0)
    assert len(archive.opened) <= 9


def test_positions_are_brought_to_an_epoch(tmp_path: Path) -> None:
    archive = Tables()
    archive.held = split(written(tmp_path / "list.csv"), "MINE", {}, tmp_path)
    moved = stars(archive, "MINE", (201.2, -9.2), 1.0, epoch=2020.0)  # type: ignore[arg-type]  # as above
    np.testing.assert_allclose(moved["DEC"], [-9.5 - 720 * 20 / 3.6e6, -8.8480556], atol=1e-7)
    np.testing.assert_allclose(moved["RA"][0], 201.0 + 36 * 20 / 3.6e6 / np.cos(np.radians(9.5)), atol=1e-9)


def test_a_star_that_moves_past_the_origin_of_right_ascension_stays_below_360(tmp_path: Path) -> None:
    archive, file = Tables(), written(tmp_path / "list.csv", "ra,dec,pmra,pmdec\n359.9999,0,36000,0\n")
    archive.held = split(file, "MINE", {}, tmp_path)
    (moved,) = stars(archive, "MINE", (0.0, 0.0), 1.0, epoch=2020.0)  # type: ignore[arg-type]  # as above
    assert moved["RA"] == pytest.approx(0.1999, abs=1e-9)


def test_a_catalogue_that_is_not_there_says_how_to_bring_it_in() -> None:
    with pytest.raises(ArchiveError, match="`awe ingest-catalogue FILE --name GAIA` brings one in"):
        stars(Tables(), "GAIA", (0.0, 0.0), 1.0)  # type: ignore[arg-type]  # as above


def test_landolts_standards_ship_with_the_known_fault_mended() -> None:
    field = stars(Tables(), "LANDOLT", (201.47, -8.84), 0.1)  # type: ignore[arg-type]  # as above
    assert {row["NAME"]: (row["V"], row["BV"]) for row in field} == {
        "PG1323-086": (13.481, -0.140),
        "PG1323-086A": (13.591, 0.393),
        "PG1323-086B": (13.406, 0.761),
        "PG1323-086C": (14.003, 0.707),
        "PG1323-086D": (12.080, 0.587),
    }
    at = {row["NAME"][-1]: row["DEC"] * 3600 for row in field}
    assert at["B"] - at["A"] == pytest.approx(-31, abs=1.5), "on a frame it lies 31 arcseconds south of A"
    assert len(stars(Tables(), "LANDOLT", (0.0, 0.0), 180.0)) == 526  # type: ignore[arg-type]  # as above
