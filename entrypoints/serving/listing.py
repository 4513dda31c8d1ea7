"""What the server is and how it does: models, health, readiness, metrics, feedback, the page."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final

import orjson
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from entrypoints.serving.answers import model_not_found
from entrypoints.serving.bodies import read_object
from entrypoints.serving.errors import ApiError, bad_request
from entrypoints.serving.serving import LOG_SCHEMA, Serving
from entrypoints.serving.settings import AUTO

_PREFIX = re.compile(r"^(chatcmpl|cmpl)-")
_ID = re.compile(r"[A-Za-z0-9._:-]{1,140}")
_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def models(request: Request) -> Response:
    """List what clients may ask for: ``auto`` first, then the base model, then the adapters."""
    serving: Serving = request.app.state.serving
    data = [_model(serving, name) for name in (AUTO, *serving.models())]
    return _json({"object": "list", "data": data})


async def model(request: Request) -> Response:
    """Describe one model."""
    serving: Serving = request.app.state.serving
    name = request.path_params["name"]
    if name not in (AUTO, *serving.models()):
        raise model_not_found(serving, name)
    return _json(_model(serving, name))


async def health(request: Request) -> Response:
    """Say that the process is alive."""
    return _json({"status": "ok"})


async def ready(request: Request) -> Response:
    """Say whether the router is loaded and every adapter proved; if not, why."""
    serving: Serving = request.app.state.serving
    unproved = serving.unproved()
    is_ready = serving.current is not None and not unproved
    told = {
        "ready": is_ready,
        "router": None if serving.current is None else serving.current.router.sha256[:12],
        "adapters": list(serving.answerer.offered),
        "unproved": unproved,
        "problem": serving.problem,
    }
    return _json(told, 200 if is_ready else 503)


async def metrics(request: Request) -> Response:
    """Tell Prometheus."""
    serving: Serving = request.app.state.serving
    text = serving.metrics.text()
    extra = getattr(serving.answerer, "metrics_text", None)
    return Response(text + (extra() if extra else b""), 200, {}, CONTENT_TYPE_LATEST)


async def feedback(request: Request) -> Response:
    """Keep which adapter would have been right for an answer."""
    serving: Serving = request.app.state.serving
    body = await read_object(request)
    unknown = sorted(set(body) - {"id", "correct", "note"})
    if unknown:
        raise bad_request(f"unknown key {unknown[0]!r}; known keys: correct, id, note", unknown[0])
    name, correct, note = body.get("id"), body.get("correct"), body.get("note")
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise bad_request("id is neither the id of an answer nor its x-request-id", "id")
    known = serving.now.router.labels.names
    if correct not in (*known, "none"):
        raise bad_request(f"correct must be one of: {', '.join(known)}, or none", "correct")
    if note is not None and (not isinstance(note, str) or len(note) > 2000):
        raise bad_request("note is not a text of at most 2000 characters", "note")
    if serving.log is None:
        raise ApiError(404, "this server keeps no decision log (serve --decision-log FILE)", code="no_decision_log")
    serving.log.append(
        {
            "schema": LOG_SCHEMA,
            "type": "feedback",
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "id": _PREFIX.sub("", name),
            "correct": correct,
            "note": note,
        }
    )
    return Response(status_code=204)


async def page(request: Request) -> Response:
    """Show the page for trying the router out; it loads nothing from elsewhere."""
    html = files("entrypoints.serving").joinpath("page.html").read_text("utf-8")
    headers = {
        "content-security-policy": _PAGE_POLICY,
        "cache-control": "no-cache",
        "x-content-type-options": "nosniff",
    }
    return HTMLResponse(html, headers=headers)


def _model(serving: Serving, name: str) -> dict[str, Any]:
    base = serving.answerer.base_name
    return {
        "id": name,
        "object": "model",
        "created": 0 if serving.current is None else serving.current.loaded_at,
        "owned_by": "moe-router",
        "root": name,
        "parent": None if name in (AUTO, base) else base,
        "permission": [],
    }


def _json(value: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, {}, "application/json")
