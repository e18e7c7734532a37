"""A chat session in use: the conversation so far, and the facts about the user that it leaves behind.

When the user leaves, at most one model call looks for facts about them in what they said, within the budget
that the last run has left and for a few seconds; Ctrl-C drops it. If it fails, is too late or is not allowed,
rules find what they can. A memory that cannot be written is reported and stops nothing.

Not covered: what another process adds to the same session meanwhile, until `refresh`.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from memory import FACT, Memory, MemoryFault
from memory.facts import FACTS_SCHEMA, ExtractedFacts, facts_by_rule, own_words, read_facts
from memory.profile import FactChanges, learn
from memory.sessions import Exchange, SessionSummary, list_sessions, load_exchanges
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import ConfigError, OrchError, RunTimedOut
from orchestrator_cli.models.chain import open_models
from orchestrator_cli.models.model import Message, ModelRequest
from orchestrator_cli.models.sources import LiveModels
from orchestrator_cli.prompts import render
from orchestrator_cli.recall.run_memory import open_memory
from orchestrator_cli.recall.sessions import (
    check_session_name,
    conversation_of,
    latest_session,
    new_session_name,
    workspace_scope,
)
from orchestrator_cli.settings import Settings
from orchestrator_cli.values import Conversation, Usage

KNOWN_FACTS = 40
MAX_CHARS = 12_000

Say = Callable[[str], None]
T = TypeVar("T")

# A text in Latin letters without one of these words is not about its author. Other scripts always are
# looked at.
_OF_ONESELF = re.compile(
    r"(?i)\b(i|i'm|my|mine|our|ours|we|us|call me|always|never|prefer|from now on|remember|"
    r"ich|mein\w*|mir|mich|wir|unser\w*|uns|immer|nie|je|j'\w+|mon|ma|mes|moi|nous|notre|nos|toujours|jamais|"
    r"yo|mi|mis|nosotros|nuestr\w+|siempre|nunca|io|mio|mia|noi|nostr\w+|sempre|mai|eu|meu|minha)\b"
)
_NOT_LATIN = re.compile(r"[\u0370-\u1dff\u2e80-\uffff]")


class ChatSession:
    """A session in use. `say` shows one line to the user."""

    def __init__(self, settings: Settings, say: Say, *, name: str = "", goes_on: bool = False) -> None:
        """Open the session `name`, the last one if `goes_on`, else a new one. Raises `OrchError`."""
        self._settings = settings
        self._say = say
        self._scope = workspace_scope(settings.workspace)
        self._prompts: list[str] = []
        self._used = Usage()
        self.name = name and check_session_name(name)
        self.exchanges: list[Exchange] = []
        if goes_on and not name:
            self.name = self._read(lambda memory: latest_session(memory, self._scope)).name
        if self.name:
            self.exchanges = self._read(lambda memory: load_exchanges(memory, self.name, self._scope))
        self.name = self.name or new_session_name()

    def conversation(self) -> Conversation:
        """The conversation that the next run is given."""
        return conversation_of(self.name, self.exchanges, self._settings.conversation_tokens)

    def add(self, exchange: Exchange, used: Usage) -> None:
        """Add what a run was asked and answered; `used` is what it used of its budget."""
        self.exchanges.append(exchange)
        self._prompts.append(exchange.prompt)
        self._used = used

    def failed(self, prompt: str, used: Usage) -> None:
        """Keep the prompt of a run that failed; `refresh` adds what the run recorded of it."""
        self._prompts.append(prompt)
        self._used = used

    def refresh(self) -> None:
        """Read what runs have added since; what is known stays if memory cannot be read."""
        with contextlib.suppress(OrchError):
            self.exchanges = self._read(lambda memory: load_exchanges(memory, self.name, self._scope))

    def switch(self, name: str) -> None:
        """Continue another session, or start it. Raises `OrchError`."""
        check_session_name(name)
        self.exchanges = self._read(lambda memory: load_exchanges(memory, name, self._scope))
        self.name = name

    def all(self) -> list[SessionSummary]:
        """The sessions of the workspace, newest first. Raises `OrchError`."""
        return self._read(lambda memory: list_sessions(memory, self._scope))

    def leave(self) -> FactChanges:
        """Look for facts about the user, remember them, and say which."""
        texts = [text for prompt in self._prompts if (text := own_words(prompt)).strip()]
        self._prompts = []
        if self._settings.remember == "never" or not texts:
            return FactChanges()
        try:
            learned = self._learn(texts)
        except (MemoryFault, OrchError) as exc:
            first_line = str(exc).partition("\n")[0]
            self._say(f"note  Facts about you could not be remembered: {first_line}")
            return FactChanges()
        for line in learned_lines(learned):
            self._say(line)
        return learned

    def _learn(self, texts: list[str]) -> FactChanges:
        with contextlib.closing(open_memory(self._settings, self._say)) as memory:
            found = self._proposed(texts, memory) if self._settings.remember == "auto" else None
            if found is None:
                found = facts_by_rule(texts)
            if not found.facts:
                return FactChanges()
            return learn(memory, found.facts, scope=self._scope, now=datetime.now(UTC), ref=self.name)

    def _proposed(self, texts: Sequence[str], memory: Memory) -> ExtractedFacts | None:
        """The facts that a model finds; None if it fails or is too late."""
        if not speaks_of_oneself(texts):
            return ExtractedFacts()
        known = [record for record in memory.all(FACT, self._scope) if record.trusted][:KNOWN_FACTS]
        rows = [{"attribute": record.data.get("attribute"), "text": record.text} for record in known]
        self._say("Looking for facts about you to remember … Ctrl-C leaves at once.")
        try:
            reply = self._ask(render("facts_request", known=rows, said=_newest(texts)))
            return read_facts(reply, texts)
        except (OrchError, ValueError, KeyboardInterrupt):
            return None

    def _ask(self, request: str) -> str:
        """One model call within what is left of the budget, for at most `remember_wait` seconds."""
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
            asked = ModelRequest(role="answer", subject="facts", messages=messages, reply_schema=FACTS_SCHEMA)
            return model.complete(asked).text

    def _read(self, what: Callable[[Memory], T]) -> T:
        try:
            with contextlib.closing(open_memory(self._settings, self._say)) as memory:
                return what(memory)
        except MemoryFault as exc:
            raise ConfigError(f"The session cannot be read: {exc}", "See: orch doctor") from exc


def speaks_of_oneself(texts: Sequence[str]) -> bool:
    """Whether the texts may say something about their author. Most do not, and need no call."""
    return any(_OF_ONESELF.search(text) or _NOT_LATIN.search(text) for text in texts)


def learned_lines(learned: FactChanges) -> Iterator[str]:
    """A line for each fact that changed, and how to take it back."""
    for record in learned.new:
        yield f"Remembered: {record.text}"
    for record in learned.ended:
        yield f"No longer true: {record.text}"
    if learned.new:
        yield "List all with orch memory list; remove one with orch memory forget ID."


def _newest(texts: Sequence[str]) -> list[str]:
    """The last of the texts, at most `MAX_CHARS` characters."""
    kept: list[str] = []
    left = MAX_CHARS
    for text in reversed(texts):
        left -= len(text)
        if kept and left < 0:
            break
        kept.insert(0, text[:MAX_CHARS])
    return kept


def _ignored(_: object) -> None:
    """These events belong to no run's journal."""
