"""The values of the user's own keys, masked in all that leaves for a model, wherever they come from.

A file that is attached, how a file of the workspace begins, what a tool returned, and a prompt may all hold
one. So the texts are masked where they leave: in `LiteLLMModel`, which sends every completion, in
`EmbeddingModel`, and before a text is spoken. Attached files are masked when they are taken in, too.

Not covered: values of fewer than 8 characters, or that could be an ordinary word; what `Secrets` leaves; and
what images and recordings hold.
"""

import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from orchestrator_cli.environment import for_programs
from orchestrator_cli.models.model import ModelRequest
from orchestrator_cli.settings import Settings
from toolsmith.sandbox.redaction import Secrets

_KEYS = (
    *("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "PASS", "PWD"),
    *("CREDENTIAL", "COOKIE", "AUTH", "AUTHORIZATION"),
)
_FOLDERS = ("PWD", "OLDPWD")


def own_keys(settings: Settings) -> Secrets:
    """The keys of the environment, and the secrets that tools may be given."""
    return known_keys(for_programs(), settings.secrets)


def known_keys(variables: Mapping[str, str], named: Collection[str]) -> Secrets:
    """The values of variables that are called like keys, and of those that tools may be given.

    A value that could be an ordinary word, such as the `none` of a local server, is not one, nor is the path
    of a file, such as that of a socket.
    """
    found = Secrets({})
    for name, value in variables.items():
        is_long = len(value) >= 12 or (len(value) >= 8 and not value.isalpha())
        if (name in named or _is_called_a_key(name)) and is_long and not _is_a_path(value):
            with suppress(ValueError):  # it cannot be masked
                found = Secrets({**found.values, re.sub(r"\W", "_", name): value}, are_given=False)
    return found


def _is_called_a_key(variable: str) -> bool:
    """Whether a part of its name is, also with more after it, as in `API_KEY_2` and `SECRET_KEY_BASE`.

    Wider than `mcp_settings.is_key_name`: to mask too much costs little here, but a question must not hide.
    """
    parts = variable.upper().split("_")
    ends = {end for part in parts for end in (part, part.removesuffix("S"))}
    return variable not in _FOLDERS and ("PAT" in ends or any(end.endswith(_KEYS) for end in ends))


def _is_a_path(value: str) -> bool:
    """Whether it begins with a folder that is there; random letters after a slash do not."""
    return value.startswith("/") and os.path.lexists(value[: (value + "/").index("/", 1)])


def without_keys(request: ModelRequest, keys: Secrets) -> ModelRequest:
    """The same request, in which no text holds a value of a key."""
    if not keys.values:
        return request
    sent = {name: _masked(getattr(request, name), keys) for name in ("messages", "tools", "reply_schema")}
    return request.model_copy(update=sent)


def _masked(thing: Any, keys: Secrets) -> Any:
    match thing:
        case str():
            return keys.mask(thing)
        case dict():
            return {key: one if key == "image_url" else _masked(one, keys) for key, one in thing.items()}
        case list() | tuple():
            return type(thing)(_masked(one, keys) for one in thing)
    return thing
