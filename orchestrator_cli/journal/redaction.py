"""Removes the secrets that a run has handed out from all that is stored, shown or sent to a model.

Every text gets `[secret NAME]` in place of a value. Until a secret is handed out, nothing changes.
For limits, see `toolsmith.sandbox.redaction`; files of the workspace are not redacted either.
"""

import dataclasses
import threading
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_origin

from pydantic import BaseModel

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.models.model import Completion, Model, ModelRequest, OnDelta
from toolsmith.sandbox.redaction import Secrets

T = TypeVar("T")


class Redactor:
    """Knows the secrets handed out so far. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._secrets: Secrets | None = None

    def add(self, name: str, value: str) -> None:
        """Redact a value from now on. Raises `ValueError`, which names the secret but not its value."""
        with self._lock:
            known = self._secrets.values if self._secrets is not None else {}
            if known.get(name) != value:
                self._secrets = Secrets({**known, name: value})

    @property
    def active(self) -> bool:
        """Whether there is anything to redact."""
        return self._secrets is not None

    def __call__(self, thing: T) -> T:
        """The same without secrets: text, a frozen value, or a container of both."""
        secrets = self._secrets
        return thing if secrets is None else _redacted(thing, secrets)


def _redacted(thing: Any, secrets: Secrets) -> Any:
    match thing:
        case str():
            return secrets.mask(thing)
        case BaseModel():
            # The words of a Literal are not secret, and must stay valid.
            fields = type(thing).model_fields.items()
            free = [name for name, field in fields if get_origin(field.annotation) is not Literal]
            return thing.model_copy(update={name: _redacted(getattr(thing, name), secrets) for name in free})
        case Mapping():
            return {_redacted(key, secrets): _redacted(value, secrets) for key, value in thing.items()}
        case list() | tuple():
            return type(thing)(_redacted(item, secrets) for item in thing)
        case _ if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
            names = [field.name for field in dataclasses.fields(thing)]
            return dataclasses.replace(
                thing, **{name: _redacted(getattr(thing, name), secrets) for name in names}
            )
    return thing


class RedactedModel:
    """A model whose requests and replies contain no secret that this run has handed out.

    As soon as there is one, replies arrive whole instead of in pieces: a piece can end within a value.
    """

    def __init__(self, model: Model, redact: Redactor) -> None:
        self._model = model
        self._redact = redact

    def complete(
        self, request: ModelRequest, on_delta: OnDelta | None = None, cancellation: Cancellation | None = None
    ) -> Completion:
        if not self._redact.active:
            return self._model.complete(request, on_delta, cancellation)
        reply = self._redact(self._model.complete(self._redact(request), None, cancellation))
        if on_delta is not None:
            on_delta(reply.text)
        return reply
