"""One sitting at a session, from where it is opened to where it is left: in the loop, or for `orch ask`.

Between the two the conversation is here and in memory. When it is left, at most one model call looks for
facts about the user in what they said, within the budget that the last run has left. It is given a moment:
whoever wants to go need not wait for it, and Ctrl-C drops it. Where it fails, is too late or may not be made,
rules do what they can. A memory that cannot be written is told and stops nothing.

What is not covered: what another process says in the same session meanwhile, which is seen when it is opened
again.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from memory import FACT, Memory, MemoryFault
from memory.conversation import Exchange, Session, said, sessions
from memory.facts import Found, Learned, facts_by_rule, learn, own_words, read_facts
from orchestrator_cli import events
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import ConfigError, OrchError, RunTimedOut
from orchestrator_cli.models.chain import open_models
from orchestrator_cli.models.model import Message, ModelRequest
from orchestrator_cli.models.sources import LiveModels
from orchestrator_cli.prompts import render
from orchestrator_cli.recall.run_memory import open_memory
from orchestrator_cli.recall.sessions import check_name, conversation_of, last, new_name, scope_of
from orchestrator_cli.settings import Settings
from orchestrator_cli.usage import Usage

KNOWN = 40
TOLD_CHARS = 12_000

Say = Callable[[str], None]
T = TypeVar("T")

# Without one of these nobody speaks of themselves. What is not in Latin letters is always looked at.
_OF_ONESELF = re.compile(
    r"(?i)\b(i|i'm|my|mine|our|ours|we|us|call me|always|never|prefer|from now on|remember|"
    r"ich|mein\w*|mir|mich|wir|unser\w*|uns|immer|nie|je|j'\w+|mon|ma|mes|moi|nous|notre|nos|toujours|jamais|"
    r"yo|mi|mis|nosotros|nuestr\w+|siempre|nunca|io|mio|mia|noi|nostr\w+|sempre|mai|eu|meu|minha)\b"
)
_NOT_LATIN = re.compile(r"[\u0370-\u1dff\u2e80-\uffff]")


class Sitting:
    """A session in use. `say` shows one line to the user."""

    def __init__(self, settings: Settings, say: Say, *, name: str = "", goes_on: bool = False) -> None:
        """The session `name`, the last one where `goes_on`, else a new one. Raises `OrchError`."""
        self._settings = settings
        self._say = say
        self._scope = scope_of(settings.workspace)
        self._heard: list[str] = []
        self._used = Usage()
        self.name = name and check_name(name)
        self.exchanges: list[Exchange] = []
        if goes_on and not name:
            self.name = self._read(lambda memory: last(memory, self._scope)).name
        if self.name:
            self.exchanges = self._read(lambda memory: said(memory, self.name, self._scope))
        self.name = self.name or new_name()

    def conversation(self) -> events.Conversation:
        """What the next run begins with."""
        return conversation_of(self.name, self.exchanges, self._settings.conversation_tokens)

    def add(self, exchange: Exchange, used: Usage) -> None:
        """A run has ended; `used` is what it came to."""
        self.exchanges.append(exchange)
        self._heard.append(exchange.prompt)
        self._used = used

    def failed(self, prompt: str, used: Usage) -> None:
        """A run ended in an error: what was said counts all the same, and memory has what came of it."""
        self._heard.append(prompt)
        self._used = used
        with contextlib.suppress(OrchError):
            self.exchanges = self._read(lambda memory: said(memory, self.name, self._scope))

    def switch(self, name: str) -> None:
        """Go on with another session, or begin it. Raises `OrchError`."""
        check_name(name)
        self.exchanges = self._read(lambda memory: said(memory, name, self._scope))
        self.name = name

    def all(self) -> list[Session]:
        """The sessions of the workspace, newest first. Raises `OrchError`."""
        return self._read(lambda memory: sessions(memory, self._scope))

    def leave(self) -> Learned:
        """Look for what to remember of the user, and tell what was found."""
        told = [text for prompt in self._heard if (text := own_words(prompt)).strip()]
        self._heard = []
        if self._settings.remember == "never" or not told:
            return Learned()
        try:
            learned = self._learn(told)
        except (MemoryFault, OrchError) as exc:
            self._say(f"note  What you said of yourself could not be remembered: {_first_line(exc)}")
            return Learned()
        for line in told_lines(learned):
            self._say(line)
        return learned

    def _learn(self, told: list[str]) -> Learned:
        with contextlib.closing(open_memory(self._settings, _ignored)) as memory:
            found = self._proposed(told, memory) if self._settings.remember == "auto" else None
            if found is None:
                found = facts_by_rule(told)
            if not found.facts:
                return Learned()
            return learn(memory, found.facts, scope=self._scope, now=datetime.now(UTC), ref=self.name)

    def _proposed(self, told: Sequence[str], memory: Memory) -> Found | None:
        """What a model finds; None where it is not asked, fails or is too late."""
        if not speaks_of_oneself(told):
            return Found()
        known = [record for record in memory.all(FACT, self._scope) if record.trusted][:KNOWN]
        rows = [{"attribute": record.data.get("attribute"), "text": record.text} for record in known]
        self._say("Looking for what to remember of you … Ctrl-C leaves at once.")
        try:
            reply = self._ask(render("facts_request", known=rows, told=_newest(told)))
            return read_facts(reply, told)
        except (OrchError, ValueError, KeyboardInterrupt):
            return None

    def _ask(self, request: str) -> str:
        """The one call, within what is left of the run's budget, a moment long."""
        settings = self._settings.model_copy(update={"model_retries": 0, "fallbacks": ()})
        names = LiveModels().names(settings)
        messages: tuple[Message, ...] = (
            {"role": "system", "content": render("facts")},
            {"role": "user", "content": request},
        )
        wait = settings.remember_wait
        late = RunTimedOut(f"The model did not answer within {wait:g} s.")
        with Cancellation().limited(wait, lambda: late) as cancellation:
            model = open_models(settings, names, cancellation, _ignored, used=self._used).model
            return model.complete(ModelRequest(role="answer", subject="facts", messages=messages)).text

    def _read(self, what: Callable[[Memory], T]) -> T:
        try:
            with contextlib.closing(open_memory(self._settings, _ignored)) as memory:
                return what(memory)
        except MemoryFault as exc:
            raise ConfigError(f"The session cannot be read: {exc}", "See: orch doctor") from exc


def speaks_of_oneself(told: Sequence[str]) -> bool:
    """Whether it is worth a call: most requests say nothing of who makes them."""
    return any(_OF_ONESELF.search(text) or _NOT_LATIN.search(text) for text in told)


def told_lines(learned: Learned) -> Iterator[str]:
    """What changed, a line each, with the way to take it back."""
    for record in learned.new:
        yield f"Remembered: {record.text}"
    for record in learned.ended:
        yield f"No longer so: {record.text}"
    if learned.new:
        yield "See all with orch memory list; take one back with orch memory forget ID."


def _newest(told: Sequence[str]) -> list[str]:
    """The last of what was said, as far as one request should hold it."""
    kept: list[str] = []
    left = TOLD_CHARS
    for text in reversed(told):
        left -= len(text)
        if kept and left < 0:
            break
        kept.insert(0, text[:TOLD_CHARS])
    return kept


def _first_line(exc: Exception) -> str:
    return str(exc).partition("\n")[0]


def _ignored(_: object) -> None:
    """What is spent here belongs to no run's journal."""
