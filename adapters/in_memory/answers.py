"""Answering without a model: the engine says who answers what, so that a test sees who spoke."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from attrs import define, field

from application.ports.answer_files import PromptRow, fingerprint
from application.ports.answering import AnswerPiece, Generation, GenerationRequest, LoraDistances
from domain.answers import Answer, Finish, GenerationOptions
from domain.chats import routing_text, with_system
from domain.errors import (
    AnswerTimeoutError,
    BusyError,
    DataRejectedError,
    LoraAdapterError,
    MissingFileError,
    MoeRouterError,
    TargetExistsError,
    UsageError,
)
from domain.features import BaseModel
from domain.lora import LoraFacts, ModuleShapes

_Result = TypeVar("_Result")


@define
class InMemoryAnswerEngine:
    """An answer engine and LoRA host (:mod:`application.ports.answering`) that repeats the prompt.

    Its answers are ``calendar: <prompt>``, or ``base: <prompt>`` from the bare base model; a word is a token.

    Attributes:
        adapters: the LoRA adapters that it pretends to hold.
        systems: the system turns of some of them; it says them too.
        without_effect: those of them that answer as the base model does.
        unloadable: folders whose LoRA adapters cannot be loaded.
        requests: everything that it was asked, in order.
    """

    adapters: tuple[str, ...] = field(default=(), converter=tuple)
    systems: Mapping[str, str] = field(factory=dict)
    without_effect: Collection[str] = ()
    unloadable: Collection[str] = ()
    requests: list[GenerationRequest] = field(factory=list, init=False)

    def generate(
        self, requests: Sequence[GenerationRequest], options: GenerationOptions
    ) -> Iterator[tuple[int, Generation | MoeRouterError]]:
        """Answer from the last to the first; see the port for the contract."""
        self.requests.extend(requests)
        for index in reversed(range(len(requests))):
            yield index, self._refusal(requests[index]) or self._say(requests[index], options)

    def load(self, name: str, folder: Path) -> tuple[str, ...]:
        """Pretend to hold one more; see the port for the contract."""
        if folder.name in self.unloadable:
            raise LoraAdapterError("does not fit", where=folder)
        self.adapters = (*self.adapters, name)
        return ()

    def unload(self, name: str) -> None:
        """Hold one less."""
        self.adapters = tuple(each for each in self.adapters if each != name)

    def distances(self) -> LoraDistances:
        """Return distance 1 between any two, and 0 where a LoRA adapter is to have no effect."""
        states = [0.0 if name in self.without_effect else float(row) for row, name in enumerate(self.adapters, 1)]
        return LoraDistances(
            self.adapters, tuple(states), tuple(tuple(abs(one - other) for other in states) for one in states)
        )

    def _refusal(self, request: GenerationRequest) -> MoeRouterError | None:
        if request.adapter is not None and request.adapter not in self.adapters:
            return UsageError(f"LoRA adapter {request.adapter!r} is not loaded")
        if request.images:
            return UsageError("base model in-memory sees no images", hint="leave the images out")
        return None

    def _say(self, request: GenerationRequest, options: GenerationOptions) -> Generation:
        chat = with_system(request.chat, self.systems.get(request.adapter or ""))
        system = "".join(f"[{message.content}] " for message in chat if message.role == "system")
        text = f"{request.adapter or 'base'}: {system}{routing_text(request.chat)}"
        cuts = [text.index(stop) for stop in options.stop if stop in text]
        words = (text[: min(cuts)] if cuts else text).split(" ")
        kept = words[: options.max_new_tokens]
        finish = Finish.STOP if len(kept) == len(words) else Finish.LENGTH
        return Generation(" ".join(kept).strip(), len(kept), finish)


@define
class InMemoryLoraInspector:
    """A :class:`application.ports.lora.LoraInspector` over facts instead of files.

    Attributes:
        base: the pretended base model.
        modules: its layers.
        facts: what each folder holds; a text is the reason why it cannot be read.
    """

    base: BaseModel
    modules: ModuleShapes
    facts: Mapping[Path, LoraFacts | str]

    def inspect(self, folder: Path) -> LoraFacts:
        """Return the facts; see the port for the contract."""
        found = self.facts.get(folder, "no such folder")
        if isinstance(found, str):
            raise LoraAdapterError(found, where=folder)
        return found


@define
class InMemoryPromptRowReader:
    """A :class:`application.ports.answer_files.PromptRowReader` over rows instead of files.

    Attributes:
        files: the rows by the path that they pretend to lie under.
    """

    files: Mapping[Path, Sequence[PromptRow]]

    def can_be_read_again(self, path: Path) -> bool:
        """Return True for what is there; see the port for the contract."""
        if path not in self.files:
            raise MissingFileError("no such file", where=path)
        return True

    def stream_prompt_rows(self, path: Path) -> Iterator[PromptRow]:
        """Yield the rows; see the port for the contract."""
        self.can_be_read_again(path)
        if not self.files[path]:
            raise DataRejectedError("holds no prompts", where=path)
        yield from self.files[path]

    def group_prompt_rows(self, path: Path, size: int) -> Iterator[list[PromptRow]]:
        """Yield the rows in groups; see the port for the contract."""
        rows = list(self.stream_prompt_rows(path))
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


@define
class InMemoryAnswerLog:
    """A :class:`application.ports.answer_files.AnswerLog` that forgets with the process.

    Attributes:
        answers: prompt and answer by id, in the order in which they came.
        errors: why rows have no answer, by id.
        resumable: see the port.
    """

    answers: dict[str, tuple[str, Answer]] = field(factory=dict)
    errors: dict[str, MoeRouterError] = field(factory=dict)
    resumable: bool = True
    _held: bool = field(default=False, init=False)

    def check(self) -> None:
        """Be ready for every answer."""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let one run in at a time; see the port for the contract."""
        if self._held:
            raise TargetExistsError("another run is answering here")
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def finished(self) -> Mapping[bytes, bytes]:
        """Return what stands for the prompts that are answered; see the port for the contract."""
        return {fingerprint(row_id): fingerprint(text) for row_id, (text, _) in self.answers.items()}

    def append(self, row_id: str, text: str, answer: Answer) -> None:
        """Keep one answer."""
        self.answers[row_id] = (text, answer)

    def append_error(self, row_id: str, line: int, error: MoeRouterError) -> None:
        """Keep why a row has no answer."""
        self.errors[row_id] = error


