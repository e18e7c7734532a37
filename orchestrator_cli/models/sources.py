"""Where the replies of a run come from: live models, or recorded replies played back.

A recording is one JSON file: every distinct message once, and per exchange its name, the messages of the
request and the reply. An exchange is named after role, subject and count (`agent:shape#2`), so parallel
subtasks may ask in any order. Playback compares the whole request; if it differs, the call fails with the
first line that differs, because a reply to another question proves nothing.
"""

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.environment import network_fault
from orchestrator_cli.errors import ConfigError, RunFailed
from orchestrator_cli.model_settings import ROLES
from orchestrator_cli.models.chain import Emit, ModelChain, check_prices, open_models, recorded_models
from orchestrator_cli.models.client_errors import NAME_A_PROVIDER
from orchestrator_cli.models.default_models import SET_AGAIN
from orchestrator_cli.models.discovery import find_model, is_listed, malformed, missing_key
from orchestrator_cli.models.library import litellm, prepare
from orchestrator_cli.models.local_servers import check_stranger, stranger_of
from orchestrator_cli.models.media import sees
from orchestrator_cli.models.model import Completion, Model, ModelRequest, OnDelta, ToolCall
from orchestrator_cli.models.pricing import context_tokens
from orchestrator_cli.settings import Settings
from orchestrator_cli.values import Usage

REMEDY = "Make a new recording: see “The demo's recording” in CONTRIBUTING.md."


class Recording:
    """The exchanges of one run, by name. `read` raises `RunFailed` for a file of another format."""

    def __init__(self) -> None:
        self.messages: dict[str, dict[str, Any]] = {}
        self.exchanges: dict[str, dict[str, Any]] = {}

    @classmethod
    def read(cls, path: Path) -> "Recording":
        recording = cls()
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
            recording.messages, recording.exchanges = rows["messages"], rows["exchanges"]
        except (OSError, ValueError, LookupError, TypeError) as exc:
            raise RunFailed(f"{path.name} is not a recording: {exc}", REMEDY) from exc
        return recording

    def write(self, path: Path) -> None:
        used = {sha for exchange in self.exchanges.values() for sha in exchange["messages"]}
        rows = {
            "messages": {sha: message for sha, message in self.messages.items() if sha in used},
            "exchanges": self.exchanges,
        }
        path.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    def put(self, name: str, request: ModelRequest, reply: Completion) -> None:
        shas = []
        for message in _comparable(request):
            sha = hashlib.sha256(json.dumps(message, sort_keys=True).encode()).hexdigest()[:16]
            self.messages[sha] = message
            shas.append(sha)
        calls = [call.model_dump(mode="json") for call in reply.tool_calls]
        self.exchanges[name] = {"messages": shas, "reply": {"text": reply.text, "tool_calls": calls}}

    def name_of(self, name: str, request: ModelRequest) -> str:
        """The exchange of the same role and subject with the same request; `name` if there is none."""
        subject = name.rpartition("#")[0]
        sent = _comparable(request)
        for known, exchange in self.exchanges.items():
            same = known.rpartition("#")[0] == subject
            if same and [self.messages[sha] for sha in exchange["messages"]] == sent:
                return known
        return name

    def reply_to(self, name: str, request: ModelRequest) -> Completion:
        """The recorded reply. Raises `RunFailed` if there is none or the request differs."""
        exchange = self.exchanges.get(name)
        if exchange is None:
            raise RunFailed(f"The recording has no reply to {name}.", REMEDY)
        recorded = [self.messages[sha] for sha in exchange["messages"]]
        if difference := _first_difference(recorded, _comparable(request)):
            raise RunFailed(f"The recording does not match the request {name}: {difference}", REMEDY)
        return _as_reply(exchange["reply"], request)


class RecordedModel:
    """Answers from a recording, each exchange at most once.

    Args:
        resumed: match exchanges by the whole request instead of by count. A resumed run repeats an
            interrupted attempt but not what was finished, so counts do not match.
    """

    def __init__(self, recording: Recording, *, name: str = "recorded", resumed: bool = False) -> None:
        self.name = name
        """The model's name in the run's record."""
        self._recording = recording
        self._resumed = resumed
        self._names = _Names()

    def complete(
        self, request: ModelRequest, on_delta: OnDelta | None = None, cancellation: Cancellation | None = None
    ) -> Completion:
        if cancellation is not None:
            cancellation.check()
        name = self._names.next(request)
        if self._resumed:
            name = self._recording.name_of(name, request)
        reply = self._recording.reply_to(name, request)
        if on_delta is not None:
            for word in reply.text.splitlines(keepends=True):
                on_delta(word)
        return reply


