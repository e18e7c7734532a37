"""The parameters of a request, and what is left out of it for a model that refuses one.

Models under names of their own and new ones refuse what others take: streaming, `max_tokens` in
place of `max_completion_tokens`, a system message. The provider then names the parameter in a fault, and the
request is made again without it, once for each model of a run.

Not covered: a refusal that names nothing that was sent, and one that comes in the middle of a stream.
"""

import json
import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from orchestrator_cli.model_settings import ModelParameters
from orchestrator_cli.models.client_errors import refusal_of
from orchestrator_cli.models.library import litellm, prepare_for_tools
from orchestrator_cli.models.model import Message, ModelRequest

SYSTEM = "system"
"""The role of messages, which is refused as a parameter is."""

_WORDS: Mapping[str, tuple[str, ...]] = {
    "stream_options": ("stream_options", "include_usage"),
    "stream": ("stream", "streaming"),
    "max_tokens": ("max_tokens",),
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "reasoning_effort": ("reasoning_effort", "reasoning", "thinking"),
    "response_format": ("response_format", "json_schema", "json schema", "output_format", "output_config"),
    SYSTEM: ("system", "developer instruction"),
}
"""What may be left out, and the words by which providers name it."""
_REFUSALS = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|not (permitted|allowed|enabled|accepted)|only"
    r"|deprecated|invalid|extra|unexpected|verified|must|cannot|incompatible|failed|unavailable",
    re.IGNORECASE,
)


def refused_parameter(sent: Collection[str], param: str, words: str) -> str | None:
    """Which parameter a provider refuses, of those that were sent; None if it names none of them.

    Args:
        param: the provider's own field for it, such as `stream` or `messages[0].role`; empty if it has none.
        words: its message. Of several names in it the first counts: others are advice.
    """
    if param.partition(".")[0] in sent and param in _WORDS:
        return param
    if not _REFUSALS.search(words):
        return None
    found = {name: match.start() for name in sent if (match := _named(name, words))}
    return min(found, key=lambda name: found[name], default=None)


def _named(parameter: str, words: str) -> re.Match[str] | None:
    names = "|".join(_WORDS.get(parameter, ())) or "(?!)"
    return re.search(rf"(?<!\w)(?:{names})(?!\w)", words, re.IGNORECASE)


_CHOSEN = ("temperature", "top_p", "reasoning_effort")
"""Parameters that the user sets; if a model takes none of them, they hear of it."""


def with_parameters(request: ModelRequest, of_role: ModelParameters | None) -> ModelRequest:
    """The request with the parameters of its role, and its preamble before all other messages."""
    chosen = request.parameters.over(of_role)
    messages = request.messages
    if chosen.preamble:
        first, rest = ("", messages)
        if messages and messages[0]["role"] == SYSTEM:
            first, rest = f"\n\n{messages[0]['content']}", messages[1:]
        messages = ({"role": SYSTEM, "content": f"{chosen.preamble.strip()}{first}"}, *rest)
    longest = chosen.max_tokens or request.max_tokens
    changes = {"parameters": chosen, "messages": messages, "max_tokens": longest}
    return request.model_copy(update=changes)


def options_of(request: ModelRequest, *, stream: bool, without: Collection[str] = ()) -> dict[str, Any]:
    """What LiteLLM is given for a request, besides its time. `without`: what the model refuses."""
    wanted: dict[str, Any] = {
        "stream": stream,
        "stream_options": {"include_usage": True} if stream and "stream" not in without else None,
        "max_tokens": request.max_tokens,
        "tools": list(request.tools) or None,
        **{name: getattr(request.parameters, name) for name in _CHOSEN},
    }
    if request.reply_schema is not None and "response_format" not in without:
        wanted["response_format"] = _reply_format(request.model or "", request.reply_schema)
    options = {name: value for name, value in wanted.items() if value is not None and name not in without}
    if "max_tokens" in without and request.max_tokens is not None:
        # Another name, because a limit of the run may depend on it.
        options["max_completion_tokens"] = request.max_tokens
    messages = list(request.messages)
    messages = _without_system(messages) if SYSTEM in without else messages
    return {
        "model": request.model or "",
        "messages": _cached(messages, request.role) if caches_prompts(request.model or "") else messages,
        # Otherwise LiteLLM leaves out without a word what the user has chosen.
        "drop_params": not any(name in options for name in _CHOSEN),
        **options,
    }


def caches_prompts(model: str) -> bool:
    """Whether a prompt's beginning is kept by the provider only where the request says so: Claude's."""
    return "claude" in model.lower()


def _cached(messages: Iterable[Message], role: str) -> list[Message]:
    """The messages, with marks up to which they are kept: the instructions, and an agent's whole history."""
    rows = list(messages)
    marked = {n for n, row in enumerate(rows) if row["role"] == SYSTEM}
    if role == "agent":
        marked.add(len(rows) - 1)
    return [_marked(row) if n in marked else row for n, row in enumerate(rows)]


def _marked(message: Message) -> Message:
    if not isinstance(message["content"], str):
        return message
    part = {"type": "text", "text": message["content"], "cache_control": {"type": "ephemeral"}}
    return {**message, "content": [part]}


_OWN_SERVERS = frozenset({"hosted_vllm", "vllm", "llamafile", "lm_studio", "ollama", "ollama_chat"})
_FREE_FORM = _OWN_SERVERS | {"openai", "azure"}
"""Providers that keep to a schema in which an object may have any keys."""


