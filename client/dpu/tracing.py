"""Traces by OpenTelemetry: which calls and tasks one submission led to, across client, scheduler, worker and archive.

Off, and then nearly free, unless OTEL_EXPORTER_OTLP_ENDPOINT says where spans go (gRPC; the extra `tracing`). A call is
part of a trace where its caller was in one: what only keeps the DPU going, as polls and renewals, leaves no span.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from dpu.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from opentelemetry.trace import Span, Tracer

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
#: W3C's name for what says where in a trace a call was made; gRPC's metadata has it, too.
PARENT = "traceparent"

#: Makes spans; None: nobody wants them.
_tracer: Tracer | None = None
_NOTHING: AbstractContextManager[None] = nullcontext()


def set_up(service: str, environment: Mapping[str, str]) -> None:
    """Send this process's spans to where the environment says, as those of `service`; once.

    Raises UsageError where it says so, and the packages for it are not installed.
    """
    global _tracer  # noqa: PLW0603 (as with logs, there is one for a process)
    if _tracer is not None or not environment.get(ENDPOINT):
        return
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise UsageError(f"{ENDPOINT} is set, and {error.name} is not installed: pip install 'dpu[tracing]'") from error
    provider = TracerProvider(resource=Resource.create({"service.name": f"dpu-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("dpu")


def carried() -> tuple[tuple[str, str], ...]:
    """Return what goes with a call that is made now; nothing outside of every trace."""
    if _tracer is None:
        return ()
    parent = present()
    return ((PARENT, parent),) if parent else ()


def present() -> str:
    """Return where in a trace this is, as W3C's traceparent; '' outside of every trace."""
    if _tracer is None:
        return ""
    from opentelemetry import trace

    return _written(trace.get_current_span())


def begin(name: str, parent: str, **attributes: str | int) -> Span | None:
    """Return a span below `parent` that goes on until its `end` is called; None where there is nothing to belong to."""
    if _tracer is None or not parent:
        return None
    return _tracer.start_span(name, _context(parent), attributes=attributes)


def within(span: Span | None) -> AbstractContextManager[Any]:
    """Make calls inside the block part of a span, which goes on after it."""
    if span is None:
        return _NOTHING
    from opentelemetry import trace

    return trace.use_span(span, end_on_exit=False)


def root(name: str, **attributes: str | int) -> AbstractContextManager[Any]:
    """Begin a trace, or a part of the one that this is in, which lasts as long as the block."""
    return _NOTHING if _tracer is None else _tracer.start_as_current_span(name, attributes=attributes)


def below(parent: str, name: str, **attributes: str | int) -> AbstractContextManager[Any]:
    """Go on with a trace during the block, as a span below `parent`; without a parent there is none."""
    return _NOTHING if _tracer is None or not parent else _lasting(name, parent, attributes)


def serving(method: str, metadata: Iterable[tuple[str, str | bytes]]) -> AbstractContextManager[Any]:
    """Make the block, which answers a call, a span of the trace that its caller was in."""
    if _tracer is None:
        return _NOTHING
    parent = next((value for key, value in metadata if key == PARENT), "")
    return below(str(parent), method.rpartition(".")[2])


@contextmanager
def _lasting(name: str, parent: str, attributes: Mapping[str, str | int]) -> Iterator[None]:
    with within(span := begin(name, parent, **attributes)):
        try:
            yield
        finally:
            if span is not None:
                span.end()


def _context(parent: str) -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({PARENT: parent})


def _written(span: Span) -> str:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(span))
    return carrier.get(PARENT, "")
