"""Every failure that a user can cause or meet, as one tree under :class:`MoeRouterError`.

Each child also inherits the builtin that code outside this project would catch. An error says what
is wrong, where, and what to do; the command line prints exactly that, on one line. Anything raised
that is not in this tree is a bug and keeps its traceback.
"""

from __future__ import annotations


class MoeRouterError(Exception):
    """Root of the tree.

    Attributes:
        what: what is wrong, without a full stop.
        where: the file, line, adapter or setting it is about, or None.
        hint: what the user can do about it, or None. It names options in backticks, as in `lora NAME=DIR`: where the
            command that was called has them, the command line shows them as its flags.
    """

    def __init__(self, what: str, *, where: object = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = None if where is None else str(where)
        self.hint = hint

    def __str__(self) -> str:
        """Return ``where: what (hint)`` with the absent parts left out, always on one line."""
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        if self.hint:
            text = f"{text} ({self.hint})"
        return " ".join(text.split())


class UsageError(MoeRouterError, ValueError):
    """A request that makes no sense: an option out of range, an unknown adapter name."""


class MissingFileError(MoeRouterError, FileNotFoundError):
    """A file or folder that the request names is not there, or is of the wrong kind."""


class TargetExistsError(MoeRouterError, FileExistsError):
    """The target is already there and nobody asked to replace it.

    Attributes:
        replaceable: whether it would be replaced if that were asked for.
    """

    def __init__(
        self, what: str, *, where: object = None, hint: str | None = None, replaceable: bool = False
    ) -> None:
        super().__init__(what, where=where, hint=hint)
        self.replaceable = replaceable


class StorageError(MoeRouterError, OSError):
    """The file system refused: disk full, read-only, permission."""


class DataRejectedError(MoeRouterError, ValueError):
    """Data that was read but cannot be used: no usable rows, a failed verification."""


class TooLongError(DataRejectedError):
    """A prompt with more tokens than the base model takes."""


class RouterFileError(DataRejectedError):
    """A router file that is damaged, incomplete, not a router at all, or unsafe to load."""


class MismatchError(DataRejectedError):
    """Two artefacts that do not belong together; the message shows both sides."""


class LoraAdapterError(DataRejectedError):
    """A LoRA adapter that is missing, unsafe, foreign to the base model, or without effect."""


class TrainingDivergedError(MoeRouterError, ArithmeticError):
    """The training loss left the finite numbers; the best router so far was kept, if there was one."""


class OutOfMemoryError(MoeRouterError, MemoryError):
    """The memory of the machine or of its GPU is too small even for the smallest piece of the work."""


class RemoteError(MoeRouterError, ConnectionError):
    """The remote side (Modal, a network) failed, refused or did not answer."""


class BusyError(MoeRouterError, RuntimeError):
    """So many requests wait that another one is refused; it may come again later."""


class AnswerTimeoutError(MoeRouterError, TimeoutError):
    """An answer was not finished in the time that it had."""


class InterruptedRunError(MoeRouterError, RuntimeError):
    """A signal ended the run at a safe point; the same command goes on from there.

    Attributes:
        signal_number: the signal, for example 15 for SIGTERM.
    """

    def __init__(self, what: str, *, signal_number: int, where: object = None, hint: str | None = None) -> None:
        super().__init__(what, where=where, hint=hint)
        self.signal_number = signal_number
