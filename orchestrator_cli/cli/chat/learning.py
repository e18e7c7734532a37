"""Learns facts about the user from what they said, when a session or a run without one has ended.

At most one model call looks for them, within the budget that the last run has left and for a few seconds;
Ctrl-C drops it. If it fails, is too late or is not allowed, rules find what they can. A memory that cannot be
written is reported and stops nothing.

Not covered: prompts of schedules, since no one says them at that time.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from memory import FACT, Memory, MemoryFault
from memory.facts import (
    FACTS_SCHEMA,
    ExtractedFacts,
    asks_to_remember,
    facts_by_rule,
    own_words,
    read_facts,
)
from memory.profile import FactChanges, learn
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import OrchError, RunTimedOut
from orchestrator_cli.models.chain import open_models
from orchestrator_cli.models.model import Message, ModelRequest
from orchestrator_cli.models.sources import LiveModels
from orchestrator_cli.prompts import render
from orchestrator_cli.recall.run_memory import open_memory
from orchestrator_cli.recall.scopes import own_scope
from orchestrator_cli.settings import Settings
from orchestrator_cli.values import Usage

KNOWN_FACTS = 40
MAX_CHARS = 12_000

# A text in Latin letters without one of these words is not about its author. Other scripts always are
# looked at.
_OF_ONESELF = re.compile(
    r"(?i)\b(i|i'm|my|mine|our|ours|we|us|call me|always|never|prefer|from now on|remember|"
    r"ich|mein\w*|mir|mich|wir|unser\w*|uns|immer|nie|je|j'\w+|mon|ma|mes|moi|nous|notre|nos|toujours|jamais|"
    r"yo|mi|mis|nosotros|nuestr\w+|siempre|nunca|io|mio|mia|noi|nostr\w+|sempre|mai|eu|meu|minha)\b"
)
_NOT_LATIN = re.compile(r"[\u0370-\u1dff\u2e80-\uffff]")


class FactFinder:
    """Finds and remembers facts; `say` shows one line to the user."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say

    def learn(
        self, prompts: Sequence[str], *, ref: str, used: Usage, only_if_asked: bool = False
    ) -> FactChanges:
        """Look for facts in what the user said, remember them, and say which.

        Args:
            ref: where it was said.
            used: what the last run used of its budget.
            only_if_asked: look only if the user asks to remember something, or says how to work.
        """
        texts = [text for prompt in prompts if (text := own_words(prompt)).strip()]
        if self._settings.remember == "never" or not texts:
            return FactChanges()
        if not (asks_to_remember(texts) or (speaks_of_oneself(texts) and not only_if_asked)):
            return FactChanges()
        try:
            learned = self._learn(texts, ref, used)
        except (MemoryFault, OrchError) as exc:
            first_line = str(exc).partition("\n")[0]
            self._say(f"note  Facts about you could not be remembered: {first_line}")
            return FactChanges()
        for line in learned_lines(learned):
            self._say(line)
        return learned

    def _learn(self, texts: list[str], ref: str, used: Usage) -> FactChanges:
        with contextlib.closing(open_memory(self._settings, self._say)) as memory:
            found = self._proposed(texts, memory, used) if self._settings.remember == "auto" else None
            if found is None:
                found = facts_by_rule(texts)
            if not found.facts:
                return FactChanges()
            scope = own_scope(self._settings)
            return learn(memory, found.facts, scope=scope, now=datetime.now(UTC), ref=ref)

    def _proposed(self, texts: Sequence[str], memory: Memory, used: Usage) -> ExtractedFacts | None:
        """The facts that a model finds; None if it fails or is too late."""
        known = [record for record in memory.all(FACT, own_scope(self._settings)) if record.trusted][
            :KNOWN_FACTS
        ]
        rows = [{"attribute": record.data.get("attribute"), "text": record.text} for record in known]
        self._say("Looking for facts about you to remember … Ctrl-C leaves at once.")
        try:
            reply = self._ask(render("facts_request", known=rows, said=_newest(texts)), used)
            return read_facts(reply, texts)
        except RunTimedOut as exc:
            self._say(f"note  {exc.message} Rules look for facts instead; remember_wait is how long to wait.")
        except (OrchError, ValueError, KeyboardInterrupt):
            pass
        return None

    def _ask(self, request: str, used: Usage) -> str:
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
            model = open_models(settings, names, cancellation, _ignored, used=used).model
            asked = ModelRequest(role="answer", subject="facts", messages=messages, reply_schema=FACTS_SCHEMA)
            return model.complete(asked).text


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
