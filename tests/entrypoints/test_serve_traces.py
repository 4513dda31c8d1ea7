"""Spans of requests, kept in memory."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from click.testing import CliRunner
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from adapters.in_memory.serving import InMemoryAnswerer
from domain.errors import UsageError
from entrypoints.bootstrap import Application
from entrypoints.cli import cli
from entrypoints.serving.tracing import Tracing, otlp_tracing
from tests.serving_world import LABELS, ask, client, serving
from tests.upstream_world import FakeVllm, answerer

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def traced(spans: InMemorySpanExporter, engine: Any = None, **settings: Any) -> Any:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    state = serving(engine, **settings)
    state.tracing = Tracing(provider)
    return state


def by_name(spans: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans.get_finished_spans()}


def test_an_answer_has_a_span_with_the_routing_below_it(spans: InMemorySpanExporter) -> None:
    with client(traced(spans)) as http:
        answer = http.post("/v1/chat/completions", json=ask("file a claim"), headers={"traceparent": PARENT}).json()
    found = by_name(spans)
    assert set(found) == {"chat auto", "route"}
    top, route = found["chat auto"], found["route"]
    told = dict(top.attributes or {})
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.request.model"] == "auto"
    assert told["gen_ai.response.model"] == answer["model"] == "claims"
    assert told["gen_ai.response.id"] == answer["id"]
    assert told["gen_ai.usage.output_tokens"] == answer["usage"]["completion_tokens"]
    assert (told["moe_router.reason"], told["http.response.status_code"]) == ("confident", 200)
    assert format(top.context.trace_id, "032x") == PARENT.split("-")[1]
    assert route.parent is not None
    assert route.parent.span_id == top.context.span_id
    assert top.start_time <= route.start_time <= route.end_time <= top.end_time
    assert not any(
        "file a claim" in str(value) for span in found.values() for value in (span.attributes or {}).values()
    )


def test_streams_refusals_and_failures_have_spans_too(spans: InMemorySpanExporter) -> None:
    with client(traced(spans, fallback="base")) as http:
        http.post("/v1/chat/completions", json=ask("a claim", stream=True, stream_options={"include_usage": True}))
        http.post("/v1/completions", json={"model": "nobody", "prompt": "x"})
        http.post("/v1/chat/completions", json=ask("hello there you", routing={"fallback": "error"}))
    top = [span for span in spans.get_finished_spans() if span.name != "route"]
    told = [dict(span.attributes or {}) for span in top]
    assert [span.name for span in top] == ["chat auto", "text_completion nobody", "chat auto"]
    assert [each["http.response.status_code"] for each in told] == [200, 404, 409]
    assert [each.get("gen_ai.response.model") for each in told] == ["claims", None, None]
    assert [each.get("error.type") for each in told] == [None, "404", "409"]


def test_an_upstream_goes_on_with_the_trace_and_its_failure_is_an_error(spans: InMemorySpanExporter) -> None:
    fake = FakeVllm(faults={"code": 500})
    with client(traced(spans, answerer(fake))) as http:
        http.post("/v1/chat/completions", json=ask("file a claim"))
        fake.faults["claims"] = 500
        http.post("/v1/chat/completions", json=ask("file a claim"))
    first, second = (span for span in spans.get_finished_spans() if span.name == "chat auto")
    sent = [headers["traceparent"].split("-")[1:3] for _, headers in fake.seen if "traceparent" in headers]
    assert sent[0] == [format(first.context.trace_id, "032x"), format(first.context.span_id, "016x")]
    assert (first.status.status_code, second.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert dict(second.attributes or {})["error.type"] == "502"


def test_nothing_is_traced_unless_asked_for() -> None:
    state = serving(InMemoryAnswerer(LABELS.names))
    assert state.tracing is None
    with client(state) as http:
        assert http.post("/v1/chat/completions", json=ask("file a claim")).status_code == 200


def test_spans_are_sent_where_the_usual_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    tracing = otlp_tracing()
    assert tracing.provider.resource.attributes["service.name"] == "moe-router"
    tracing.close()
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    tracing = otlp_tracing()
    assert tracing.provider.resource.attributes["service.name"] == "mine"
    tracing.close()


def test_the_flag_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    done = CliRunner().invoke(cli, ["serve", "--traces", "--upstream", "http://x"], obj=Application({}))
    assert isinstance(done.exception, UsageError)
    assert "opentelemetry-exporter-otlp-proto-http" in str(done.exception)
