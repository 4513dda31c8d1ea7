"""Spans for OpenTelemetry, by its conventions for generative AI; an optional extra, off by default.

One span per request for an answer, with the routing as its child; never any text. The trace of the client goes on in
it, and the upstream is told to go on with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import time_ns
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from application.serving.choose_answerer import Choice
from domain.errors import UsageError
from entrypoints.version import install_extra, tool_version

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

_OPERATIONS: Final = {"chat/completions": "chat", "completions": "text_completion"}


@frozen(eq=False)
class TurnSpan:
    """The span of one request.

    Attributes:
        span: OpenTelemetry's.
        tracer: makes its child.
    """

    span: Span
    tracer: Tracer

    @property
    def headers(self) -> dict[str, str]:
        """What tells the upstream to go on with the trace."""
        from opentelemetry.propagate import inject
        from opentelemetry.trace import set_span_in_context

        carrier: dict[str, str] = {}
        inject(carrier, set_span_in_context(self.span))
        return carrier

    def routed(self, choice: Choice) -> None:
        """Note a decision that has just been made."""
        from opentelemetry.trace import set_span_in_context

        now = time_ns()
        context, begun = set_span_in_context(self.span), now - int(choice.milliseconds * 1e6)
        child = self.tracer.start_span("route", context, start_time=begun, attributes=_routing(choice))
        child.end(now)
        self.span.set_attributes(_routing(choice))

    def end(self, *, model: str | None, name: str, status: int, usage: Mapping[str, int]) -> None:
        """End the span.

        Args:
            model: who answered; None when nobody was chosen.
            name: the answer's id.
            status: the HTTP status that was, or would have been, told.
            usage: tokens as OpenAI counts them.
        """
        from opentelemetry.trace import StatusCode

        told: dict[str, str | int] = {"gen_ai.response.id": name, "http.response.status_code": status}
        if model is not None:
            told["gen_ai.response.model"] = model
        for kind, key in (("input", "prompt_tokens"), ("output", "completion_tokens")):
            if key in usage:
                told[f"gen_ai.usage.{kind}_tokens"] = usage[key]
        if status >= 400:
            told["error.type"] = str(status)
        if status >= 500:
            self.span.set_status(StatusCode.ERROR)
        self.span.set_attributes(told)
        self.span.end()


@frozen(eq=False)
class Tracing:
    """Makes spans.

    Attributes:
        provider: OpenTelemetry's; whoever made it says where spans go.
    """

    provider: TracerProvider
    _tracer: Tracer = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Ask for a tracer of this program's name."""
        object.__setattr__(self, "_tracer", self.provider.get_tracer("moe-lora-router", tool_version()))

    def begin(self, endpoint: str, model: str, headers: Mapping[str, str]) -> TurnSpan:
        """Begin a request's span, as part of the client's trace if its headers name one."""
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind

        operation = _OPERATIONS[endpoint]
        told = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "moe_router",
            "gen_ai.request.model": model,
        }
        context = extract(dict(headers))
        span = self._tracer.start_span(f"{operation} {model}", context, SpanKind.SERVER, told)
        return TurnSpan(span, self._tracer)

    def close(self) -> None:
        """Send what is left."""
        self.provider.shutdown()


def otlp_tracing() -> Tracing:
    """Return tracing that sends spans by OTLP over HTTP; OpenTelemetry's own variables (``OTEL_…``) say where.

    Raises UsageError when its packages are missing.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise UsageError(f"--traces needs the package {error.name}", hint=install_extra("otel")) from error
    resource = Resource.create()
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "moe-router"}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)


def _routing(choice: Choice) -> dict[str, str | float]:
    told: dict[str, str | float] = {"moe_router.reason": str(choice.reason), "moe_router.router": choice.router[:12]}
    if choice.fallback is not None:
        told["moe_router.fallback"] = choice.fallback
    if choice.decision is not None:
        told["moe_router.confidence"] = choice.decision.confidence
        told["moe_router.out_of_scope_score"] = choice.decision.out_of_scope
    return told
