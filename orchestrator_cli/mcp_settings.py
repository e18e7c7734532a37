"""Servers of the Model Context Protocol as settings: what may be registered, and how it is shown.

The value of a key is never shown, nor kept in what was allowed: a literal value of a header, of a variable
whose name or form is that of a key, and after an option such as `--api-key`. What a program runs is shown.
Expanding `${NAME}` is for the moment of use; see `expanded`.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

NAME_CHARS = 30
NAME = re.compile(rf"[a-z][a-z0-9_]{{0,{NAME_CHARS - 1}}}")
HIDDEN = "(not shown)"
WORKSPACE_NAMES = ("workspaceFolder", "CLAUDE_PROJECT_DIR")
"""Names that mean the path of the workspace."""

_REFERENCE = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}")
_LEFT = re.compile(r"\$\{[^}]*\}?")
_KEY_NAME = re.compile(
    r"(?:^|[_-])(?:api_?key|key|token|secret|password|passwd|pwd|pat|credentials?|cookie)$", re.I
)
_KEY_ENDS = ("key", "token", "secret", "password")
_RANDOM = re.compile(r"[A-Za-z0-9_+=-]{24,}")
_SCHEME = re.compile(r"[A-Za-z]{0,20} ?")
_USER = re.compile(r"(://)[^/\s@]*(?:@[^/\s@]*)*@")
_QUERY = re.compile(r"([?&][\w.-]*(?:key|token|secret|password|pat)=)([^&#$]+)", re.I)

ServerName = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]


class McpServer(BaseModel):
    """A server of the Model Context Protocol, whose tools plans may use: `[mcp.NAME]` in orch.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: str
    """What it is for and when to use it; you read this when you are asked about the server."""
    command: tuple[str, ...] = ()
    """The program and its arguments, which uses standard input and output; no shell reads them."""
    url: str | None = None
    """Instead of a command, the address of a server that speaks streamable HTTP."""
    type: Literal["http", "sse"] = "http"
    """For a `url`, whether the server speaks streamable HTTP or the older SSE."""
    env: tuple[str, ...] = ()
    """Environment variables that it is given; for a `url`, the one with its bearer token."""
    variables: dict[str, str] = {}
    """For a command, more variables with their values, in which `${NAME}` is a variable of yours."""
    headers: dict[str, str] = {}
    """For a `url`, headers of each request, in which `${NAME}` is a variable of yours."""
    expand: bool = False
    """Whether `${NAME}` is a variable of yours also in `command` and `url`, as in `.mcp.json`."""
    tools: tuple[str, ...] | None = None
    """Use only these of its tools, by their own names; default: all."""
    effects: bool = True
    """Whether its calls do something that must not happen twice by accident."""
    timeout_s: float = Field(default=60.0, gt=0, le=3_600)
    """Seconds for one call."""

    @model_validator(mode="after")
    def _is_one_thing(self) -> "McpServer":
        if bool(self.command) == bool(self.url):
            raise ValueError("give it either a command or a url")
        if self.url is None and (self.headers or self.type != "http"):
            raise ValueError("headers and type are for a url")
        if self.url is not None:
            check_address(self.url)
            if len(self.env) > 1:
                raise ValueError("env: a url takes one variable, which holds its bearer token")
            if self.variables:
                raise ValueError("variables are for a command")
        return self

    @model_validator(mode="after")
    def _can_be_filled_in(self) -> "McpServer":
        for pattern, names, what in (
            (r"[A-Za-z_][A-Za-z0-9_]*", (*self.variables, *self.env), "variable"),
            (r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", self.headers, "header"),
        ):
            if wrong := [name for name in names if not re.fullmatch(pattern, name)]:
                raise ValueError(f"{wrong[0]!r} is not the name of a {what}")
        for text in self._templates():
            if left := _LEFT.search(_REFERENCE.sub("", text)):
                raise ValueError(f"{left[0]} cannot be replaced: write ${{NAME}}")
        if any(re.search(r"[\0\r\n]", text) for text in self.headers.values()):
            raise ValueError("the value of a header has more than one line")
        return self

    @model_serializer(mode="wrap", when_used="json")
    def _without_keys(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        made: dict[str, Any] = dump(self)
        shown = {
            "command": list(self.shown_command),
            "url": self.shown_url,
            "variables": {n: HIDDEN if _is_key(n, value) else value for n, value in self.variables.items()},
            "headers": {n: value if _only_refers(value) else HIDDEN for n, value in self.headers.items()},
        }
        return made | {name: value for name, value in shown.items() if name in made}

    @property
    def shown_command(self) -> tuple[str, ...]:
        """The command without the values of keys."""
        return shown_parts(self.command)

    @property
    def shown_url(self) -> str | None:
        """The address without the values of keys."""
        return self.url and shown_address(self.url)

    @property
    def references(self) -> dict[str, str | None]:
        """The variables of the user's that are named, each with its value if it is not set."""
        found: dict[str, str | None] = {}
        for text in self._templates():
            for match in _REFERENCE.finditer(text):
                if match[1] not in WORKSPACE_NAMES:
                    found[match[1]] = found.get(match[1]) or match[2]
        return found

    @property
    def literal_keys(self) -> dict[str, str]:
        """The values of keys that the settings hold, by name."""
        keys = {name: value for name, value in self.variables.items() if _is_key(name, value)}
        keys |= {name: value.split()[-1] for name, value in self.headers.items() if _is_literal(value)}
        hidden = zip(self.command, self.shown_command, strict=True)
        return keys | {f"argument_{n}": one for n, (one, shown) in enumerate(hidden) if one != shown}

    def _templates(self) -> Iterator[str]:
        yield from self.variables.values()
        yield from self.headers.values()
        if self.expand:
            yield from (*self.command, self.url or "")

    def expanded(self, read: Callable[[str], str | None], workspace: str) -> "McpServer":
        """With `${NAME}` replaced by what `read` returns. Raises `KeyError` for one that is not set."""

        def value(match: re.Match[str]) -> str:
            if match[1] in WORKSPACE_NAMES:
                return workspace
            found = read(match[1]) or match[2]
            if found is None:
                raise KeyError(match[1])
            return found

        def of(text: str) -> str:
            return _REFERENCE.sub(value, text)

        changes: dict[str, object] = {
            "variables": {name: of(text) for name, text in self.variables.items()},
            "headers": {name: of(text) for name, text in self.headers.items()},
        }
        if self.expand:
            changes |= {"command": tuple(map(of, self.command)), "url": self.url and of(self.url)}
        return self.model_copy(update=changes)


def check_address(url: str) -> None:
    """Raise `ValueError` if `url` is not an address of a server."""
    if not re.fullmatch(r"https?://[^/\s@]+(/\S*)?", url):
        raise ValueError(f"{shown_address(url)!r} is not an http or https address without a password")


def is_key_name(name: str) -> bool:
    """Whether a variable, option or setting is called like a key."""
    return bool(_KEY_NAME.search(name))


def shown_address(text: str) -> str:
    """A text without the keys and passwords of an address."""
    return _USER.sub(rf"\g<1>{HIDDEN}@", _QUERY.sub(rf"\g<1>{HIDDEN}", text))


def shown_parts(command: Sequence[str]) -> tuple[str, ...]:
    """The parts of a command without the values of keys."""
    before = (None, None, *command[1:])[: len(command)]
    return tuple(map(_shown_part, before, command))


def _shown_part(before: str | None, part: str) -> str:
    option, sign, value = part.partition("=")
    if sign and _takes_key(option) and _may_be_hidden(value):
        return f"{option}={HIDDEN}"
    is_value = before is not None and _takes_key(before) and _may_be_hidden(part)
    return HIDDEN if is_value else part


def _takes_key(option: str) -> bool:
    return option.startswith("-") and option.lower().endswith(_KEY_ENDS)


def _looks_random(value: str) -> bool:
    is_mixed = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    return is_mixed and bool(_RANDOM.fullmatch(value))


def _only_refers(text: str) -> bool:
    """Whether a value is `${NAME}`, maybe after the name of a scheme, so that it can be shown."""
    defaults = [match[2] for match in _REFERENCE.finditer(text) if match[2]]
    return not defaults and "${" in text and bool(_SCHEME.fullmatch(_REFERENCE.sub("", text)))


def _is_literal(text: str) -> bool:
    return bool(text.strip()) and not _only_refers(text)


def _is_key(name: str, value: str) -> bool:
    """Whether a variable is called like a key, or all of its value looks like one."""
    if not value or _only_refers(value):
        return False
    from memory.distiller import REMOVED, scrub_shapes

    # What only holds a key can have an option or a path beside it that decides what runs.
    looks_so = _looks_random(value) or scrub_shapes(value) == REMOVED
    return bool(_KEY_NAME.search(name)) or (looks_so and _may_be_hidden(value))


def _may_be_hidden(value: str) -> bool:
    """Whether a text can only be a value: no option, no path, no code."""
    return not _only_refers(value) and bool(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_+=.:~-]*", value))
