"""Counters and distributions for Prometheus; no prompt text anywhere in them."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from domain.stickiness import ServedReason

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_ROUTING_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SHARES = tuple(step / 20 for step in range(1, 21))
BASE_LABEL = "base"
"""Who answered, in labels, when it was the bare base model."""


class ServeMetrics:
    """All series of one server, with the prefix ``moe_router_``; labels that are known start at 0."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.info = self._info("", "The router that decides.")
        self.decisions = self._counter("decisions", "Decisions by who answered and why.", "adapter", "reason")
        self.confidence = self._histogram("confidence", "Confidence of routed decisions.", _SHARES)
        self.routing = self._histogram("routing_duration_seconds", "Time that deciding took.", _ROUTING_SECONDS)
        self.requests = self._counter("requests", "Requests by endpoint and status.", "endpoint", "code")
        self.duration = self._histogram("request_duration_seconds", "Time of a request.", _SECONDS, "endpoint")
        self.first_token = self._histogram(
            "time_to_first_token_seconds", "Time to the first piece of a streamed answer.", _SECONDS, "adapter"
        )
        self.tokens = self._counter("tokens", "Tokens by who answered.", "adapter", "type")
        self.in_flight = self._gauge("requests_in_flight", "Requests that are being answered or wait.")
        self.queue_length = self._gauge("queue_length", "Requests that wait for the model.")
        self.rejections = self._counter("queue_rejections", "Requests refused because too many wait.")
        self.batch_size = self._histogram("batch_size", "Prompts decided at once.", (1, 2, 4, 8, 16, 32, 64))
        self.attempts = self._counter("upstream_attempts", "Requests to the upstream by status.", "code")
        self.mismatches = self._counter("upstream_echo_mismatch", "Answers that came from another model than asked.")
        self.adapter_up = self._gauge("adapter_up", "Whether an adapter is offered.", "adapter")
        self.switches = self._counter("adapter_switches", "Conversations that changed hands.")
        self.reloads = self._counter("reloads", "Reloads of the router.", "result")
        self.log_dropped = self._counter("decision_log_dropped", "Lines that the decision log could not keep.")
        for result in ("ok", "failed"):
            self.reloads.labels(result)

    def seed(self, adapters: Iterable[str]) -> None:
        """Let the series of these adapters and of the base model start at 0."""
        for adapter in (*adapters, BASE_LABEL):
            for reason in ServedReason:
                self.decisions.labels(adapter, reason)
            for kind in ("prompt", "completion"):
                self.tokens.labels(adapter, kind)
            self.first_token.labels(adapter)

    def describe(self, *, version: str, router: str, base: str) -> None:
        """Say which router decides."""
        self.info.info({"version": version, "router": router, "base": base})

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace="moe_router", registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, namespace="moe_router", registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(name, text, labels, namespace="moe_router", registry=self.registry, buckets=tuple(buckets))

    def _info(self, name: str, text: str) -> Info:
        return Info(name or "moe_router", text, registry=self.registry)
