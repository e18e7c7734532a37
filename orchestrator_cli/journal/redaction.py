"""The secrets that a run has given out, taken out of all that is kept, shown or sent to a model.

`[secret NAME]` stands where a value stood, in whatever a masked thing holds of text. As long as no
secret was given out, everything passes as it is. What masking does not cover is told in
`toolsmith.sandbox.redaction`; files of the workspace are not masked either.
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


class Masks:
    """Grows while the run goes on. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._secrets: Secrets | None = None

    def add(self, name: str, value: str) -> None:
        """Mask a value from now on. Raises `ValueError`, which names the secret and never its value."""
        with self._lock:
            known = self._secrets.values if self._secrets is not None else {}
            if known.get(name) != value:
                self._secrets = Secrets({**known, name: value})

    @property
    def active(self) -> bool:
        """Whether there is anything to mask."""
        return self._secrets is not None

    def __call__(self, thing: T) -> T:
        """The same without the values: text, a frozen value, or what is made of both."""
        secrets = self._secrets
        return thing if secrets is None else _masked(thing, secrets)


def _masked(thing: Any, secrets: Secrets) -> Any:
    match thing:
        case str():
            return secrets.mask(thing)
        case BaseModel():
            # A word of a fixed list is no secret, and would be none of the list when it is masked.
            fields = type(thing).model_fields.items()
            free = [name for name, field in fields if get_origin(field.annotation) is not Literal]
            return thing.model_copy(update={name: _masked(getattr(thing, name), secrets) for name in free})
        case Mapping():
            return {_masked(key, secrets): _masked(value, secrets) for key, value in thing.items()}
        case list() | tuple():
            return type(thing)(_masked(item, secrets) for item in thing)
        case _ if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
            names = [field.name for field in dataclasses.fields(thing)]
            return dataclasses.replace(
                thing, **{name: _masked(getattr(thing, name), secrets) for name in names}
            )
    return thing


class MaskedModel:
    """A model that is sent no secret that this run has given out, and says none.

    As soon as there is one, replies come whole instead of in pieces: a piece can end within a value.
    """

    def __init__(self, model: Model, masks: Masks) -> None:
        self._model = model
        self._masks = masks

    def complete(
        self, request: ModelRequest, on_delta: OnDelta | None = None, cancellation: Cancellation | None = None
    ) -> Completion:
        if not self._masks.active:
            return self._model.complete(request, on_delta, cancellation)
        reply = self._masks(self._model.complete(self._masks(request), None, cancellation))
        if on_delta is not None:
            on_delta(reply.text)
        return reply