@define(eq=False)
class InMemoryStreamingEngine:
    """A :class:`application.ports.answering.StreamingEngine` that says an engine's answers word by word.

    Attributes:
        engine: what it says.
        max_waiting: most requests that it holds; more are refused.
        pause: seconds between two words.
    """

    engine: InMemoryAnswerEngine
    max_waiting: int = 128
    pause: float = 0.0
    _held: int = field(default=0, init=False)
    _closed: bool = field(default=False, init=False)

    @property
    def adapters(self) -> tuple[str, ...]:
        """The LoRA adapters that it pretends to hold."""
        return self.engine.adapters

    async def stream(
        self, request: GenerationRequest, options: GenerationOptions, *, timeout: float | None = None
    ) -> AsyncIterator[AnswerPiece]:
        """Yield a word at a time; see the port for the contract."""
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        self._refuse_when_closed()
        if self._held >= self.max_waiting:
            raise BusyError(f"{self._held} requests wait already", hint="ask again later")
        self._held += 1
        try:
            ((_, found),) = self.engine.generate([request], options)
            if isinstance(found, MoeRouterError):
                raise found
            words = re.findall(r"\S+\s*|\s+", found.text) or [""]
            for number, word in enumerate(words, start=1):
                await asyncio.sleep(self.pause)
                self._refuse_when_closed()
                if deadline is not None and asyncio.get_running_loop().time() >= deadline:
                    raise AnswerTimeoutError(f"not finished after {timeout:g} seconds")
                last = number == len(words)
                yield AnswerPiece(word, found.tokens if last else number, found.finish if last else None)
        finally:
            self._held -= 1

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Run the work here and now."""
        self._refuse_when_closed()
        return work()

    async def aclose(self) -> None:
        """Refuse everything from now on."""
        self._closed = True

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise UsageError("the answer engine is closed")
