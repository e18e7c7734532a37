"""A chat session in use: the conversation so far, and the facts about the user that it leaves behind.

Not covered: what another process adds to the same session meanwhile, until `refresh`.
"""

import contextlib
from collections.abc import Callable
from typing import TypeVar

from memory import Memory, MemoryFault
from memory.profile import FactChanges
from memory.sessions import Exchange, SessionSummary, list_sessions, load_exchanges
from orchestrator_cli.cli.chat.learning import FactFinder
from orchestrator_cli.errors import ConfigError, OrchError
from orchestrator_cli.recall.run_memory import open_memory
from orchestrator_cli.recall.scopes import own_scope
from orchestrator_cli.recall.sessions import (
    check_session_name,
    conversation_of,
    latest_session,
    new_session_name,
)
from orchestrator_cli.settings import Settings
from orchestrator_cli.values import Conversation, Usage

Say = Callable[[str], None]
T = TypeVar("T")


class ChatSession:
    """A session in use. `say` shows one line to the user."""

    def __init__(self, settings: Settings, say: Say, *, name: str = "", goes_on: bool = False) -> None:
        """Open the session `name`, the last one if `goes_on`, else a new one. Raises `OrchError`."""
        self._settings = settings
        self._say = say
        self._finder = FactFinder(settings, say)
        self._scope = own_scope(settings)
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
        prompts, self._prompts = self._prompts, []
        return self._finder.learn(prompts, ref=self.name, used=self._used)

    def _read(self, what: Callable[[Memory], T]) -> T:
        try:
            with contextlib.closing(open_memory(self._settings, self._say)) as memory:
                return what(memory)
        except MemoryFault as exc:
            raise ConfigError(f"The session cannot be read: {exc}", "See: orch doctor") from exc
