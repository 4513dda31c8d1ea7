"""What can be checked about Modal without an account, and the list for the first person with one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Any, Final

from attrs import asdict, frozen

from domain.errors import MoeRouterError
from entrypoints.on_modal.image import PYTHON, dependencies, pinned
from entrypoints.on_modal.places import MOUNTS
from entrypoints.settings import Settings

SMALL_BASE: Final = "HuggingFaceTB/SmolLM2-135M-Instruct"

FIRST_CONTACT: Final[tuple[tuple[str, str], ...]] = (
    ("modal setup", "opens a browser once; `modal token info` then shows your workspace"),
    (
        "moe-router generate --test --train-samples 140 --eval-samples 5 --output-dir datasets/first",
        "420 rows for training and validation, 15 held out, in seconds",
    ),
    ("moe-router publish datasets/first --latest --create-volume", "ends with: Upload complete"),
    ("moe-router datasets", "a line with * before the data set"),
    (
        f"moe-router train --backend modal --base-model {SMALL_BASE} --gpu T4,L4",
        "the image builds once (minutes); then steps, and: Router head saved to /output/router-head.safetensors. "
        "A GPU driver that is too old for the image shows here",
    ),
    ("modal volume get routing-output router-head.pt", "the file arrives"),
    ("moe-router download router-head.safetensors", "ends with: verified"),
    ("moe-router evaluate --backend modal --gpu T4,L4", "figures, and router-eval.json on the volume"),
    (
        "moe-router infer --backend modal --gpu T4,L4 --route-only --input datasets/first/data.jsonl",
        "420 prompts: a decision for each",
    ),
    (
        "moe-router infer --backend modal --gpu T4,L4 --fallback base --input datasets/first/data.jsonl "
        "--output answers.jsonl",
        "end it with Ctrl-C half way: soon `modal app list` shows nothing running; the same command goes on",
    ),
    (
        "modal serve -m entrypoints.modal_app::tensorboard",
        "open the address that it prints: 403; its log then shows one with a key, which opens",
    ),
    ("moe-router tensorboard --backend modal", "the same curves, served on this machine"),
    (
        "modal serve -m entrypoints.modal_serve",
        "an address that answers 401 without proxy tokens; end it with Ctrl-C",
    ),
    ("modal app list", "nothing of ours is running"),
)
"""Commands in order, each with what to look for."""


@frozen
class Finding:
    """One check.

    Attributes:
        what: what was looked at.
        problem: what is wrong; None when nothing is.
        detail: what was found.
    """

    what: str
    problem: str | None
    detail: str = ""


def check(environment: Mapping[str, str]) -> list[Finding]:
    """Check settings, the app's definition, the image's recipe and credentials; contacts nothing."""
    checks: dict[str, Callable[[], str]] = {
        "modal's client": lambda: version("modal"),
        "settings": lambda: _settings(Settings.read(environment)),
        "definition of the app": _app,
        "definition of the endpoint": lambda: str(import_module("entrypoints.modal_serve").ENDPOINT.router),
        "recipe of the image": _recipe,
        "volumes": lambda: ", ".join(MOUNTS),
        "credentials": _credentials,
    }
    return list(_findings(checks))


def _findings(checks: Mapping[str, Callable[[], str]]) -> Iterator[Finding]:
    for what, look in checks.items():
        try:
            yield Finding(what, None, look())
        except MoeRouterError as error:
            yield Finding(what, str(error))
        except Exception as error:  # a check must not end the others
            yield Finding(what, f"{type(error).__name__}: {error}")


def _settings(settings: Settings) -> str:
    return ", ".join(f"{name.replace('_', '-')} {value}" for name, value in asdict(settings).items() if value)


def _recipe() -> str:
    return f"Python {PYTHON}, {len(pinned(dependencies()))} pinned packages"


def _app() -> str:
    app: Any = import_module("entrypoints.modal_app")
    return f"{', '.join(app.functions)} on {app.GPU}"


def _credentials() -> str:
    from modal.config import config

    from domain.errors import RemoteError

    if not (config.get("token_id") and config.get("token_secret")):
        raise RemoteError("there are none", hint="run `modal setup`; nothing else here needs them")
    return "found (not tried)"