class ModelFree:
    """Takes the place of a model in a run that asks none, such as one of a single process."""

    name = "none"

    def complete(
        self,
        request: ModelRequest,
        on_delta: OnDelta | None = None,  # noqa: ARG002 - the protocol's
        cancellation: Cancellation | None = None,  # noqa: ARG002
    ) -> Completion:
        raise RunFailed(f"This run has no model, and the {request.role} would need one.")


class RecordingModel:
    """Asks a model and records its replies.

    Args:
        known: an earlier recording; a request whose name it has gets its reply, and the model is not asked.
    """

    def __init__(self, model: Model | None, recording: Recording, known: Recording | None = None) -> None:
        self._model = model
        self._recording = recording
        self._known = known
        self._names = _Names()
        self._lock = threading.Lock()

    def complete(
        self, request: ModelRequest, on_delta: OnDelta | None = None, cancellation: Cancellation | None = None
    ) -> Completion:
        name = self._names.next(request)
        if self._known is not None and name in self._known.exchanges:
            reply = _as_reply(self._known.exchanges[name]["reply"], request)
        elif self._model is not None:
            reply = self._model.complete(request, on_delta, cancellation)
        else:
            raise RunFailed(f"The earlier recording has no reply to {name}, and no model is set.", REMEDY)
        with self._lock:
            self._recording.put(name, request, reply)
        return reply


