"""The HTTP interface, answer by answer, over an engine without a model."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_metrics

from adapters.in_memory.serving import InMemoryAnswerer
from application.ports.serving import AnswerFailedError
from domain.answer_policy import Fallback, FallbackKind
from domain.routing import OtherLimits
from tests.serving_world import LABELS, WordRouter, ask, client, events, serving

SIX = {"schema", "adapter", "reason", "confidence", "router"}


def error_of(response: Any, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert isinstance(error["message"], str)
    return error


def test_limits_of_the_server_hold_where_a_request_has_none() -> None:
    with client(serving(limits=OtherLimits(min_confidence=0.95))) as http:
        routing = http.post("/v1/chat/completions", json=ask("a claim")).json()["routing"]
    assert routing["reason"] == "low_confidence"


def test_auto_is_answered_by_the_adapter_that_the_router_picks_and_says_so() -> None:
    with client(serving()) as http:
        response = http.post("/v1/chat/completions", json=ask("move my meeting"))
    answer = response.json()
    assert answer["model"] == "calendar"
    assert answer["choices"][0]["message"]["content"] == "calendar: move my meeting"
    assert answer["routing"] == {
        "adapter": "calendar",
        "reason": "confident",
        "confidence": pytest.approx(0.9),
        "out_of_scope_score": 0.0,
        "out_of_scope_limit": 0.5,
        "fallback": None,
        "best": "calendar",
        "runner_up": "claims",
        "session": {"decision": "initialize", "source": "conversation"},
        "router": "a" * 12,
        "latency_ms": answer["routing"]["latency_ms"],
    }
    told = {name.removeprefix("x-moe-router-") for name in response.headers if name.startswith("x-moe-router-")}
    assert told == SIX
    assert response.headers["x-moe-router-adapter"] == "calendar"
    assert answer["id"] == f"chatcmpl-{response.headers['x-request-id']}"


def test_every_chunk_names_who_answers_and_the_first_and_last_say_why() -> None:
    with client(serving()) as http:
        body = ask("file a claim now", stream=True, stream_options={"include_usage": True})
        response = http.post("/v1/chat/completions", json=body, headers={"x-moe-router-debug": "true"})
    *chunks, done = events(response.text)
    assert done == "[DONE]"
    assert {chunk["model"] for chunk in chunks} == {"claims"}
    assert ["routing" in chunk for chunk in chunks] == [True, *[False] * (len(chunks) - 2), True]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-1]) == "claims: file a claim now"
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-moe-router-session"] == "initialize"
    assert response.headers["x-moe-router-runner-up"] == "calendar"


def test_a_prompt_that_belongs_to_no_adapter_is_answered_by_the_base_and_says_so() -> None:
    with client(serving()) as http:
        found = http.post("/v1/chat/completions", json=ask("hello")).json()
    assert (found["model"], found["routing"]["adapter"]) == ("base-model", None)
    assert (found["routing"]["reason"], found["routing"]["fallback"]) == ("out_of_scope", "base")


def test_completions_are_routed_on_their_prompt() -> None:
    with client(serving()) as http:
        found = http.post("/v1/completions", json={"model": "auto", "prompt": "write a function"}).json()
        assert found["choices"][0]["text"] == "code: write a function"
        streamed = http.post("/v1/completions", json={"model": "auto", "prompt": ["a claim"], "stream": True})
        assert events(streamed.text)[0]["model"] == "claims"
        error_of(http.post("/v1/completions", json={"model": "auto", "prompt": [1, 2]}), 400, "invalid_request_error")


def test_a_named_model_answers_whatever_the_prompt_is() -> None:
    with client(serving()) as http:
        found = http.post("/v1/chat/completions", json=ask("a claim", model="code")).json()
        assert (found["model"], found["routing"]["reason"]) == ("code", "named")
        found = http.post("/v1/chat/completions", json=ask("a claim", model="base-model")).json()
        assert (found["model"], found["routing"]["adapter"]) == ("base-model", None)
        error = error_of(http.post("/v1/chat/completions", json=ask("x", model="gpt-4")), 404, "model_not_found")
        assert "auto, base-model, calendar, claims, code" in error["message"]
        assert error["param"] == "model"


def test_fields_that_are_not_the_routers_pass_through_untouched() -> None:
    answerer = InMemoryAnswerer(LABELS.names)
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    with client(serving(answerer)) as http:
        http.post("/v1/chat/completions", json=ask("a claim", tools=tools, top_k=3, routing={"session_id": "s"}))
    assert answerer.calls[0].body == {
        "messages": [{"role": "user", "content": "a claim"}],
        "tools": tools,
        "top_k": 3,
    }


def test_wishes_of_a_request() -> None:
    with client(serving()) as http:

        def post(text: str, **routing: Any) -> Any:
            return http.post("/v1/chat/completions", json=ask(text, routing=routing))

        refused = post("hello", fallback="error")
        error_of(refused, 409, "no_adapter")
        assert refused.json()["routing"]["reason"] == "out_of_scope"
        assert refused.headers["x-moe-router-reason"] == "out_of_scope"
        assert post("hello", fallback="code").json()["model"] == "code"
        assert post("hello", no_abstain=True).json()["model"] == "calendar"
        assert post("a claim", min_confidence=0.95).json()["routing"]["reason"] == "low_confidence"
        assert post("a claim", allowed=["code"]).json()["model"] == "code"
        error = error_of(post("a claim", colour="red"), 400, "invalid_request_error")
        assert error["param"] == "routing"
        error_of(post("a claim", allowed=["nope"]), 400, "invalid_request_error")


def test_conversations_keep_their_adapter() -> None:
    with client(serving()) as http:
        http.post("/v1/chat/completions", json=ask("write a function for me"), headers={"x-session-id": "s"})
        found = http.post("/v1/chat/completions", json=ask("and commit it"), headers={"x-session-id": "s"}).json()
        assert (found["model"], found["routing"]["reason"]) == ("code", "sticky")
        assert found["routing"]["session"] == {"decision": "retain", "source": "x-session-id"}
        found = http.post("/v1/chat/completions", json=ask("and commit it", prompt_cache_key="other")).json()
        assert found["routing"]["session"]["source"] == "prompt_cache_key"
        assert found["model"] == "base-model"


@pytest.mark.parametrize("endpoint", ["chat/completions", "completions"])
def test_what_is_no_request_is_refused(endpoint: str) -> None:
    with client(serving()) as http:
        url = f"/v1/{endpoint}"
        for content in (b"", b"{", b"[]", b"\xff", b"[" * 5000):
            headers = {"content-type": "application/json"}
            error_of(http.post(url, content=content, headers=headers), 400, "invalid_request_error")
        error_of(http.post(url, json={}), 400, "invalid_request_error")
        error_of(http.post(url, json={"messages": "x", "prompt": {}}), 400, "invalid_request_error")
        error_of(http.post(url, json={**ask("x"), "prompt": "x", "stream": "yes"}), 400, "invalid_request_error")
        error_of(http.post(url, json={**ask("x"), "model": 3}), 404, "model_not_found")
        text = http.post(url, content=b"{}", headers={"content-type": "text/plain"})
        error_of(text, 400, "invalid_request_error")
        assert len(text.headers["x-request-id"]) == 32


def test_route_decides_and_nobody_answers() -> None:
    answerer = InMemoryAnswerer(LABELS.names)
    with client(serving(answerer)) as http:
        found = http.post("/v1/route", json={"prompt": "a claim", "explain": True}).json()
        assert found["adapter"] == "claims"
        assert found["probabilities"] == {"calendar": 0.05, "claims": 0.9, "code": 0.05}
        assert (found["nearest"], found["router"], found["session"]) == ([], "a" * 64, None)
        assert (found["piece"], found["pieces"], found["shortened"]) == ("", 1, False)
        two = http.post("/v1/route", json={"prompt": "- Hello!\n- A claim.", "explain": True}).json()
        assert two["read"] == ["Hello!", "A claim.", "Hello! A claim."]
        assert "read" not in http.post("/v1/route", json={"prompt": "a claim"}).json()
        assert http.post("/v1/route", json={"messages": ask("hello")["messages"]}).json()["adapter"] is None
        http.post("/v1/route", json={"prompt": "a claim", "session_id": "s"})
        kept = http.post("/v1/route", json={"prompt": "yes please do", "session_id": "s"}).json()
        assert (kept["adapter"], kept["session"]["decision"]) == ("claims", "retain")
        error_of(http.post("/v1/route", json={"prompt": "a", "messages": []}), 400, "invalid_request_error")
        error_of(http.post("/v1/route", json={"prompt": "a", "explian": True}), 400, "invalid_request_error")
    assert answerer.calls == []


def test_models_in_vllms_shape_without_paths() -> None:
    with client(serving()) as http:
        data = http.get("/v1/models").json()["data"]
        assert [(each["id"], each["parent"]) for each in data] == [
            ("auto", None),
            ("base-model", None),
            *((name, "base-model") for name in LABELS.names),
        ]
        assert http.get("/v1/models/code").json()["root"] == "code"
        error_of(http.get("/v1/models/nope"), 404, "model_not_found")


def test_everything_else_is_not_found() -> None:
    with client(serving()) as http:
        for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/embeddings", "/docs"):
            error_of(http.post(path, json={}), 404, "not_found")
        error_of(http.get("/v1/route"), 405, "method_not_allowed")
        assert http.get("/health").json() == {"status": "ok"}


def test_a_key_is_asked_for_everywhere_but_where_nothing_is_told() -> None:
    with client(serving(api_key="sécret")) as http:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic s\u00e9cret"}):
            for path in ("/v1/models", "/v1/decisions", "/nope"):
                encoded = {name: value.encode() for name, value in headers.items()}
                error_of(http.get(path, headers=encoded), 401, "invalid_api_key")
        assert http.get("/v1/models", headers={"authorization": "bearer sécret".encode()}).status_code == 200
        assert [http.get(path).status_code for path in ("/", "/health", "/ready", "/metrics")] == [200] * 4


def test_a_local_server_answers_to_local_names_only() -> None:
    with client(serving(local_only=True)) as http:
        error_of(http.get("/v1/models", headers={"host": "evil.example"}), 403, "forbidden_host")
        for host in ("localhost:8000", "127.0.0.1", "[::1]:80"):
            assert http.get("/v1/models", headers={"host": host}).status_code == 200


def test_ready_says_what_is_not_offered_and_why() -> None:
    answerer = InMemoryAnswerer(LABELS.names, refused={"claims": "it answers as the base model does"})
    with client(serving(answerer)) as http:
        found = http.get("/ready")
        assert found.status_code == 503
        assert found.json()["unproved"] == {"claims": "it answers as the base model does"}
        error_of(http.post("/v1/chat/completions", json=ask("x", model="claims")), 404, "model_not_found")
        routed = http.post("/v1/chat/completions", json=ask("file a claim")).json()
        assert (routed["model"], routed["routing"]["reason"]) == ("base-model", "disabled")
        assert routed["routing"]["best"] == "claims"  # whom the client would have got


def test_before_the_router_is_loaded_requests_are_asked_to_come_again() -> None:
    state = serving()
    with client(state) as http:
        state.current = None
        found = http.post("/v1/chat/completions", json=ask("x"))
        error_of(found, 503, "not_ready")
        assert found.headers["retry-after"] == "1"
        assert http.get("/ready").status_code == 503


def test_an_engines_failures_keep_their_status() -> None:
    for status, code in ((502, "upstream_echo_mismatch"), (429, "queue_full"), (504, "timeout")):
        answerer = InMemoryAnswerer(LABELS.names, fails=AnswerFailedError("no", status=status, code=code))
        with client(serving(answerer)) as http:
            response = http.post("/v1/chat/completions", json=ask("a claim"))
            error_of(response, status, code)
            assert response.headers["x-moe-router-adapter"] == "claims"


def test_a_failure_in_a_stream_is_an_error_event_and_no_done() -> None:
    answerer = InMemoryAnswerer(LABELS.names, fails=AnswerFailedError("gone", status=502, code="upstream_error"))
    state = serving(answerer)
    with client(state) as http:
        response = http.post("/v1/chat/completions", json=ask("a claim", stream=True))
        first, error = events(response.text)
    assert first["model"] == "claims"
    assert error["error"]["code"] == "upstream_error"
    assert state.log.lines[-1]["status"] == 502
    assert state.waiting == 0


def test_a_bug_is_a_named_500_that_tells_nothing() -> None:
    class Broken(InMemoryAnswerer):
        async def complete(self, call: Any) -> Any:
            raise KeyError("secret detail")

    with client(serving(Broken(LABELS.names))) as http:
        response = http.post("/v1/chat/completions", json=ask("a claim"))
        assert "secret" not in error_of(response, 500, "internal_error")["message"]
        assert response.headers["x-request-id"]


def test_when_the_router_fails_the_fallback_answers_and_says_so() -> None:
    router = WordRouter(broken=True)
    with client(serving(router=router)) as http:
        found = http.post("/v1/chat/completions", json=ask("a claim")).json()
        assert (found["model"], found["routing"]["reason"]) == ("base-model", "router_error")
    state = serving(router=router, fallback=Fallback(FallbackKind.ERROR))
    with client(state) as http:
        error = error_of(http.post("/v1/chat/completions", json=ask("a claim")), 409, "no_adapter")
        assert "the model is gone" in error["message"]


def test_too_many_at_once_are_told_to_come_again() -> None:
    state = serving(max_waiting=0)
    with client(state) as http:
        response = http.post("/v1/chat/completions", json=ask("a claim"))
        error_of(response, 429, "queue_full")
        assert response.headers["retry-after"] == "1"
        assert "moe_router_queue_rejections_total 1.0" in http.get("/metrics").text


def test_a_body_that_is_too_large_is_refused_with_and_without_a_length() -> None:
    with client(serving(max_body=500)) as http:
        error_of(http.post("/v1/chat/completions", json=ask("x" * 500)), 413, "request_too_large")
        chunks = (b"x" * 100 for _ in range(10))
        headers = {"content-type": "application/json"}
        error_of(http.post("/v1/chat/completions", content=chunks, headers=headers), 413, "request_too_large")


def test_a_requests_name_is_kept_only_where_it_is_harmless() -> None:
    with client(serving()) as http:
        for given, kept in (("abc-1:2.3_4", True), ("a b", False), ("x" * 129, False), ("a\tb", False)):
            found = http.get("/health", headers={"x-request-id": given}).headers["x-request-id"]
            assert (found == given) is kept


def test_metrics_count_without_naming_prompts() -> None:
    with client(serving()) as http:
        before = http.get("/metrics").text
        assert 'moe_router_decisions_total{adapter="code",reason="sticky"} 0.0' in before
        http.post("/v1/chat/completions", json=ask("a zebra claim"))
        text = http.get("/metrics").text
    assert "zebra" not in text
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in parse_metrics(text)
        for sample in family.samples
    }
    assert values["moe_router_decisions_total", "claims", "confident"] == 1
    assert values["moe_router_tokens_total", "claims", "completion"] == 4
    assert values["moe_router_requests_total", "/v1/chat/completions", "200"] == 1
    assert values["moe_router_adapter_up", "claims"] == 1
    assert values["moe_router_requests_in_flight",] == 0
    assert values["moe_router_reloads_total", "ok"] == 1


def test_the_log_has_no_text_unless_asked_and_feedback_joins_it() -> None:
    state = serving()
    with client(state) as http:
        answer = http.post("/v1/chat/completions", json=ask("a zebra claim")).json()
        assert http.post("/v1/feedback", json={"id": answer["id"], "correct": "code"}).status_code == 204
        assert http.post("/v1/feedback", json={"id": "x", "correct": "none", "note": "hm"}).status_code == 204
        for bad in (
            {"id": "x", "correct": "nope"},
            {"id": 3, "correct": "none"},
            {"id": "x", "correct": "none", "a": 1},
        ):
            error_of(http.post("/v1/feedback", json=bad), 400, "invalid_request_error")
        said = http.post("/v1/feedback", json={"id": "x", "correct": "nope"}).json()["error"]["message"]
        assert re.fullmatch(r"correct must be one of: \w[\w, -]*, or none", said)
        shown = http.get("/v1/decisions").json()["data"]
    decision, feedback, _ = state.log.lines
    assert "zebra" not in json.dumps(state.log.lines)
    assert decision["id"] == feedback["id"]
    assert decision["tokens"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert decision["probabilities"]["claims"] == pytest.approx(0.9)
    assert [each["id"] for each in shown] == [decision["id"]]
    with client(serving(log_prompts=True)) as http:
        http.post("/v1/chat/completions", json=ask("a zebra claim"))
    state = serving(log_prompts=True)
    with client(state) as http:
        http.post("/v1/route", json={"prompt": "a zebra claim"})
    assert state.log.lines[0]["text"] == "a zebra claim"


def test_a_reload_that_fails_keeps_the_old_router_and_says_so() -> None:
    state = serving()
    with client(state) as http:
        before = state.current

        async def broken() -> Any:
            raise AnswerFailedError("a bad file", status=500, code="x")

        state.load = broken
        assert http.portal is not None
        assert http.portal.call(state.reload) is False
        assert state.current is before
        assert http.get("/ready").json()["problem"] == "a bad file"
        assert http.post("/v1/chat/completions", json=ask("a claim")).json()["model"] == "claims"
        assert 'moe_router_reloads_total{result="failed"} 1.0' in http.get("/metrics").text
