"""What is packed for the cold tier comes back to the byte, or is refused."""

import hashlib

import numpy as np
import pytest
from astropy.io import fits

from dpud.archive.packing import NotPackable, pack, unpack
from fakes_instruments import write_wfi


def noise(dtype, shape=(64, 50)):
    return np.random.default_rng(1).normal(300, 5, shape).astype(dtype)


def written(path, *units):
    fits.HDUList(list(units)).writeto(path)
    return path


def not_numbers(tmp_path):
    """Write NaN of two kinds, minus zero and infinity: numbers that arithmetic does not tell apart."""
    image = noise(">f4")
    image.view(">u4")[0, :4] = 0x7FC00000, 0x7FC00001, 0x80000000, 0x7F800000
    return written(tmp_path / "f.fits", fits.PrimaryHDU(image))


def strange_cards(tmp_path):
    """Write cards as no library would: in small letters, without a value, with blanks; and blocks of blanks."""
    path = written(tmp_path / "f.fits", fits.PrimaryHDU(noise("int16")))
    content = bytearray(path.read_bytes())
    end = content.index(b"END" + b" " * 77)
    cards = [b"EXPTIME =   1.50000 / seconds", b"HISTORY", b"", b"COMMENT  two   blanks ", b"OBSERVER= 'O''Hara  '"]
    content[end : end + 80 * 6] = b"".join(card.ljust(80) for card in [*cards, b"END"])
    path.write_bytes(content)
    return path


FILES = {
    "an exposure of two chips": lambda folder: write_wfi(folder / "f.fits", size=(200, 100)),
    "unsigned integers": lambda folder: written(folder / "f.fits", fits.PrimaryHDU(noise("uint16"))),
    "signed bytes": lambda folder: written(folder / "f.fits", fits.PrimaryHDU(noise("int16").astype("int8"))),
    "a mask": lambda folder: written(folder / "f.fits", fits.PrimaryHDU((noise("f4") > 305).astype("uint8"))),
    "long integers": lambda folder: written(folder / "f.fits", fits.PrimaryHDU(noise("int32"))),
    "very long integers": lambda folder: written(folder / "f.fits", fits.PrimaryHDU(noise("int64") << 40)),
    "floats": lambda folder: written(folder / "f.fits", fits.PrimaryHDU(noise("float32"))),
    "long floats": lambda folder: written(folder / "f.fits", fits.PrimaryHDU(noise("float64"))),
    "what is no number": not_numbers,
    "strange cards": strange_cards,
    "a cube": lambda folder: written(folder / "f.fits", fits.PrimaryHDU(noise("int16", (3, 20, 30)))),
    "a spectrum": lambda folder: written(folder / "f.fits", fits.PrimaryHDU(noise("float32", (500,)))),
    "a header alone": lambda folder: written(folder / "f.fits", fits.PrimaryHDU()),
    "a scaled image": lambda folder: written(
        folder / "f.fits", fits.PrimaryHDU(), fits.ImageHDU(noise("uint32"), name="SCI", ver=2)
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_comes_back_to_the_byte(tmp_path, kind):
    path = FILES[kind](tmp_path)
    pack(path, tmp_path / "packed")
    found = unpack(tmp_path / "packed", tmp_path / "unpacked")
    assert (tmp_path / "unpacked").read_bytes() == path.read_bytes()
    assert found == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_packed_file_is_fits_that_others_read(tmp_path):
    path = written(tmp_path / "f.fits", fits.PrimaryHDU(noise("uint16"), fits.Header([("OBJECT", "M31")])))
    pack(path, tmp_path / "packed")
    with fits.open(tmp_path / "packed") as units:
        assert [type(unit).__name__ for unit in units] == ["PrimaryHDU", "CompImageHDU", "CompImageHDU"]
        assert units[2].header["OBJECT"] == "M31"
        assert units[2].compression_type == "RICE_1"
        np.testing.assert_array_equal(units[2].data, noise("uint16"))


def table(path):
    return written(path, fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column("A", "E", array=[1.0])]))


def packed_before(path):
    return written(path, fits.PrimaryHDU(), fits.CompImageHDU(noise("int16")))


def letter(path):
    path.write_text("this is a letter")
    return path


def nothing(path):
    path.touch()
    return path


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (table, r"holds a table \(BinTableHDU\): only images are packed"),
        (packed_before, r"holds a table \(BinTableHDU\): only images are packed"),
        (letter, "is no FITS file"),
        (nothing, "is no FITS file"),
    ],
)
def test_what_is_no_file_of_images_is_refused(tmp_path, write, reason):
    path = write(tmp_path / "f.fits")
    with pytest.raises(NotPackable, match=reason):
        pack(path, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()
