"""What the archive shows: what came and went, and what the newest nights were like."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from dpud.archive.coldlist import Totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client.core import Metric

    from dpu_recipes.frames import Frame
    from dpud.archive.records import Record

#: What of a class says how good a night was, under a name that is a label.
QUALITIES = {
    "ReadNoise": {"READNOISE": "read_noise"},
    "GainLinearity": {"GAIN": "gain"},
    "ReducedScienceFrame": {"PSF_RADIUS": "psf_radius"},
    "PhotometricParameters": {"ZEROPNT": "zero_point"},
}
#: So many figures are shown, the newest; Prometheus remembers those before.
MOST = 2_000

_Labels: TypeAlias = "tuple[str, str, str, str]"


class ArchiveMetrics:
    """Counts what the service did, and keeps the newest figures, at most `most`."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._frames: Counter[str] = Counter(ingested=0, already=0)
        self._products: Counter[str] = Counter(staged=0, published=0, kept=0, discarded=0)
        self._received = 0
        self._sent = 0
        self._tiers = Totals()
        #: By instrument, chip, quality and night, the newest last.
        self._qualities: dict[_Labels, float] = {}

    def ingested(self, records: Sequence[Record], *, already: bool) -> None:
        """Count the frames of an exposure."""
        self._frames["already" if already else "ingested"] += len(records)
        self._received += 0 if already else sum(record.frame.size for record in records)

    def staged(self, record: Record) -> None:
        """Count a product that came."""
        self._products["staged"] += 1
        self._received += record.frame.size

    def settled(self, records: Sequence[Record], *, commit: bool) -> None:
        """Count products whose attempt ended well."""
        self._products["published" if commit else "kept"] += len(records)
        for record in records if commit else ():
            for labels, value in _qualities(record.frame):
                self._qualities.pop(labels, None)
                self._qualities[labels] = value
        while len(self._qualities) > self._most:
            del self._qualities[next(iter(self._qualities))]

    def discarded(self) -> None:
        """Count an attempt whose products were removed."""
        self._products["discarded"] += 1

    def sent(self, size: int) -> None:
        """Count bytes of a frame that were sent."""
        self._sent += size

    def counted(self, tiers: Totals) -> None:
        """Take over how much there is in each tier."""
        self._tiers = tiers

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        yield _counter("dpu_archive_frames", "Raw frames that came; already: that were there before.", self._frames)
        yield _counter("dpu_archive_products", "Products, and attempts that were discarded.", self._products)
        yield CounterMetricFamily("dpu_archive_received_bytes", "Bytes of frames and products.", self._received)
        yield CounterMetricFamily("dpu_archive_sent_bytes", "Bytes of frames that were sent.", self._sent)
        yield from _tiers(self._tiers)
        family = GaugeMetricFamily(
            "dpu_archive_quality",
            "What published products measured: the newest of a night.",
            labels=["instrument", "chip", "quality", "night"],
        )
        for labels, value in self._qualities.items():
            family.add_metric(labels, value)
        yield family


def _qualities(frame: Frame) -> Iterator[tuple[_Labels, float]]:
    for name, quality in QUALITIES.get(frame.frame_class, {}).items():
        value = frame.values.get(name)
        if isinstance(value, int | float):
            yield (frame.instrument, frame.chip, quality, frame.night.isoformat()), float(value)


def _tiers(tiers: Totals) -> Iterator[Metric]:
    files = GaugeMetricFamily("dpu_archive_files", "Files in each tier.", labels=["tier"])
    stored = GaugeMetricFamily("dpu_archive_bytes", "What they take there.", labels=["tier"])
    for tier, total in tiers._asdict().items():
        files.add_metric([tier], total.files)
        stored.add_metric([tier], total.stored)
    yield files
    yield stored


def _counter(name: str, what: str, counts: Counter[str]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, what, labels=["event"])
    for event, count in counts.items():
        family.add_metric([event], count)
    return family
