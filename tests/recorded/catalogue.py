"""A catalogue with frames of every kind and attempts in every state."""

from contextlib import closing
from datetime import timedelta

from dpud.archive.catalogue_sql import SqlCatalogue
from dpud.archive.records import Attempt, Query, View
from fakes_archive import a_product, a_raw

PUBLISHED, KEPT, STAGING, DISCARDED = (Attempt(7, number, 1) for number in range(4))
MARK = "0123456789abcdef"


def record(path):
    """Write the catalogue."""
    with closing(SqlCatalogue.on_file(path)) as catalogue:
        catalogue.set_mark(MARK)
        catalogue.add([a_raw(0), a_raw(1, chip="ccd51")])
        catalogue.add([a_raw(2, project="VST", filter="#844", object="CDF4_B_1", frame_class="RawScienceFrame")])
        catalogue.stage(a_product(PUBLISHED, chip="ccd50"))
        catalogue.stage(a_product(PUBLISHED, 1, frame_class="ReadNoise", digest="", size=0, values={"READNOISE": 5.25}))
        catalogue.publish(PUBLISHED, commit=True)
        for attempt in (KEPT, STAGING, DISCARDED):
            catalogue.stage(a_product(attempt, overscan=6 + attempt.task, timestamp_end=a_raw(0).frame.date_obs))
        catalogue.publish(KEPT, commit=False)
        catalogue.discard(DISCARDED)
        catalogue.amend(_shortened(catalogue))


def _shortened(catalogue):
    (record,) = catalogue.select(Query(view=View("KIDS"), frame_class="ReadNoise"), limit=2)
    return record.evolve(frame=record.frame.evolve(is_valid=False, timestamp_end=record.frame.date_obs + timedelta(1)))


def told(path):
    """Return what a catalogue tells, as plain values."""
    with closing(SqlCatalogue.on_file(path)) as catalogue:
        return {
            "mark": catalogue.mark(),
            "frames": {
                f"{project} {job}": [
                    record.frame.to_dict() | {"user": record.user, "source": record.source, "code": record.code_digest}
                    for record in catalogue.select(Query(view=View(project, job)), limit=100)
                ]
                for project, job in (("KIDS", 0), ("KIDS", PUBLISHED.job), ("VST", 0))
            },
            "unnamed": sorted(catalogue.unnamed([a_raw(0).frame.digest, a_raw(9).frame.digest])),
        }
