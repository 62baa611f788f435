"""The archive counts what comes, and shows what the newest nights were like."""

from datetime import UTC, date, datetime

from dpu_recipes.frames import Frame
from dpud.archive.metrics import ArchiveMetrics
from dpud.archive.records import Record


def record(frame_class="ReadNoise", night=28, *, size=0, **values):
    frame = Frame(
        frame_class=frame_class,
        instrument="WFI",
        chip="ccd50",
        night=date(2000, 4, night),
        date_obs=datetime(2000, 4, night, 22, tzinfo=UTC),
        values=values,
        size=size,
    )
    return Record(frame=frame, project="kids", user="anna")


def samples(shown, name):
    return {
        tuple(sample.labels.values()): sample.value
        for family in shown.collect()
        for sample in family.samples
        if sample.name == name
    }


def test_what_comes_and_goes_is_counted():
    shown = ArchiveMetrics()
    shown.ingested([record("RawBiasFrame", size=10), record("RawBiasFrame", size=20)], already=False)
    shown.ingested([record("RawBiasFrame", size=10)], already=True)
    shown.staged(record(size=5))
    shown.settled([record()], commit=True)
    shown.settled([record()], commit=False)
    shown.discarded()
    shown.sent(7)
    assert samples(shown, "dpu_archive_frames_total") == {("ingested",): 2, ("already",): 1}
    assert samples(shown, "dpu_archive_products_total") == {
        ("staged",): 1,
        ("published",): 1,
        ("kept",): 1,
        ("discarded",): 1,
    }
    assert samples(shown, "dpu_archive_received_bytes_total") == {(): 35}
    assert samples(shown, "dpu_archive_sent_bytes_total") == {(): 7}


def test_the_newest_measurement_of_a_night_is_shown():
    shown = ArchiveMetrics()
    shown.settled([record(READNOISE=5.1, NREJECTED=7), record(READNOISE=5.3)], commit=True)
    shown.settled([record(night=29, READNOISE=5.2)], commit=True)
    assert samples(shown, "dpu_archive_quality") == {
        ("WFI", "ccd50", "read_noise", "2000-04-28"): 5.3,
        ("WFI", "ccd50", "read_noise", "2000-04-29"): 5.2,
    }


def test_what_nobody_published_says_nothing_of_a_night():
    shown = ArchiveMetrics()
    shown.settled([record(READNOISE=5.1)], commit=False)
    shown.settled([record("BiasFrame", READNOISE=5.1), record(READNOISE="strange")], commit=True)
    assert samples(shown, "dpu_archive_quality") == {}


def test_only_the_newest_measurements_are_kept():
    shown = ArchiveMetrics(most=2)
    for night in (1, 2, 3, 2):
        shown.settled([record(night=night, READNOISE=float(night))], commit=True)
    nights = [labels[-1] for labels in samples(shown, "dpu_archive_quality")]
    assert nights == ["2000-04-03", "2000-04-02"]
