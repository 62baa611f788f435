"""Writes the dashboards as Grafana reads them: `make dashboards`. What they show is below, as data."""
# ruff: noqa: INP001 (a script)

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueTextMode, StackingMode, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH, HEIGHT = 8, 8
#: Calls of one service, as gRPC names it.
ENDED = "sum by (grpc_method, grpc_code) (rate(grpc_server_handled_total{{grpc_service='{}'}}[$__rate_interval]))"
SECONDS = (
    "histogram_quantile(0.95, sum by (le, grpc_method) "
    "(rate(grpc_server_handling_seconds_bucket{{grpc_service='{}'}}[$__rate_interval])))"
)


@dataclass(frozen=True)
class Graph:
    """Lines over time: queries with what names each line."""

    title: str
    unit: str
    queries: dict[str, str]
    stacked: bool = False

    def panel(self) -> timeseries.Panel:
        """Return it as Grafana has it."""
        panel = timeseries.Panel().title(self.title).unit(self.unit).min(0).fill_opacity(10)
        if self.stacked:
            panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(40)
        for name, (query, legend) in zip("ABC", self.queries.items(), strict=False):
            panel = panel.with_target(prometheus.Dataquery().ref_id(name).expr(query).legend_format(legend))
        return panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))


@dataclass(frozen=True)
class Number:
    """What a figure is now."""

    title: str
    unit: str
    query: str

    def panel(self) -> stat.Panel:
        """Return it as Grafana has it."""
        target = prometheus.Dataquery().ref_id("A").expr(self.query).instant()
        return stat.Panel().title(self.title).unit(self.unit).with_target(target).text_mode(BigValueTextMode.VALUE)


@dataclass(frozen=True)
class Table:
    """A table, with the largest value of one column first."""

    title: str
    unit: str
    query: str
    first_by: str = "night"

    def panel(self) -> table.Panel:
        """Return it as Grafana has it."""
        target = prometheus.Dataquery().ref_id("A").expr(self.query).instant().format(PromQueryFormat.TABLE)
        panel = table.Panel().title(self.title).unit(self.unit).with_target(target)
        return panel.sort_by([common.TableSortByFieldState().display_name(self.first_by).desc(True)])


@dataclass(frozen=True)
class Board:
    """A dashboard: its panels in rows of three."""

    uid: str
    title: str
    panels: list[Graph | Number | Table] = field(default_factory=list)

    def json(self) -> str:
        """Return it as Grafana reads it."""
        source = dashboard.DatasourceVariable("datasource").type("prometheus").label("Prometheus")
        built = (
            dashboard.Dashboard(f"DPU: {self.title}")
            .uid(f"dpu-{self.uid}")
            .tags(["dpu"])
            .time("now-6h", "now")
            .refresh("30s")
            .with_variable(source)
        )
        for each in self.panels:
            built = built.with_panel(each.panel().datasource(SOURCE).span(WIDTH).height(HEIGHT))
        return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def quantile(part: float, metric: str, by: str = "") -> str:
    """Return the query of a quantile of a histogram, for each value of a label."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({part}, sum by ({labels}) (rate({metric}_bucket[$__rate_interval])))"


def rate(metric: str, by: str = "") -> str:
    """Return the query of a counter's rate, for each value of a label."""
    return f"sum {f'by ({by}) ' if by else ''}(rate({metric}[$__rate_interval]))"


def of_nights(quality: str) -> str:
    """Return the query of what the nights of the last month measured, each chip's own."""
    measured = f"last_over_time(dpu_archive_quality{{quality='{quality}'}}[30d])"
    return f"avg by (instrument, chip, night) ({measured})"


