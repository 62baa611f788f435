"""How a database is asked for the calibrations of a frame: those that may serve it, and those nearest to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from dpud.archive.catalogue import NEAREST
from dpud.archive.schema import FRAMES, LASTING, REACH
from dpud.archive.shown import SHOWN

if TYPE_CHECKING:
    from datetime import datetime

    from dpu_recipes.frames import Frame

_COLUMNS = FRAMES.c


def _akin() -> sa.Select[Any]:
    """Return what asks for the calibrations of a class that are of a frame's chip."""
    same = (_COLUMNS[name] == sa.bindparam(name) for name in ("frame_class", "instrument", "chip"))
    return sa.select(FRAMES).where(SHOWN, *same, _COLUMNS.job.is_not(None))


_TIME: Final[sa.BindParameter[datetime]] = sa.bindparam("time")
_NEAR = _COLUMNS.date_obs.between(sa.bindparam("since"), sa.bindparam("until"))
#: Holds of calibrations of a frame's own night, and of those whose window covers it.
_SERVES = sa.or_(
    _COLUMNS.night == sa.bindparam("night"),
    sa.and_(_COLUMNS.timestamp_start <= _TIME, _COLUMNS.timestamp_end > _TIME),
)

#: Asks for every calibration that may serve a frame (`about`). Of most the window lies about DATE-OBS, so that an index
#: finds them by time; the others are few, and have an index of their own.
SERVING: Final = sa.union_all(_akin().where(_NEAR, _SERVES), _akin().where(~_NEAR, LASTING, _SERVES))
#: Ask for calibrations that may not, those nearest to the frame before it, and after it.
UNFIT: Final = (
    _akin().where(~_SERVES, _COLUMNS.date_obs < _TIME).order_by(_COLUMNS.date_obs.desc()).limit(NEAREST),
    _akin().where(~_SERVES, _COLUMNS.date_obs >= _TIME).order_by(_COLUMNS.date_obs).limit(NEAREST),
)


def about(frame_class: str, frame: Frame) -> dict[str, Any]:
    """Return the parameters that tell a statement for which frame a calibration of a class is asked."""
    return {
        "frame_class": frame_class,
        "instrument": frame.instrument,
        "chip": frame.chip,
        "night": frame.night,
        "time": frame.date_obs,
        "since": frame.date_obs - REACH,
        "until": frame.date_obs + REACH,
    }
