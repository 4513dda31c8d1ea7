"""How each kind of upstream is told which adapter is to answer, and how one finds out which it holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Final, Protocol

from attrs import define, field, frozen

from adapters.upstream.upstream_http import UpstreamHttp
from application.ports.serving import AnswerFailedError
from domain.errors import UsageError

KINDS: Final = ("vllm", "sglang", "llama-server", "openai")
_TEMPLATES: Final = {"sglang": "{base}:{adapter}"}


@frozen
class Survey:
    """What an upstream says that it holds.

    Attributes:
        base: the name of its base model there.
        refused: adapters that it does not hold as it should, with the reason.
    """

    base: str
    refused: Mapping[str, str]


class Dialect(Protocol):
    """One kind of upstream."""

    async def survey(self, http: UpstreamHttp, names: tuple[str, ...]) -> Survey:
        """Find out what the upstream holds of these adapters; raises AnswerFailedError when it cannot be asked."""
        ...

    def body(self, body: Mapping[str, Any], adapter: str | None) -> dict[str, Any]:
        """Return a request's body that has this adapter answer."""
        ...

    def echo(self, adapter: str | None) -> str | None:
        """Return what ``model`` must be in the answers; None where the upstream does not tell."""
        ...


@define(eq=False)
class NamedModels:
    """Adapters are models with names of their own: vLLM, SGLang and everything with that interface.

    Attributes:
        template: an adapter's name there, with ``{adapter}`` and ``{base}``.
        base: the base model's name there; None finds it in the list of models.
        must_list: whether an adapter that the upstream does not list is refused.
    """

    template: str = "{adapter}"
    base: str | None = None
    must_list: bool = True
    _base: str = field(default="", init=False)

    async def survey(self, http: UpstreamHttp, names: tuple[str, ...]) -> Survey:
        """Read the list of models: is the adapter there, and is its parent the base model?"""
        try:
            listed = {each["id"]: each for each in (await http.get("/v1/models"))["data"]}
        except (KeyError, TypeError):
            raise AnswerFailedError(
                "the upstream's list of models has no ids", status=502, code="upstream_error"
            ) from None
        except AnswerFailedError:
            if self.must_list or self.base is None:
                raise
            listed = {}
        self._base = self.base or _base_of(listed)
        if self.must_list and self._base not in listed:
            known = ", ".join(listed) or "none"
            raise UsageError(f"the upstream has no model {self._base!r}", hint=f"it has {known}")
        refused = {name: problem for name in names if (problem := self._problem(name, listed))}
        return Survey(self._base, refused)

    def body(self, body: Mapping[str, Any], adapter: str | None) -> dict[str, Any]:
        """Name the model."""
        return {**body, "model": self._name(adapter)}

    def echo(self, adapter: str | None) -> str | None:
        """Expect the same name."""
        return self._name(adapter)

    def _name(self, adapter: str | None) -> str:
        return self._base if adapter is None else self.template.format(adapter=adapter, base=self._base)

    def _problem(self, adapter: str, listed: Mapping[str, Any]) -> str | None:
        name = self._name(adapter)
        if name not in listed:
            return f"the upstream has no model {name!r}" if self.must_list else None
        parent = listed[name].get("parent")
        if parent is not None and parent != self._base:
            return f"the upstream says that its base model is {parent!r}, not {self._base!r}"
        return None


