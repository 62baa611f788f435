"""`dpud embedded`: what its figures may be is said before anything is started."""

import pytest

from dpud.__main__ import main


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        *(("--slots", value, "must be a whole number of at least 1") for value in ("0", "-3", "2.5", "many")),
        *(("--idle-hours", value, "must be a number of hours above 0") for value in ("0", "-1", "nan", "inf", "long")),
    ],
)
def test_a_figure_out_of_bounds_is_refused(capsys, tmp_path, argument, value, allowed):
    with pytest.raises(SystemExit, match="2"):
        main(["embedded", "--home", str(tmp_path / "home"), argument, value])
    assert f"argument {argument}: {value!r} {allowed}" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()