class _Names:
    """Names requests by role, subject and the count within that subject."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def next(self, request: ModelRequest) -> str:
        subject = f"{request.role}:{request.subject}" if request.subject else request.role
        with self._lock:
            self._counts[subject] += 1
            return f"{subject}#{self._counts[subject]}"


def _comparable(request: ModelRequest) -> list[dict[str, Any]]:
    tools = [{"role": "tools", "content": json.dumps(request.tools, sort_keys=True)}] if request.tools else []
    return [json.loads(json.dumps(message)) for message in request.messages] + tools


def _first_difference(recorded: list[dict[str, Any]], sent: list[dict[str, Any]]) -> str:
    for n, (was, now) in enumerate(zip(recorded, sent, strict=False), start=1):
        if was != now:
            pairs = zip(_lines(was), _lines(now), strict=False)
            old, new = next(((a, b) for a, b in pairs if a != b), ("(shorter)", "(longer)"))
            return f"message {n} was {old[:160]!r} and is {new[:160]!r}."
    if len(recorded) != len(sent):
        return f"it had {len(recorded)} messages and has {len(sent)}."
    return ""


def _lines(message: dict[str, Any]) -> list[str]:
    content = message.get("content")
    text = content if isinstance(content, str) else json.dumps(message, ensure_ascii=False)
    return [f"{message.get('role')}:", *text.splitlines()]


def _as_reply(reply: dict[str, Any], request: ModelRequest) -> Completion:
    """Estimates four characters a token; a recorded reply costs nothing and is unpriced."""
    sent = sum(len(json.dumps(message)) for message in request.messages)
    return Completion(
        text=reply["text"],
        tool_calls=tuple(ToolCall.model_validate(call) for call in reply["tool_calls"]),
        model="recorded",
        usage=Usage(calls=1, prompt_tokens=sent // 4, completion_tokens=len(reply["text"]) // 4, unpriced=1),
    )


class ModelSource(Protocol):
    """Opens the models of a run."""

    @property
    def is_live(self) -> bool:
        """Whether providers are asked: for replies, for vectors, and to plan with the tools of servers."""

    @property
    def is_repeatable(self) -> bool:
        """Whether requests must be the same on every machine and every day."""

    def names(self, settings: Settings) -> dict[str, str]:
        """The model of each role. Raises `ConfigError` if there is none."""

    def choose(self, settings: Settings) -> tuple[dict[str, str], str]:
        """As `names`, and of a model that was found and not set which it is, and where; else empty."""

    def missing(self, name: str) -> str:
        """What a model lacks before it can be asked; empty for nothing."""

    def context_tokens(self, name: str) -> int | None:
        """The longest prompt that a model takes; None if that is unknown."""

    def sees(self, name: str) -> bool | None:
        """Whether a model takes images; None if that is unknown."""

    def prepare(self) -> None:
        """Do the slow part of the first call, beside other work."""

    def open(
        self,
        settings: Settings,
        names: dict[str, str],
        others: Iterable[str],
        cancellation: Cancellation,
        emit: Emit,
        *,
        used: Usage,
        run: str,
    ) -> ModelChain:
        """The models, and the meter of their calls. `used` and `run` are as in `MeteredModel`.

        `others` may be asked besides the models of the roles. Raises `ConfigError` if a limit on money
        meets a model without a price.
        """


def model_fault(name: str) -> str:
    """Why a model cannot be asked, as far as its provider need not be asked for that; empty for nothing."""
    return missing_key(name) or malformed(name) or stranger_of(name) or _unknown_provider(name)


def remedy_for(name: str) -> str:
    """What helps if a model cannot be asked."""
    if fault := missing_key(name):
        key = fault.partition(" ")[0]
        return f"Set it: export {key}=…\nOr name another model with -m, or with orch init."
    return SET_AGAIN


def _unknown_provider(name: str) -> str:
    if not is_listed(name):
        try:
            litellm().get_llm_provider(name)
        except Exception:  # LiteLLM's own, as a request that was refused
            return "no provider of it is known"
    return ""


def _check_setup(names: Iterable[str], fallbacks: tuple[str, ...]) -> None:
    """Raise `ConfigError` for what would fail at the first call. A fallback can replace a missing key."""
    if fault := network_fault():
        raise ConfigError(f"No model can be reached: {fault}.", "Set it again, or unset it.")
    for name in dict.fromkeys([*names, *fallbacks]):
        if fault := (not fallbacks and missing_key(name)) or malformed(name):
            raise ConfigError(f"{name} cannot be asked: {fault}.", remedy_for(name))
        check_stranger(name)
        if fault := _unknown_provider(name):
            raise ConfigError(f"{name} cannot be asked: {fault}.", NAME_A_PROVIDER)


@dataclass(frozen=True)
class LiveModels:
    """The models of the settings. `recorder` is put around them, to keep what they say."""

    recorder: Callable[[Model], Model] | None = None
    is_live: bool = True

    @property
    def is_repeatable(self) -> bool:
        return self.recorder is not None

    def names(self, settings: Settings) -> dict[str, str]:
        return self.choose(settings)[0]

    def choose(self, settings: Settings) -> tuple[dict[str, str], str]:
        names = {role: settings.model_for(role) for role in ROLES}
        # Looked for only if a role has none, and once.
        found = find_model() if None in names.values() else None
        chosen: dict[str, str] = {
            role: name or (found.model if found else "") for role, name in names.items()
        }
        _check_setup(chosen.values(), settings.fallbacks)
        return chosen, f"{found.model}: {found.why}" if found else ""

    def missing(self, name: str) -> str:
        return model_fault(name)

    def context_tokens(self, name: str) -> int | None:
        return context_tokens(name)

    def sees(self, name: str) -> bool | None:
        return sees(name)

    def prepare(self) -> None:
        prepare(tools=False)
        # The planner's request, which waited for LiteLLM, goes out before more is imported.
        time.sleep(0.05)
        prepare()

    def open(
        self,
        settings: Settings,
        names: dict[str, str],
        others: Iterable[str],
        cancellation: Cancellation,
        emit: Emit,
        *,
        used: Usage,
        run: str,
    ) -> ModelChain:
        check_prices(settings, [*names.values(), *others], cancellation)
        models = open_models(settings, names, cancellation, emit, used=used, run=run)
        return models if self.recorder is None else ModelChain(self.recorder(models.model), models.meter)


@dataclass(frozen=True)
class GivenModel:
    """One model that is handed over, such as a recording: it has no provider, no key and no price."""

    model: Model
    is_live: bool = False
    is_repeatable: bool = True

    def names(self, settings: Settings) -> dict[str, str]:  # noqa: ARG002 - the protocol's
        played = self.model.name if isinstance(self.model, RecordedModel | ModelFree) else "recorded"
        return dict.fromkeys(ROLES, played)

    def choose(self, settings: Settings) -> tuple[dict[str, str], str]:
        return self.names(settings), ""

    def missing(self, name: str) -> str:  # noqa: ARG002
        return ""

    def context_tokens(self, name: str) -> int | None:  # noqa: ARG002
        return None

    def sees(self, name: str) -> bool | None:  # noqa: ARG002
        return False

    def prepare(self) -> None:
        """Nothing has to be imported."""

    def open(
        self,
        settings: Settings,
        names: dict[str, str],  # noqa: ARG002
        others: Iterable[str],  # noqa: ARG002
        cancellation: Cancellation,  # noqa: ARG002
        emit: Emit,
        *,
        used: Usage,
        run: str,
    ) -> ModelChain:
        return recorded_models(self.model, settings, emit, used=used, run=run)