@define(eq=False)
class LlamaServer:
    """llama.cpp's server: adapters are numbers with a scale, given in full with every request.

    An adapter that a request leaves out may answer with scale 1; a request without the list goes on with the last
    one's cache; an unknown number is silently the base model; ``model`` in an answer is a file. So each request lists
    every adapter, and has a slot of its adapter's own where there are enough slots, else no cached prompt.

    Attributes:
        template: the stem of an adapter's file, with ``{adapter}``.
        base: what clients call the base model.
    """

    template: str = "{adapter}"
    base: str | None = None
    _ids: dict[str, int] = field(factory=dict, init=False)
    _slots: int = field(default=0, init=False)

    async def survey(self, http: UpstreamHttp, names: tuple[str, ...]) -> Survey:
        """Read the list of adapters, and set every scale to 0 for requests that are not ours."""
        listed = await http.get("/lora-adapters")
        props = await http.get("/props")
        try:
            stems = {PurePath(each["path"]).stem: int(each["id"]) for each in listed}
            self._slots = int(props.get("total_slots", 1))
            alias = props.get("model_alias") or PurePath(str(props.get("model_path", ""))).stem or "base"
        except (KeyError, TypeError, ValueError, AttributeError):
            raise AnswerFailedError(
                "the upstream does not answer as llama-server does", status=502, code="upstream_error"
            ) from None
        await http.post("/lora-adapters", [{"id": number, "scale": 0.0} for number in stems.values()])
        wanted = {name: self.template.format(adapter=name, base=self.base or "") for name in names}
        self._ids = {name: stems[stem] for name, stem in wanted.items() if stem in stems}
        known = ", ".join(stems) or "none"
        refused = {
            name: f"the upstream has no adapter file {stem!r}; it has {known}"
            for name, stem in wanted.items()
            if stem not in stems
        }
        self._numbers = sorted(stems.values())
        return Survey(self.base or str(alias), refused)

    def body(self, body: Mapping[str, Any], adapter: str | None) -> dict[str, Any]:
        """List every adapter with its scale; the one that answers has 1."""
        mine = None if adapter is None else self._ids[adapter]
        lora = [{"id": number, "scale": 1.0 if number == mine else 0.0} for number in self._numbers]
        place = {"id_slot": 0 if mine is None else 1 + self._numbers.index(mine)}
        separate = self._slots > len(self._numbers)
        return {**body, "lora": lora, **(place if separate else {"cache_prompt": False})}

    def echo(self, adapter: str | None) -> str | None:
        """Know nothing: the server tells a file's name whoever answers."""
        return None

    _numbers: list[int] = field(factory=list, init=False)


def dialect(kind: str, template: str | None = None, base: str | None = None) -> Dialect:
    """Return the dialect of a kind of upstream; raises UsageError for a kind or a template that makes no sense."""
    if kind not in KINDS:
        raise UsageError(f"unknown kind of upstream {kind!r}", hint=f"known kinds: {', '.join(KINDS)}")
    template = template or _TEMPLATES.get(kind, "{adapter}")
    try:
        one, other = (template.format(adapter=name, base="base") for name in ("a", "b"))
    except (KeyError, IndexError, ValueError):
        raise UsageError(f"{template!r} has other fields than {{adapter}} and {{base}}") from None
    if one == other:
        raise UsageError(f"{template!r} names the same model for every adapter", hint="put {adapter} in it")
    if kind == "llama-server":
        return LlamaServer(template, base)
    if kind == "openai" and base is None:
        raise UsageError("the name of the upstream's base model is not known", hint="name it with --upstream-base")
    return NamedModels(template, base, must_list=kind != "openai")


def check_echo(dialect: Dialect, answer: Any, adapter: str | None) -> None:
    """Raise AnswerFailedError unless an answer says that who was asked has given it."""
    expected = dialect.echo(adapter)
    found = answer.get("model") if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or (expected is not None and found != expected):
        raise AnswerFailedError(
            f"the upstream answered as {str(found)[:80]!r} where {expected!r} was asked",
            status=502,
            code="upstream_echo_mismatch",
        )


def _base_of(listed: Mapping[str, Any]) -> str:
    """Return the model without a parent; raises UsageError unless there is one to be told."""
    roots = [name for name, each in listed.items() if each.get("parent") is None]
    plain = [name for name in roots if ":" not in name] or roots
    if len(plain) == 1 or (plain and any(each.get("parent") for each in listed.values())):
        return plain[0]
    known = ", ".join(listed) or "none"
    raise UsageError(f"it is not clear which of the upstream's models is the base: {known}", hint="--upstream-base")
