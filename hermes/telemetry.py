"""Traces for OpenTelemetry: which are recorded, and how they get to a collector (OTLP over HTTP).

Without `[telemetry] otlp_endpoint` there is no `Tracer`, and nobody asks for one: it costs nothing then. With it, spans
wait in a bounded queue and are sent from a thread, so a collector that is slow or away loses spans and delays nothing.
The exporter is OpenTelemetry's own (the extra `telemetry`); this is the one module that imports it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from hermes import __version__
from hermes.domain.fold import Cascade
from hermes.domain.message import Message
from hermes.domain.trace import (
    Span,
    Trace,
    attempt_span,
    message_span,
    message_spans,
    receipt_span,
    trace_of,
    traceparent,
    webhook_span,
)
from hermes.errors import SettingsError
from hermes.logs import get_logger
from hermes.metrics import Metrics

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

log = get_logger("hermes.telemetry")

QUEUE_LIMIT: Final = 20_000  # spans; a message that is delivered at once makes four
BATCH: Final = 512  # spans in one request
EVERY_S: Final = 1.0
EXPORT_TIMEOUT_S: Final = 5.0
_RATIO: Final = 1 << 64

Export = Callable[[Sequence[Span]], bool]  # from a thread; True when the collector has them


class Tracer:
    """Decides which traces are recorded, makes their spans, and sends them.

    A trace whose caller records it is recorded; one whose caller does not is not; of the others, `sample_ratio` of
    all trace ids, the same on every node.
    """

    def __init__(self, export: Export, sample_ratio: float, metrics: Metrics) -> None:
        self._export = export
        self._below = int(sample_ratio * _RATIO)
        self._metrics = metrics
        self._queue: deque[Span] = deque()
        self._complained = False

    def records(self, trace: Trace) -> bool:
        """Tell whether a trace is recorded."""
        if trace.sampled is not None:
            return trace.sampled
        return trace.trace_id % _RATIO < self._below

    def ended(self, state: Cascade, accepted_at: datetime | None) -> None:
        """A message has its final status; `accepted_at` as in `message_spans`."""
        if self.records(trace_of(state.message)):
            self._put(*message_spans(state, accepted_at))

    def receipt(self, message: Message, step: int, attempt: int, carrier: str, status: str, at: datetime) -> None:
        """A receipt came after its message had ended."""
        if self.records(trace_of(message)):
            self._put(receipt_span(message, step, attempt, carrier, status, at))

    def attempt_parent(self, message: Message, step: int, attempt: int) -> str | None:
        """Return the traceparent for a try's call to a carrier; None when the trace is not recorded."""
        trace = trace_of(message)
        if not self.records(trace):
            return None
        return traceparent(trace.trace_id, attempt_span(message.message_id, step, attempt))

    def webhook_parent(self, message: Message, seq: int, target: str, attempts: int) -> str | None:
        """Return the traceparent for a call to a customer; None when the trace is not recorded."""
        trace = trace_of(message)
        if not self.records(trace):
            return None
        return traceparent(trace.trace_id, webhook_span(message.message_id, seq, target, attempts))

    def webhook(
        self, message: Message, seq: int, target: str, attempts: int, start: datetime, end: datetime, outcome: str
    ) -> None:
        """A call to a customer is over; `outcome` is its status code, or what went wrong."""
        trace = trace_of(message)
        if not self.records(trace):
            return
        own = message_span(message.message_id)
        id_ = webhook_span(message.message_id, seq, target, attempts)
        about: dict[str, Any] = {
            "hermes.message_id": message.message_id,
            "hermes.tenant": message.tenant,
            "hermes.seq": seq,
            "hermes.attempt": attempts + 1,
            "hermes.outcome": outcome,
        }
        error = None if outcome.startswith("2") else outcome
        links = ((trace.trace_id, own),)
        self._put(Span("webhook", trace.trace_id, id_, own, "client", start, end, about, (), error, links))

    def _put(self, *spans: Span) -> None:
        for span in spans:
            if len(self._queue) >= QUEUE_LIMIT:
                self._metrics.spans.inc("dropped")
            else:
                self._queue.append(span)

    async def run(self) -> None:
        """Send what waits, again and again, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            while self._queue:
                await self._send()

    async def flush(self, limit_s: float) -> None:
        """Send what is left, as far as there is time."""
        try:
            async with asyncio.timeout(limit_s):
                while self._queue:
                    await self._send()
        except TimeoutError:
            self._metrics.spans.inc("dropped", len(self._queue))
            self._queue.clear()

    async def _send(self) -> None:
        batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
        taken = await asyncio.to_thread(self._export, batch)
        self._metrics.spans.inc("exported" if taken else "dropped", len(batch))
        if not taken and not self._complained:
            log.warning("the collector takes no spans; they are dropped, and counted in hermes_spans_total")
        self._complained = not taken


def otlp(endpoint: str, instance: str) -> Export:
    """Make what sends spans to a collector at this base URL.

    Raises:
        SettingsError: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import SpanExportResult
    except ImportError as exc:
        raise SettingsError(
            "telemetry.otlp_endpoint: OpenTelemetry is not installed: pip install 'hermes-messaging[telemetry]'"
        ) from exc
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what it would say of each try, we say once
    url = endpoint.rstrip("/")
    exporter = OTLPSpanExporter(
        endpoint=url if url.endswith("/v1/traces") else url + "/v1/traces", timeout=EXPORT_TIMEOUT_S
    )
    resource = Resource({"service.name": "hermes", "service.version": __version__, "service.instance.id": instance})

    def export(spans: Sequence[Span]) -> bool:
        try:
            return exporter.export([_readable(span, resource) for span in spans]) is SpanExportResult.SUCCESS
        except Exception as exc:  # the operator is told by the log and the metric; spans are no reason to fail
            log.debug("export failed", error=type(exc).__name__)
            return False

    return export


def _readable(span: Span, resource: Any) -> ReadableSpan:
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

    def context(trace_id: int, span_id: int) -> SpanContext:
        return SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    return ReadableSpan(
        name=span.name,
        context=context(span.trace_id, span.span_id),
        parent=None if span.parent_id is None else context(span.trace_id, span.parent_id),
        resource=resource,
        attributes=dict(span.attributes),
        events=[Event(event.name, _copied(event.attributes), _ns(event.at)) for event in span.events],
        links=[Link(context(*link)) for link in span.links],
        kind=SpanKind[span.kind.upper()],
        status=Status(StatusCode.UNSET) if span.error is None else Status(StatusCode.ERROR, span.error),
        start_time=_ns(span.start),
        end_time=_ns(span.end),
        instrumentation_scope=InstrumentationScope("hermes", __version__),
    )


def _copied(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return dict(attributes)


def _ns(at: datetime) -> int:
    """Unix nanoseconds, exactly: a float has too few digits for today's."""
    seconds = int(at.replace(microsecond=0).timestamp())
    return seconds * 1_000_000_000 + at.microsecond * 1000