def _reply_format(model: str, schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """The parameter that asks for a JSON Schema; None for a model that takes none, or not this one.

    Claude and Gemini write only keys that a schema names, so that an object of any keys would stay empty.
    """
    provider = _provider_of(model)
    if "response_format" not in _supported(model) or not _takes_schema(model, provider):
        return None
    if provider not in _FREE_FORM and not _is_closed(schema):
        return None
    named = {"name": "reply", "schema": lean(schema), "strict": False}
    return {"type": "json_schema", "json_schema": named}


def lean(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema as a model needs it: without titles, docstrings, and definitions that it never uses.

    The prompt says what each key means; pydantic's title of a key is its name again.
    """
    definitions = schema.get("$defs", {})
    shown = {key: value for key, value in schema.items() if key not in ("$defs", "description")}
    used: set[str] = set()
    found = _referred(shown)
    while new := found - used:
        used |= new
        found = set().union(*(_referred(definitions.get(name)) for name in new))
    kept = {name: one for name, one in definitions.items() if name in used}
    for name, one in kept.items():
        kept[name] = {key: value for key, value in one.items() if key != "description"}
    made = _untitled(shown | ({"$defs": kept} if kept else {}))
    assert isinstance(made, dict)
    return made


def _referred(part: object) -> set[str]:
    """The definitions that a part of a schema names."""
    return set(re.findall(r'"#/\$defs/([^"/]+)"', json.dumps(part)))


def _untitled(part: object) -> object:
    """A title is a text; a key of that name is a schema, and stays."""
    if isinstance(part, dict):
        rows = part.items()
        return {key: _untitled(value) for key, value in rows if key != "title" or not isinstance(value, str)}
    return [_untitled(one) for one in part] if isinstance(part, list) else part


def _is_closed(schema: object) -> bool:
    """Whether each object of a schema names its keys, and each value has a type."""
    if not isinstance(schema, Mapping):
        return False
    if schema.get("type") == "object" and (
        "properties" not in schema or schema.get("additionalProperties", False) is not False
    ):
        return False
    parts = [part for key in ("properties", "$defs") for part in schema.get(key, {}).values()]
    parts += schema.get("anyOf", ())
    parts += [schema["items"]] if "items" in schema else []
    has_type = any(key in schema for key in ("type", "$ref", "anyOf", "enum", "const"))
    return has_type and all(map(_is_closed, parts))


def _takes(model: str, parameter: str) -> bool:
    supported = _supported(model)
    return not supported or parameter in supported


def _supported(model: str) -> Collection[str]:
    """The parameters that a model takes, as LiteLLM knows them."""
    try:
        return litellm().get_supported_openai_params(model) or ()
    except Exception:  # LiteLLM raises one of its own for a name that it does not know
        return ()


def _provider_of(model: str) -> str:
    try:
        return str(litellm().get_llm_provider(model)[1])
    except Exception:  # as above
        return ""


def _takes_schema(model: str, provider: str) -> bool:
    # A name that OpenAI does not have is of a server at OPENAI_BASE_URL.
    is_own = provider == "openai" and model.removeprefix("openai/") not in litellm().model_cost
    try:
        return is_own or provider in _OWN_SERVERS or bool(litellm().supports_response_schema(model))
    except Exception:  # as above
        return False


def _without_system(messages: Iterable[Message]) -> list[Message]:
    """The texts of system messages, put before the first message of the user."""
    rows = list(messages)
    said = [str(row["content"]) for row in rows if row["role"] == SYSTEM]
    rest = [row for row in rows if row["role"] != SYSTEM]
    at = next((n for n, row in enumerate(rest) if row["role"] == "user"), None)
    if at is None:
        return [{"role": "user", "content": "\n\n".join(said)}, *rest]
    joined = "\n\n".join([*said, str(rest[at]["content"])])
    return [*rest[:at], {**rest[at], "content": joined}, *rest[at + 1 :]]


class Asking:
    """Makes requests, and remembers per model what it refuses.

    Args:
        notice: receives one line for each parameter that is left out.
    """

    def __init__(self, notice: Callable[[str], None]) -> None:
        self._notice = notice
        self._refused: dict[str, frozenset[str]] = {}
        self._lock = threading.Lock()

    def ask(self, request: ModelRequest, *, stream: bool, timeout: float) -> tuple[Any, bool]:
        """LiteLLM's answer, and whether it is a stream. Raises what LiteLLM raises."""
        name = request.model or ""
        while True:
            for parameter in _CHOSEN:
                if getattr(request.parameters, parameter) is not None and not _takes(name, parameter):
                    self._leave_out(name, parameter)
            without = self._refused.get(name, frozenset())
            options = options_of(request, stream=stream, without=without)
            if "tools" in options:
                prepare_for_tools()
            try:
                answer = litellm().completion(**options, timeout=timeout, num_retries=0, max_retries=0)
            except Exception as exc:
                has_system = any(row["role"] == SYSTEM for row in options["messages"])
                sent = {key for key, value in options.items() if value} | ({SYSTEM} if has_system else set())
                found = refused_parameter(sent, *refusal_of(exc))
                if found is None:
                    raise
                self._leave_out(name, found)
            else:
                return answer, bool(options.get("stream"))

    def _leave_out(self, model: str, parameter: str) -> None:
        with self._lock:
            known = self._refused.get(model, frozenset())
            self._refused[model] = known | {parameter}
        if parameter not in known:
            what = "a system message" if parameter == SYSTEM else parameter
            self._notice(f"{model} does not take {what}; it is asked without.")
