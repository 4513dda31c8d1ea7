"""``/v1/route`` and ``/v1/decisions``: decide without answering."""

from __future__ import annotations

from typing import Any, Final

import attrs
import orjson
from starlette.requests import Request
from starlette.responses import Response

from application.serving.choose_answerer import ABSTAINED, Choice, ChooseRequest
from application.serving.wishes import RoutingWishes, parse_wishes
from domain.chats import Chat
from domain.pieces import pieces_of
from domain.stickiness import Strategy
from entrypoints.serving.bodies import read_chat, read_input, read_object, read_prompt, session_names
from entrypoints.serving.errors import ApiError, bad_request
from entrypoints.serving.routing_object import NEAREST, routing_headers, routing_object, wants_debug
from entrypoints.serving.serving import Serving
from entrypoints.serving.settings import AUTO

MAX_QUESTIONS: Final = 32
_ROUTE_KEYS: Final = frozenset({"messages", "prompt", "session_id", "explain", "routing", "model"})


async def route(request: Request) -> Response:
    """Decide on a conversation or a prompt; conversations are remembered only under a name that was given."""
    body = await read_object(request)
    unknown = sorted(set(body) - _ROUTE_KEYS)
    if unknown:
        raise bad_request(f"unknown key {unknown[0]!r}; known keys: {', '.join(sorted(_ROUTE_KEYS))}", unknown[0])
    if ("messages" in body) == ("prompt" in body):
        raise bad_request("give either messages or prompt")
    chat = read_chat(body["messages"]) if "messages" in body else read_prompt(body["prompt"], named=False) or ()
    wishes = parse_wishes({"session_id": body.get("session_id"), **(body.get("routing") or {})})
    if wishes.session_id is None and wishes.strategy is not Strategy.STICKY:
        wishes = attrs.evolve(wishes, strategy=Strategy.NONE)
    explain = bool(body.get("explain"))
    choice = await _decided(request, chat, wishes, "route", nearest=NEAREST if explain else 0)
    told = {
        **routing_object(choice, debug=True),
        "adapter": None if choice.reason in ABSTAINED else choice.adapter,
        "router": choice.router,
    }
    if not explain:
        del told["nearest"]
    elif choice.text is not None:
        told["read"] = pieces_of(choice.text).texts
    return _json(request, told, choice)


async def decisions(request: Request) -> Response:
    """Answer the Decisions API's ``choice`` questions whose choices are adapters."""
    body = await read_object(request)
    if body.get("model", AUTO) != AUTO:
        raise ApiError(404, f"decisions are made by the model {AUTO!r}", code="model_not_found", param="model")
    chat, questions = read_input(body.get("input")), body.get("questions")
    if not isinstance(questions, list) or not 1 <= len(questions) <= MAX_QUESTIONS:
        raise bad_request(f"questions is not a list of 1 to {MAX_QUESTIONS} questions", "questions")
    serving: Serving = request.app.state.serving
    asked = [_choices(serving, question, f"questions[{n}]") for n, question in enumerate(questions)]
    answers, choice = [], None
    for question, names in zip(questions, asked, strict=True):
        wishes = RoutingWishes(strategy=Strategy.NONE, allowed=names)
        choice = await _decided(request, chat, wishes, "decisions")
        answers.append(_decision_answer(question.get("name"), choice))
    nothing = {"cached_tokens": 0, "cache_write_tokens": 0}
    usage = {
        "input_tokens": 0,  # no model generates, and nothing is billed by tokens
        "input_tokens_details": nothing,
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 0,
    }
    assert choice is not None
    return _json(request, {"object": "decision", "model": AUTO, "answers": answers, "usage": usage}, choice)


async def recent(request: Request) -> Response:
    """List the latest decisions, newest first, without any prompt."""
    serving: Serving = request.app.state.serving
    return Response(
        orjson.dumps({"object": "list", "data": list(reversed(serving.recent))}), 200, {}, "application/json"
    )


async def _decided(request: Request, chat: Chat, wishes: RoutingWishes, endpoint: str, *, nearest: int = 0) -> Choice:
    serving: Serving = request.app.state.serving
    names = session_names(request, {})
    choice = await serving.now.choose(ChooseRequest(chat, wishes, names, nearest=nearest))
    serving.account(choice)
    serving.keep(choice, name=request.state.request_id, endpoint=endpoint, status=200, tokens={})
    request.state.notes.update(adapter=choice.adapter, reason=str(choice.reason))
    return choice


def _choices(serving: Serving, question: Any, where: str) -> tuple[str, ...]:
    """Return the adapters that a question lets the router choose among; raises ApiError for any other question."""
    if not isinstance(question, dict) or question.get("type") != "choice":
        raise bad_request("only questions of type 'choice' can be answered here", f"{where}.type")
    choices = question.get("choices")
    if not isinstance(choices, list) or not choices:
        raise bad_request("choices is not a list of choices", f"{where}.choices")
    names = tuple(str(choice.get("value")) if isinstance(choice, dict) else "" for choice in choices)
    labels = serving.now.router.labels
    for name in names:
        if name not in labels:
            known = ", ".join(labels.names)
            raise bad_request(f"the choice {name[:80]!r} is not an adapter; there are {known}", f"{where}.choices")
    if len(set(names)) < len(names):
        raise bad_request("a choice comes twice", f"{where}.choices")
    return names


def _decision_answer(name: Any, choice: Choice) -> dict[str, Any]:
    decision = choice.decision
    if decision is None or decision.adapter is None:
        return {"type": "refusal", "name": name, "reason": str(choice.reason)}
    return {
        "type": "choice",
        "name": name,
        "choice": decision.adapter,
        "confidence": decision.confidence,
        "probabilities": [{"value": value, "probability": share} for value, share in decision.probabilities],
    }


def _json(request: Request, value: dict[str, Any], choice: Choice) -> Response:
    headers = routing_headers(choice, debug=wants_debug(request.headers))
    return Response(orjson.dumps(value), 200, headers, "application/json")
