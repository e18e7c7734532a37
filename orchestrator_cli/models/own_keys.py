"""The values of the user's own keys, masked in all that leaves for a model, wherever they come from.

A file that is attached, how a file of the workspace begins, what a tool returned, and a prompt may all hold
one. So the texts are masked where they leave: in `LiteLLMModel`, which sends every completion, in
`EmbeddingModel`, and before a text is spoken. Attached files are masked when they are taken in, and how files
begin before it is cut to a line.

Not covered: values of fewer than 8 characters, or that could be an ordinary word; what `Secrets` leaves, such
as fewer than 16 characters of a value in a text that was cut; and what images and recordings hold.
"""

import itertools
import os
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from orchestrator_cli.environment import for_programs
from orchestrator_cli.models.model import ModelRequest
from orchestrator_cli.settings import Settings
from toolsmith.sandbox.redaction import LONG_PART, SHORTEST, Secrets

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

    Of an address, such as that of a database, the password is one too, whatever its variable is called. A
    value that could be an ordinary word, such as the `none` of a local server, is not one, nor is the path of
    a file, such as that of a socket.
    """
    found: dict[str, str] = {}
    for name, value in variables.items():
        is_key = name in named or _is_called_a_key(name)
        values = [value] if is_key and not _is_a_path(value) else []
        if "://" in value:
            values += passwords_of(value)
        for one in filter(_can_be_masked, dict.fromkeys(values)):
            found[_unused(re.sub(r"\W", "_", name), found)] = one
    return Secrets(found, are_given=False)


def _can_be_masked(value: str) -> bool:
    """Whether it is too long to be an ordinary word, and can be in an environment."""
    is_long = len(value) >= 12 or (len(value) >= 8 and not value.isalpha())
    return is_long and len(value.strip()) >= SHORTEST and "\0" not in value


def _unused(name: str, used: Collection[str]) -> str:
    """The name, or with a number if another variable has it: `A-B_KEY` and `A_B_KEY` are two."""
    names = (f"{name}_{n}" if n > 1 else name for n in itertools.count(1))
    return next(one for one in names if one not in used)


def passwords_of(value: str) -> Iterator[str]:
    """The passwords in addresses such as `scheme://user:PASSWORD@host`, as they are and without escapes.

    A user's name is one if it is as long as a token and has a digit.
    """
    for after in value.split("://")[1:]:
        words = after.split(maxsplit=1)
        whole = words[0] if words else ""
        user, sign, _ = _AUTHORITY_END.split(whole, maxsplit=1)[0].rpartition("@")
        if not sign:  # a slash in a password should be escaped, and most programs take it as it is
            user, sign, _ = whole.partition("@")
            if not sign or _PATH.match(user):
                continue
        name, _, password = user.partition(":")
        for one in (password, name if len(name) >= LONG_PART and not name.isalpha() else ""):
            yield from dict.fromkeys((one, unquote(one)))


_AUTHORITY_END = re.compile(r"[/?#]")
_PATH = re.compile(r"[^:]*/|[^:]*:\d{0,5}/|[^:]*$")
"""What of an address with an `@` in its path is before that, rather than a user with a password."""


def _is_called_a_key(variable: str) -> bool:
    """Whether a part of its name is, also with more after it: `API_KEY_2`, `TOKEN2` and `SECRET_KEY_BASE`.

    Wider than `mcp_settings.is_key_name`: to mask too much costs little here, but a question must not hide.
    """
    parts = [part.rstrip("0123456789") for part in re.split(r"[\W_]+", variable.upper())]
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
