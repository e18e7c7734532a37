"""The model that a provider's key or a local server implies, if none is set, and what a named one lacks.

Provider keys are looked for by name. Their values go from the environment to the provider's library; here
they are only checked for what no request can carry.

Not covered: whether a key may use the model that is found.
"""

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from orchestrator_cli.environment import fault_of, value_of
from orchestrator_cli.errors import ConfigError
from orchestrator_cli.http_requests import send
from orchestrator_cli.models.default_models import (
    FAMILIES,
    NO_MODEL,
    OTHER_NAMES,
    SET_AGAIN,
    Choice,
    default_model,
    read_list,
)
from orchestrator_cli.models.local_servers import (
    LLAMA_CPP,
    OLLAMA,
    UsualPlace,
    base_url,
    owners_at,
    strangers_at,
)

_COMMON = frozenset({family.provider for family in FAMILIES.values()} | {"ollama_chat", "llamafile"})
"""Providers that are known without LiteLLM's list."""


def is_listed(model: str) -> bool:
    """Whether the name, or the provider that it begins with, is in LiteLLM's list."""
    provider, slash, bare = model.partition("/")
    if not slash:
        return model in read_list()
    # The list is read only for what is not known without it: that takes time before the first request.
    return bool(bare) and (provider in _COMMON or provider in _providers())


@cache
def _providers() -> frozenset[str]:
    return frozenset(str(known.get("litellm_provider")) for known in read_list().values())


def missing_key(model: str) -> str:
    """What has to be set before a model can be used; empty if nothing is known to be missing.

    Not covered: providers outside `FAMILIES`, a wrong key, and a server that is down.
    """
    provider = provider_of(model)
    for key, family in FAMILIES.items():
        if family.provider == provider and not any(map(value_of, (key, *OTHER_NAMES.get(key, ())))):
            enough = "; any text is enough for a local server" if provider == "openai" else ""
            return f"{key} is not set{enough}"
    return ""


def malformed(model: str) -> str:
    """What is wrong with the key or address that is set for a model's provider; empty for nothing."""
    provider = provider_of(model)
    keys = [key for key, family in FAMILIES.items() if family.provider == provider]
    keys = [name for key in keys for name in (key, *OTHER_NAMES.get(key, ()))]
    prefix = provider.removesuffix("_chat").upper()
    variables = [*(keys or [f"{prefix}_API_KEY"]), f"{prefix}_BASE_URL", f"{prefix}_API_BASE"]
    return next(filter(None, map(fault_of, variables)), "")


def provider_of(model: str) -> str:
    """LiteLLM's prefix of a model, or the provider in its list."""
    provider, slash, _ = model.partition("/")
    return provider if slash else str(read_list().get(model, {}).get("litellm_provider"))


# --- what could be asked

LISTING_BYTES = 10_000_000
"""What is read of a server's list of models."""
MOST_MODELS = 20


class ModelServer(NamedTuple):
    """A server of models that is not a provider's, and what it offers."""

    name: str
    provider: str
    """LiteLLM's prefix."""
    models: tuple[str, ...]
    """Its first models that chat, without the prefix; none if it does not answer within a second."""
    needs: str
    """What has to stay as it is for its models to be asked."""
    refused: str = ""
    """Why it is not asked what it offers."""


def keys_set() -> tuple[str, ...]:
    """The names of the provider keys that are set."""
    return tuple(filter(value_of, FAMILIES))


def own_server() -> ModelServer | None:
    """The server at `OPENAI_BASE_URL`; None if none is set. Raises `ConfigError` if it is not an address."""
    if fault := next(filter(None, map(fault_of, ("OPENAI_BASE_URL", "OPENAI_API_BASE"))), ""):
        raise ConfigError(f"{fault}.", SET_AGAIN)
    if not (base := base_url().rstrip("/")):
        return None
    models = _models(f"{base}/models", ("data", "id"), key=value_of("OPENAI_API_KEY"))
    where = f"{base.partition('//')[0]}//{urllib.parse.urlsplit(base).netloc.rpartition('@')[2]}"
    return ModelServer(f"the server at OPENAI_BASE_URL, {where}", "openai", models, "OPENAI_BASE_URL set")


def local_servers() -> Iterator[ModelServer]:
    """Ollama and llama.cpp, at their usual ports or where the environment has LiteLLM look for them.

    One of another person at a usual port is named and not asked.
    """
    base, where, refused = _address(OLLAMA)
    models = () if refused else _models(f"{base}/api/tags", ("models", "name"))
    yield ModelServer(f"Ollama at {where}", "ollama_chat", models, "Ollama running", refused)
    base, where, refused = _address(LLAMA_CPP)
    models = () if refused else _models(f"{base}/models", ("data", "id"), owner="llamacpp")
    yield ModelServer(f"llama.cpp at {where}", "llamafile", models, "llama.cpp running", refused)


def found_models(own: ModelServer | None, others: Iterable[ModelServer]) -> Iterator[Choice]:
    """Models that a user who has set none could ask, the best first.

    The server at `OPENAI_BASE_URL` comes before the keys, because `OPENAI_API_KEY` is then meant for it.
    """
    if own is not None:
        yield from _choices(own)
    for key in keys_set():
        if not (own and key == "OPENAI_API_KEY"):
            chosen = default_model(key)
            yield Choice(chosen.model, f"{key} is set; {chosen.why}", f"{key} set")
    for server in others:
        yield from _choices(server)


def find_model() -> Choice:
    """A model for a user who has set none. Raises `ConfigError` with the ways to set one."""
    others = list[ModelServer]()
    own = own_server()
    if (found := next(found_models(own, _seen(local_servers(), others)), None)) is None:
        why = "" if own is None else f" {own.name[:1].upper()}{own.name[1:]} named no model within a second."
        why += "".join(f" {one.name} is not asked: {one.refused}." for one in others if one.refused)
        raise ConfigError(f"No model is set, and none was found.{why}", NO_MODEL)
    return found


def _seen(servers: Iterable[ModelServer], seen: list[ModelServer]) -> Iterator[ModelServer]:
    for server in servers:
        seen.append(server)
        yield server


def _choices(server: ModelServer) -> Iterator[Choice]:
    for n, name in enumerate(server.models):
        why = f"{'another' if n else 'the first'} model of {server.name}"
        yield Choice(f"{server.provider}/{name}", why, server.needs)


def _address(place: UsualPlace) -> tuple[str, str, str]:
    """The address of a server, what is said of it, and why it is not asked.

    An address that is set can hold a password, so its variable is named.
    """
    given = "" if fault_of(place.variable) else value_of(place.variable)
    if given:
        return given.rstrip("/"), place.variable, ""
    owners = owners_at(place.address)
    refused = f"set {place.variable} to use it" if strangers_at(place.address) else ""
    return place.address, place.address + (f" (of {owners})" if owners else ""), refused


def _models(url: str, path: tuple[str, str], *, key: str = "", owner: str = "") -> tuple[str, ...]:
    """The first models that a server offers; none if it does not answer within a second.

    `owner`: whose models they must be, if another program may be at that port.
    """
    request = urllib.request.Request(url)
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        rows = json.loads(send(request, seconds=1.0, most=LISTING_BYTES))[path[0]][: 10 * MOST_MODELS]
        names = [str(row[path[1]]) for row in rows if not owner or row.get("owned_by") == owner]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ()
    # A name with a space or a line end is none of LiteLLM's; an embedding model does not chat.
    return tuple(n for n in names if re.fullmatch(r"[!-~]{1,200}", n) and "embed" not in n)[:MOST_MODELS]
