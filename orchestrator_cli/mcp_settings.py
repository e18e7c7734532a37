"""Servers of the Model Context Protocol as settings: what may be registered, and how it is shown.

What decides what runs, or where something is sent, is always shown: the program, every argument, the address,
and the names of variables and headers. Of a variable or a header that is called like a key, a literal value
is covered if it has the form of a key; its length is shown, and it is not kept in what was allowed. Expanding
`${NAME}` is for the moment of use; see `expanded`.
"""

import re
from collections.abc import Callable, Iterator
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
    r"(?:^|[_-])(?:api_?key|key|token|secret|password|passwd|pwd|pat|credentials?|cookie|authorization)$",
    re.I,
)
_ROUTING = re.compile(
    r"host|connection|keep-alive|te|trailer|transfer-encoding|upgrade|expect|forwarded|via|http2-settings"
    r"|content-.*|proxy-.*|x-forwarded-.*|x-(?:http-)?method(?:-override)?|x-(?:original|rewrite)-ur[il]"
)
"""Headers by which servers and proxies tell whose request it is, where it goes and where it ends."""
_RANDOM = re.compile(r"[A-Za-z0-9_+=-]{24,}")
_SCHEME_AND_KEY = re.compile(r"(?:[A-Za-z]{1,20} )?([A-Za-z0-9_][A-Za-z0-9_+=.:~-]*)")
_USER = re.compile(r"(://)[^/\s@]*(?:@[^/\s@]*)*@")
_QUERY = re.compile(r"(?<=[?&])([\w.-]*(?:key|token|secret|password|pat))=([^&#]+)", re.I)

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
        if routing := [name for name in self.headers if _ROUTING.fullmatch(name.lower().replace("_", "-"))]:
            raise ValueError(f"the header {routing[0]} is set by the program that sends the request")
        if any(re.search(r"[\0\r\n]", text) for text in self.headers.values()):
            raise ValueError("the value of a header has more than one line")
        return self

    @model_serializer(mode="wrap", when_used="json")
    def _without_keys(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        made: dict[str, Any] = dump(self)
        shown = {
            "url": self.shown_url,
            "variables": {name: _covered(name, value) for name, value in self.variables.items()},
            "headers": {name: _covered(name, value) for name, value in self.headers.items()},
        }
        return made | {name: value for name, value in shown.items() if name in made}

    @property
    def shown_url(self) -> str | None:
        """The address without the values of keys in its query; none has a password before its host."""
        return self.url and _covered_query(self.url)

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
        named = {**self.variables, **self.headers}
        return {name: found for name, value in named.items() if (found := _key_in(name, value))}

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
    return _USER.sub(rf"\g<1>{HIDDEN}@", _covered_query(text))


def _covered_query(text: str) -> str:
    return _QUERY.sub(lambda match: f"{match[1]}={_covered(match[1], match[2])}", text)


def _covered(name: str, value: str) -> str:
    """A value of this name, in which a key is replaced by its length."""
    key = _key_in(name, value)
    return f"{value.removesuffix(key)}({len(key)} characters, not shown)" if key else value


def _key_in(name: str, value: str) -> str:
    """The key that the value of a name is, or ends in after the name of a scheme; empty if it holds none.

    A value that could be an option, a path or code is none, whatever it is called.
    """
    from memory.distiller import REMOVED, scrub_shapes

    scheme, key = _SCHEME_AND_KEY.fullmatch(value), ""
    if is_key_name(name) and scheme is not None:
        key = scheme[1]
    is_mixed = any(map(str.isdigit, key)) and any(map(str.isalpha, key))
    looks_so = is_mixed and _RANDOM.fullmatch(key)
    return key if looks_so or scrub_shapes(key) == REMOVED else ""