QUEUE = Board(
    "queue",
    "Queue",
    [
        Graph("Open tasks", "short", {"sum by (state) (dpu_tasks)": "{{state}}"}, stacked=True),
        Graph("Waiting, by user", "short", {"sum by (user) (dpu_queue_tasks)": "{{user}}"}, stacked=True),
        Graph("Waiting, by sequence", "short", {"sum by (sequence) (dpu_queue_tasks)": "{{sequence}}"}, stacked=True),
        Number("Oldest waiting task", "s", "max(dpu_queue_oldest_seconds)"),
        Number("Open jobs", "short", "sum(dpu_jobs_open)"),
        Graph("Jobs ended", "ops", {rate("dpu_jobs_ended_total", "state"): "{{state}}"}),
        Graph(
            "Wait for the first lease",
            "s",
            {
                quantile(0.5, "dpu_task_queue_wait_seconds"): "half below",
                quantile(0.95, "dpu_task_queue_wait_seconds"): "95 % below",
            },
        ),
        Graph("Throughput", "ops", {rate("dpu_task_attempts_total", "outcome"): "{{outcome}}"}),
        Graph("Run time, half below", "s", {quantile(0.5, "dpu_task_run_seconds", "sequence"): "{{sequence}}"}),
        Graph(
            "Failures, by category",
            "ops",
            {
                "sum by (category) (rate(dpu_task_attempts_total{category!=''}[$__rate_interval]))": "{{category}}",
            },
        ),
        Graph("Share of slot time", "percentunit", {"max by (user) (dpu_user_share_ratio)": "{{user}}"}),
        Graph("Not told yet to archive and logs", "short", {"sum by (errand) (dpu_outbox_entries)": "{{errand}}"}),
        Graph(
            "Journal commit",
            "s",
            {
                quantile(0.5, "dpu_journal_append_seconds"): "half below",
                quantile(0.99, "dpu_journal_append_seconds"): "99 % below",
            },
        ),
        Graph("Events behind the newest snapshot", "short", {"max(dpu_journal_tail_events)": "events"}),
        Number("Takes new jobs", "bool_yes_no", "min(dpu_journal_roomy)"),
    ],
)
WORKERS = Board(
    "workers",
    "Workers",
    [
        Graph("Workers", "short", {"sum by (state) (dpu_workers)": "{{state}}"}, stacked=True),
        Graph("Slots", "short", {"sum by (state) (dpu_worker_slots)": "{{state}}"}, stacked=True),
        Number(
            "Slots that are busy",
            "percentunit",
            "sum(dpu_worker_slots{state='busy'}) / sum(dpu_worker_slots)",
        ),
        Graph(
            "Leases, by worker",
            "short",
            {"sum by (instance, state) (dpu_worker_leases)": "{{instance}} {{state}}"},
        ),
        Graph("Leases whose worker was lost", "ops", {rate("dpu_lease_expired_total"): "lost"}),
        Graph("Ends that came too late", "ops", {rate("dpu_stale_report_rejected_total"): "too late"}),
        Graph("Processors", "short", {rate("process_cpu_seconds_total", "instance"): "{{instance}}"}),
        Graph("Memory", "bytes", {"sum by (instance) (process_resident_memory_bytes)": "{{instance}}"}),
        Graph(
            "Disk that is free",
            "percentunit",
            {"min by (service, instance) (dpu_disk_free_bytes / dpu_disk_size_bytes)": "{{service}} {{instance}}"},
        ),
        Graph("Worker calls", "ops", {ENDED.format("dpu_api.v1.DispatchService"): "{{grpc_method}} {{grpc_code}}"}),
        Table("What runs", "short", "count by (service, version, python) (dpu_build_info)", "version"),
    ],
)
LOGS = Board(
    "logs",
    "Logs and code",
    [
        Graph("Log bytes", "Bps", {rate("dpu_log_bytes_total"): "stored"}),
        Graph("Log lines", "ops", {rate("dpu_log_lines_total"): "stored"}),
        Graph(
            "From print to disk",
            "s",
            {
                quantile(0.5, "dpu_log_delay_seconds"): "half below",
                quantile(0.95, "dpu_log_delay_seconds"): "95 % below",
            },
        ),
        Graph("Oldest line that waits", "s", {"max by (instance) (dpu_log_lag_seconds)": "{{instance}}"}),
        Graph("Lines that wait at the workers", "bytes", {"sum by (instance) (dpu_log_spool_bytes)": "{{instance}}"}),
        Graph("Readers", "short", {"sum(dpu_log_readers)": "reading"}),
        Graph("Log calls", "ops", {ENDED.format("dpu_api.v1.LogService"): "{{grpc_method}} {{grpc_code}}"}),
        Graph("Code shipped", "Bps", {rate("dpu_code_upload_bytes_total"): "uploaded"}),
        Graph("Trees put", "ops", {rate("dpu_code_trees_total"): "trees"}),
        Graph("Code calls", "ops", {ENDED.format("dpu_api.v1.CodeService"): "{{grpc_method}} {{grpc_code}}"}),
        Graph("Code calls, 95 % below", "s", {SECONDS.format("dpu_api.v1.CodeService"): "{{grpc_method}}"}),
    ],
)
ARCHIVE = Board(
    "archive",
    "Archive",
    [
        Graph("Raw frames", "ops", {rate("dpu_archive_frames_total", "event"): "{{event}}"}),
        Graph("Products", "ops", {rate("dpu_archive_products_total", "event"): "{{event}}"}),
        Graph(
            "Bytes",
            "Bps",
            {
                rate("dpu_archive_received_bytes_total"): "received",
                rate("dpu_archive_sent_bytes_total"): "sent",
            },
        ),
        Graph("Calls", "ops", {ENDED.format("dpu_api.v1.ArchiveService"): "{{grpc_method}} {{grpc_code}}"}),
        Graph("Calls, 95 % below", "s", {SECONDS.format("dpu_api.v1.ArchiveService"): "{{grpc_method}}"}),
        Graph("Disk that is free", "bytes", {"min(dpu_disk_free_bytes{service='archive'})": "free"}),
    ],
)
SCIENCE = Board(
    "science",
    "Science quality",
    [
        panel
        for title, unit, quality in (
            ("Read noise", "ADU", "read_noise"),
            ("Seeing: PSF radius", "arcsec", "psf_radius"),
            ("Zero point", "mag", "zero_point"),
            ("Gain", "e-/ADU", "gain"),
        )
        for panel in (
            Table(f"{title}, by night", unit, of_nights(quality)),
            Graph(
                f"{title} of the newest products",
                unit,
                {f"avg by (instrument, chip) (dpu_archive_quality{{quality='{quality}'}})": "{{instrument}} {{chip}}"},
            ),
        )
    ],
)
BOARDS = (QUEUE, WORKERS, LOGS, ARCHIVE, SCIENCE)


def files() -> dict[Path, str]:
    """Return what each file is to hold."""
    return {FOLDER / f"{board.uid}.json": board.json() for board in BOARDS}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path, text in files().items():
        path.write_text(text)
