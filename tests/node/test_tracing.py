"""Traces as a collector gets them: an OTLP server here takes what a real node exports."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from hermes import telemetry
from hermes.domain.cascade import Cascade
from hermes.domain.trace import Span, Trace
from hermes.metrics import Metrics
from tests.domain.test_trace import CALLER, delivered, s
from tests.node.harness import MOCKS, SOON_S, carrier, free_port, receipt, running, until


class Collector:
    """Takes spans by OTLP over HTTP, and answers a customer's webhook."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.hooks: list[str | None] = []
        self.sends: list[str | None] = []
        self.url = ""

    async def traces(self, request: web.Request) -> web.Response:
        raw = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        for group in ExportTraceServiceRequest.FromString(raw).resource_spans:
            self.resources.append({a.key: a.value.string_value for a in group.resource.attributes})
            for scope in group.scope_spans:
                self.spans.extend(scope.spans)
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )

    async def hook(self, request: web.Request) -> web.Response:
        self.hooks.append(request.headers.get("traceparent"))
        return web.Response()

    async def provider(self, request: web.Request) -> web.Response:
        """Take an SMS as Messente does."""
        self.sends.append(request.headers.get("traceparent"))
        taken = {"channel": "sms", "message_id": "sms-1", "sender": "Hermes"}
        return web.json_response({"omnimessage_id": "omni-1", "messages": [taken], "to": "+4520123456"}, status=201)

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.traces)
    app.router.add_post("/hook", collector.hook)
    app.router.add_post("/v1/omnimessage", collector.provider)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    collector.url = f"http://127.0.0.1:{port}"
    try:
        yield collector
    finally:
        await runner.cleanup()


@pytest.mark.slow
async def test_one_trace_from_the_callers_request_to_the_customers_webhook(tmp_path: Path, data: Path) -> None:
    async with collecting() as collector:
        settings = f'{MOCKS}\n[telemetry]\notlp_endpoint = "{collector.url}"\nsample_ratio = 0.0\n'
        server = "allow_private_callbacks = true"
        async with running(tmp_path, settings, server=server, data=data) as node:
            tenant = await node.tenant()
            body = {
                "to": {"email": "undelivered@example.com", "phone": "+4520120001"},
                "cascade": ["email", "sms"],
                "content": {"text": "Hi", "subject": "Hi"},
                "callback_url": collector.url + "/hook",
            }
            answer = await node.ask("POST", "/v1/messages", body, key=tenant.key, headers={"traceparent": CALLER})
            assert answer.status == 202
            unsampled = await node.send(tenant.key, {"channel": "sms", "to": "+4520120001", "content": {"text": "Hi"}})
            done = await node.final(answer.body["id"])
            await node.final(unsampled["id"])
            await until(lambda: all(map(collector.named, ("webhook", "message"))), SOON_S, "spans come")
            # The bounce is taken back, after the message has ended.
            first = done["attempts"][0]["carrier_message_ids"][0]
            late = await receipt(node, first, secret="receipts-email", carrier="mock-email")
            assert late.status == 200, late
            await until(lambda: bool(collector.named("receipt")), SOON_S, "the late receipt's span comes")

            async def counted() -> bool:
                return 'hermes_spans_total{outcome="exported"}' in (await node.ask("GET", "/metrics")).body

            await until(counted, SOON_S, "exported spans are counted")
        ours = f"{int(CALLER[3:35], 16):032x}"
        assert {span.trace_id.hex() for span in collector.spans} == {ours}, "sampled by its caller, and no other is"
        by_id = {span.span_id: span for span in collector.spans}
        (own,) = collector.named("message")
        assert own.parent_span_id.hex() == CALLER[36:52]
        for name in ("accept", "send email", "send sms", "webhook"):
            (span,) = collector.named(name)
            assert span.parent_span_id == own.span_id, name
        (late_span,) = collector.named("receipt")
        assert by_id[late_span.parent_span_id].name == "send email"
        assert [link.span_id for link in late_span.links] == [late_span.parent_span_id]
        (hook,) = collector.named("webhook")
        assert collector.hooks == [f"00-{ours}-{hook.span_id.hex()}-01"]
        assert own.end_time_unix_nano > own.start_time_unix_nano
        assert collector.resources[0]["service.name"] == "hermes"
        said = repr(collector.spans)
        assert not any(secret in said for secret in ("example.com", "4520120001", tenant.key))


@pytest.mark.slow
async def test_a_provider_is_told_the_span_of_the_try(tmp_path: Path, data: Path) -> None:
    async with collecting() as collector:
        messente = carrier(
            name="messente",
            kind="messente",
            channel="sms",
            username="u",
            password="p",
            base_url=collector.url,
            from_="Hermes",
        )
        settings = f'{messente}\n[telemetry]\notlp_endpoint = "{collector.url}"\n'
        async with running(tmp_path, settings, data=data) as node:
            tenant = await node.tenant()
            body: dict[str, Any] = {"to": {"phone": "+4520123456"}, "content": {"text": "Hi"}}
            body["cascade"] = [{"channel": "sms", "success": "submitted"}]
            answer = await node.ask("POST", "/v1/messages", body, key=tenant.key, headers={"traceparent": CALLER})
            await node.final(answer.body["id"])
            await until(lambda: bool(collector.named("send sms")), SOON_S, "the try's span comes")
    (span,) = collector.named("send sms")
    assert collector.sends == [f"00-{CALLER[3:35]}-{span.span_id.hex()}-01"]


def tracer(export: Callable[[Any], bool], ratio: float = 1.0) -> tuple[telemetry.Tracer, Metrics]:
    metrics = Metrics()
    return telemetry.Tracer(export, ratio, metrics), metrics


async def test_collector_that_is_away_costs_spans_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "QUEUE_LIMIT", 10)
    made, metrics = tracer(lambda spans: False)
    for _ in range(4):
        made.ended(delivered(), s(0))  # seven spans each
    assert metrics.spans.values == {"dropped": 18}
    await made.flush(5.0)
    assert metrics.spans.values == {"dropped": 28}


async def test_real_exporter_says_so_when_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "EXPORT_TIMEOUT_S", 0.5)
    made, metrics = tracer(telemetry.otlp(f"http://127.0.0.1:{free_port()}", "w1"))
    made.ended(delivered(), s(0))
    await made.flush(30.0)
    assert metrics.spans.values == {"dropped": 7}


@pytest.mark.parametrize("ratio", [0.0, 0.25, 1.0])
def test_sample_ratio_is_the_share_of_traces_without_a_caller(ratio: float) -> None:
    made, _ = tracer(lambda spans: True, ratio)
    share = sum(made.records(Trace(n * (2**128 // 1000) + n, None, None)) for n in range(1, 1000)) / 999
    assert share == pytest.approx(ratio, abs=0.05)
    assert made.records(Trace(1, 2, True)) and not made.records(Trace(1, 2, False))


def test_batch_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def export(spans: list[Span]) -> bool:
        sizes.append(len(spans))
        return True

    async def sent() -> None:
        made, _ = tracer(export)
        for _ in range(100):
            made.ended(delivered(), s(0))
        await made.flush(5.0)

    import asyncio

    asyncio.run(sent())
    assert sizes == [512, 188]


def test_open_cascade_is_no_crash() -> None:
    made, _ = tracer(lambda spans: True)
    made.ended(Cascade(delivered().message), None)
