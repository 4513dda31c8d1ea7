"""The ports that answer prompts, and that hold the LoRA adapters which do so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from attrs import frozen

from domain.answer_policy import CHOSEN_ONLY, AnswerPolicy
from domain.answers import GREEDY, Answer, Finish, GenerationOptions, Prompt
from domain.chats import Chat
from domain.errors import MoeRouterError

_Result = TypeVar("_Result")


@frozen
class GenerationRequest:
    """One prompt with who answers it.

    Attributes:
        chat: the conversation; its newest turn is to be answered.
        adapter: the LoRA adapter, or None for the bare base model.
        images: image files that belong to the user's newest turn, for vision-language base models.
    """

    chat: Chat
    adapter: str | None
    images: tuple[Path, ...] = ()


@frozen
class Generation:
    """What was generated for one request.

    Attributes:
        text: the answer, without stop string and end mark.
        tokens: number of generated tokens, the end mark included.
        finish: why it ended.
    """

    text: str
    tokens: int
    finish: Finish


class AnswerEngine(Protocol):
    """Generates answers with a base model and the LoRA adapters that it holds.

    The contract:

    - A request is answered by exactly the LoRA adapter that it names, or by the bare base model.
    - An answer depends on its request and the options only: not on the other requests, their order or the batch
      (to float32 rounding where two tokens are equally likely).
    - A LoRA adapter's own system turn (see its folder) leads chats that bring none; the base model gets none.
    - A request that cannot be answered gives its error in place of an answer; the others are answered.
    """

    @property
    def adapters(self) -> tuple[str, ...]:
        """The LoRA adapters that can answer."""
        ...

    def generate(
        self, requests: Sequence[GenerationRequest], options: GenerationOptions
    ) -> Iterator[tuple[int, Generation | MoeRouterError]]:
        """Yield ``(index of the request, its answer)`` as batches finish: each index once, in any order.

        In place of an answer stands:

        - UsageError: a LoRA adapter that is not held, or images for a base model that sees none.
        - DataRejectedError: a request that the base model cannot take (too long, refused by its template).
        - MissingFileError: an image that is not there.
        """
        ...


@frozen
class AnswerPiece:
    """What was added to an answer that is still growing.

    Attributes:
        text: the text that was added; may be empty.
        tokens: tokens generated so far, the end mark included.
        finish: why the answer ended; None in every piece but the last.
    """

    text: str
    tokens: int
    finish: Finish | None = None


class StreamingEngine(Protocol):
    """Answers many callers at once, token by token.

    The contract:

    - Joined, the texts of a request's pieces are the text that :meth:`AnswerEngine.generate` gives for it, and the
      last piece, and only that, has a finish.
    - A caller that stops iterating (cancelled, or the iterator closed) frees its place; the others go on.
    - The queue is bounded: what finds it full is refused at once.
    - An error ends one request. When the engine itself fails, all callers get an error, those after it included.
    """

    @property
    def adapters(self) -> tuple[str, ...]:
        """The LoRA adapters that can answer."""
        ...

    def stream(
        self, request: GenerationRequest, options: GenerationOptions, *, timeout: float | None = None
    ) -> AsyncIterator[AnswerPiece]:
        """Yield the answer as it grows.

        Args:
            request: what to answer, and who answers.
            options: how the answer is generated; each request has its own.
            timeout: seconds from now to the end of the answer, waiting included.

        Raises:
            BusyError: too many requests wait already.
            AnswerTimeoutError: the time is over.
            UsageError: the engine is closed.
            MoeRouterError: what :class:`AnswerEngine` gives in place of an answer.
        """
        ...

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Run other work that needs the model, such as routing, where and when that is safe; return its result.

        Raises what the work raises; BusyError and UsageError as `stream` does.
        """
        ...

    async def aclose(self) -> None:
        """End all answers (their callers get UsageError) and give the model free, in bounded time."""
        ...


@frozen
class LoraDistances:
    """How far answers lie apart: the live proof that LoRA adapters have an effect.

    A distance is the largest difference between two sets of next-token logits on one fixed prompt, divided by
    the standard deviation of the base model's logits there.

    Attributes:
        names: the LoRA adapters.
        to_base: each one's distance to the bare base model.
        between: distances between each two, row and column in the order of `names`.
    """

    names: tuple[str, ...]
    to_base: tuple[float, ...]
    between: tuple[tuple[float, ...], ...]


class LoraProbe(Protocol):
    """Runs the LoRA adapters that it holds on a fixed prompt."""

    def distances(self) -> LoraDistances:
        """Return the distances of every LoRA adapter that is held."""
        ...


class LoraHost(LoraProbe, Protocol):
    """A base model that takes LoRA adapters one by one, and can lose each again."""

    def load(self, name: str, folder: Path) -> tuple[str, ...]:
        """Take one LoRA adapter, so that it can answer; nothing is changed when that fails.

        Returns:
            What a person should know of how it answers: in a way of its own, or more slowly than others.

        Raises:
            LoraAdapterError: its weights do not go where its configuration says, or it cannot answer a plain prompt.
        """
        ...

    def unload(self, name: str) -> None:
        """Lose one LoRA adapter; the others and the base model stay as they are."""
        ...


@frozen
class AnswerRequest:
    """What to answer and how.

    Attributes:
        prompts: the prompts.
        options: how answers are generated.
        policy: who may answer.
        done: positions of prompts that need no answer. They are routed with the others (figures differ in their last
            digits between batches), so that a run that goes on decides to the last digit as if it had never stopped.
    """

    prompts: tuple[Prompt, ...]
    options: GenerationOptions = GREEDY
    policy: AnswerPolicy = CHOSEN_ONLY
    done: frozenset[int] = frozenset()


class AnswerStream(Protocol):
    """Routes and answers prompts, here (:class:`application.answering.answer_prompts.AnswerPrompts`) or elsewhere."""

    def stream(self, request: AnswerRequest) -> Iterator[tuple[int, Answer | MoeRouterError]]:
        """Yield ``(index, answer)``, or an error in place of one, for every prompt, each as soon as it is known."""
        ...
