"""What is remembered of conversations: for each, who answered last, and nothing else; bounded in number and time."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final

from attrs import define, field, frozen

from domain.chats import Chat

HEADERS: Final = ("x-session-id", "x-conversation-id", "prompt_cache_key", "modal-session-id")
"""Where a conversation's name is looked for, in this order, when the request's own ``routing`` has none."""


@frozen
class SessionKey:
    """A conversation's name.

    Attributes:
        key: its keyed hash; the name itself is not kept.
        source: where the name came from: "body", a name of `HEADERS`, or "conversation".
    """

    key: bytes
    source: str


@define(eq=False)
class Sessions:
    """Remembers which adapter answered a conversation last. Belongs to one thread.

    Attributes:
        limit: most conversations; the one that was silent longest is forgotten first.
        seconds: a conversation is forgotten after this silence.
        clock: seconds that only grow.
    """

    limit: int = 10_000
    seconds: float = 600.0
    clock: Callable[[], float] = monotonic
    _held: OrderedDict[bytes, tuple[str, float]] = field(factory=OrderedDict, init=False)
    _secret: bytes = field(factory=lambda: secrets.token_bytes(32), init=False, repr=False)

    def __len__(self) -> int:
        return len(self._held)

    def key(self, session_id: str | None, names: Mapping[str, str], chat: Chat) -> SessionKey:
        """Return a conversation's key: from a name that was given, else from its system turn and first user turn.

        Args:
            session_id: the name in the request's ``routing`` object.
            names: names by where they came from, see `HEADERS`.
            chat: the conversation.
        """
        given = {"body": session_id, **{source: names.get(source) for source in HEADERS}}
        for source, name in given.items():
            if name:
                return SessionKey(self._hash(source, name), source)
        first = next((turn.content for turn in chat if turn.role == "user"), "")
        system = "\n".join(turn.content for turn in chat if turn.role == "system")
        return SessionKey(self._hash("conversation", system, first), "conversation")

    def held(self, key: SessionKey, chat: Chat) -> str | None:
        """Return who answered this conversation last, or None.

        A conversation that is known by its beginning only, and has nothing but this beginning, is a new one:
        somebody else's may have begun alike.
        """
        if key.source == "conversation" and not any(turn.role in ("assistant", "tool") for turn in chat):
            return None
        found = self._held.get(key.key)
        if found is None or self.clock() - found[1] > self.seconds:
            self._held.pop(key.key, None)
            return None
        return found[0]

    def remember(self, key: SessionKey, adapter: str) -> None:
        """Keep who answered."""
        now = self.clock()
        self._held[key.key] = (adapter, now)
        self._held.move_to_end(key.key)
        while len(self._held) > self.limit or now - next(iter(self._held.values()))[1] > self.seconds:
            self._held.popitem(last=False)

    def _hash(self, *parts: str) -> bytes:
        digest = hashlib.blake2b(key=self._secret, digest_size=16)
        for part in parts:
            content = part.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8) + content)
        return digest.digest()
