"""What orch reads from the environment besides its settings: proxies, secrets, the package index, the editor,
and the model that a provider's key or a local server implies.

Provider keys are looked for by name when no model is set. Their values go from the environment to the
provider's library; here they are only checked for what no request can carry.

Not covered: whether a key may use the model that is found.
"""

import base64
import contextlib
import importlib.util
import json
import os
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from orchestrator_cli.default_models import (
    FAMILIES,
    NO_MODEL,
    OTHER_NAMES,
    SET_AGAIN,
    Choice,
    default_model,
    read_list,
)
from orchestrator_cli.durable.places import folder_id
from orchestrator_cli.errors import ConfigError
from orchestrator_cli.http_requests import LOOPBACK, urlopen
from orchestrator_cli.local_servers import LLAMA_CPP, OLLAMA, USUAL, UsualPlace, owners_at, strangers_at

_taken: dict[str, str] = {}
_given: dict[str, str] = {}


def remember_given() -> None:
    """Keep the environment as this command was given it, before it and its libraries change it."""
    _given.clear()
    _given.update(os.environ)


def for_another_orch() -> dict[str, str]:
    """The environment of an `orch` that this one starts: what the user set, so one resident runs both."""
    return dict(_given or os.environ)


def take_from_libraries(is_taken: Callable[[str], bool]) -> None:
    """Remove the variables that a library would read; the user's own programs still get them."""
    for name in filter(is_taken, [*os.environ]):
        _taken[name] = os.environ.pop(name)


def forget_taken() -> None:
    """For a process that goes on with the environment of another."""
    _taken.clear()


def is_of_prefect(name: str) -> bool:
    """Whether Prefect, or its telemetry, reads a variable."""
    return name.upper().startswith(("PREFECT_", "OTEL_"))


def for_programs() -> dict[str, str]:
    """The environment of the user's own programs; their Prefect is the run's."""
    theirs = filter(lambda row: not row[0].upper().startswith("PREFECT_"), _taken.items())
    return {**dict(theirs), **os.environ}


def shell_folder() -> Path:
    """The current folder, by the name that the shell has for it."""
    named, here = os.environ.get("PWD", ""), Path.cwd()
    is_it = os.path.isabs(named) and folder_id(named) == folder_id(here)  # noqa: PTH117 - may be empty
    return Path(named) if is_it else here


def use_whole_paths_only() -> None:
    """Look for programs in folders that `PATH` names by a whole path, here and in what this process starts.

    A relative entry, or an empty one, would find the programs of whatever folder a run works on.
    """
    entries = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(filter(os.path.isabs, entries))


def spare_loopback_the_proxy() -> None:
    """Let this process and those it starts reach loopback without the proxy that the environment sets.

    Libraries read `NO_PROXY` at different times, so call this before they are imported.
    """
    proxies = urllib.request.getproxies_environment()
    # Without a proxy nothing has to change, and on macOS the variable would hide the system's own proxy.
    if not proxies.keys() - {"no"} or proxies.get("no") == "*":
        return
    named = (name.strip().strip("[]") for name in proxies.get("no", "").split(","))
    # httpx takes no networks of IPv6, and raises for them when a client is made.
    spared = [name for name in named if name and not (name.count(":") > 1 and "/" in name)]
    value = ",".join([*spared, *(name for name in LOOPBACK if name not in spared)])
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = value


# --- the user's own Prefect server


def prefect_headers() -> dict[str, str]:
    """What each request to the user's own Prefect server has, such as a password. Raises `ValueError`."""
    headers = json.loads(os.environ.get("PREFECT_CLIENT_CUSTOM_HEADERS") or "{}")
    if not isinstance(headers, dict):
        raise ValueError("PREFECT_CLIENT_CUSTOM_HEADERS is not a JSON object")
    if password := os.environ.get("PREFECT_API_AUTH_STRING"):
        headers["Authorization"] = f"Basic {base64.b64encode(password.encode()).decode()}"
    elif key := os.environ.get("PREFECT_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    return {str(name): str(value) for name, value in headers.items()}


def prefect_tls() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=os.environ.get("PREFECT_API_SSL_CERT_FILE") or None)
    if os.environ.get("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "").lower() in ("1", "true", "t", "yes", "on"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


# --- runs within runs

HOOKED = "ORCH_HOOKED"
"""Set for the programs that are started at events, so that an `orch` of theirs starts none."""


def is_from_a_hook() -> bool:
    """Whether a program that was started at an event of a run has started this process."""
    return HOOKED in os.environ


_WITHIN = "ORCH_WITHIN"
_DEPLOYED = "ORCH_DEPLOYED_RUN"


def is_within_a_run() -> bool:
    """Whether a run of another process has started this one."""
    return os.environ.get(_WITHIN) not in (None, str(os.getpid()))


def name_deployed_run(run: str) -> None:
    """Let the process of a run know that a worker of Prefect sets the states of its flow run."""
    os.environ[_DEPLOYED] = run


def is_deployed_run(run: str) -> bool:
    """Whether a worker of Prefect has this run done, and sets the states of its flow run."""
    return os.environ.get(_DEPLOYED) == run


def mark_what_is_started() -> None:
    """Let the processes that this one starts know that they are within a run."""
    os.environ[_WITHIN] = str(os.getpid())


# --- secrets and the package index


def read_secret(name: str) -> str | None:
    """The value of a secret that a tool may be given; None if it is not set."""
    return os.environ.get(name) or None


def package_index() -> dict[str, str]:
    """Variables for uv with the package index that the user has set for pip, unless one is set for uv."""
    found = {}
    for wanted, others, theirs in _PIPS:
        value = " ".join(os.environ.get(theirs, "").split())
        if value and not any(os.environ.get(name) for name in (wanted, *others)):
            found[wanted] = value.replace(" ", ",") if wanted == "UV_FIND_LINKS" else value
    return found


_PIPS = (
    ("UV_DEFAULT_INDEX", ("UV_INDEX_URL",), "PIP_INDEX_URL"),
    ("UV_EXTRA_INDEX_URL", ("UV_INDEX",), "PIP_EXTRA_INDEX_URL"),
    ("UV_FIND_LINKS", (), "PIP_FIND_LINKS"),
    ("SSL_CERT_FILE", (), "PIP_CERT"),
)


SEARCH_KEYS = {
    "tavily": "TAVILY_API_KEY",
    "brave": "BRAVE_API_KEY",
    "exa_ai": "EXA_API_KEY",
    "serper": "SERPER_API_KEY",
    "linkup": "LINKUP_API_KEY",
    "perplexity": "PERPLEXITYAI_API_KEY",
}
"""The keys of services that search the web, in the order of preference."""


def search_provider() -> str | None:
    """The first search service whose key is set."""
    return next((name for name, key in SEARCH_KEYS.items() if os.environ.get(key)), None)


def editor() -> str:
    """The command of the user's editor."""
    return os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"


# --- finding a model when none is set

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
        if family.provider == provider and not any(map(os.environ.get, (key, *OTHER_NAMES.get(key, ())))):
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
    return next(filter(None, map(_fault_of, variables)), "")


def network_fault() -> str:
    """What is wrong with the certificates and proxies that the environment names; empty for nothing."""
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR"):
        if (value := os.environ.get(name)) and not Path(value).exists():
            return f"{name} names {value}, which is not there"
    if (given := os.environ.get("SSL_CERT_FILE")) and (fault := _certificates_fault(given)):
        return fault
    if keys := os.environ.get("SSLKEYLOGFILE"):
        try:
            Path(keys).open("ab").close()  # Python does so for each connection
        except OSError as exc:
            return f"SSLKEYLOGFILE names {keys}, which cannot be written: {exc.strerror}"
    for scheme, value in urllib.request.getproxies_environment().items():
        name = f"{scheme}_proxy".upper()
        parts = urllib.parse.urlsplit(value if "://" in value else f"http://{value}")
        if scheme == "no":
            continue
        if parts.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
            return f"{name} is a SOCKS proxy, which needs the package socksio beside orch"
        if not parts.scheme.startswith(("http", "socks")) or not parts.hostname:
            return f"{name} is not the address of a proxy"
    return ""


def _certificates_fault(name: str) -> str:
    try:
        if not Path(name).is_file():  # a pipe would be waited for
            return f"SSL_CERT_FILE names {name}, which is not a file"
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(name)
    except OSError as exc:
        return f"SSL_CERT_FILE names {name}, of which no certificate can be read: {exc.strerror or exc}"
    return ""


def provider_of(model: str) -> str:
    """LiteLLM's prefix of a model, or the provider in its list."""
    provider, slash, _ = model.partition("/")
    return provider if slash else str(read_list().get(model, {}).get("litellm_provider"))


def base_url() -> str:
    """The address of the user's own OpenAI-compatible server; empty if none is set."""
    return os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_BASE") or ""


def _fault_of(variable: str) -> str:
    """What is wrong with a key or an address. Neither is shown."""
    value = os.environ.get(variable) or ""
    if wrong := next((char for char in value if not " " <= char <= "~"), ""):
        what = "a line end" if wrong in "\r\n" else f"the character U+{ord(wrong):04X}"
        return f"{variable} contains {what}, which cannot be sent"
    if value != value.strip():
        return f"{variable} begins or ends with a space"
    if value and variable.endswith(("_BASE", "_URL")):
        with contextlib.suppress(ValueError):
            parts = urllib.parse.urlsplit(value)
            if parts.scheme in ("http", "https") and parts.hostname and " " not in value and parts.port != 0:
                return ""
        return f"{variable} is not an address that begins with http:// or https://"
    return ""


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
    return tuple(filter(os.environ.get, FAMILIES))


def own_server() -> ModelServer | None:
    """The server at `OPENAI_BASE_URL`; None if none is set. Raises `ConfigError` if it is not an address."""
    if fault := next(filter(None, map(_fault_of, ("OPENAI_BASE_URL", "OPENAI_API_BASE"))), ""):
        raise ConfigError(f"{fault}.", SET_AGAIN)
    if not (base := base_url().rstrip("/")):
        return None
    models = _models(f"{base}/models", ("data", "id"), key=os.environ.get("OPENAI_API_KEY") or "")
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
    if (found := next(found_models(own_server(), _seen(local_servers(), others)), None)) is None:
        refused = "".join(f" {one.name} is not asked: {one.refused}." for one in others if one.refused)
        raise ConfigError(f"No model is set, and none was found.{refused}", NO_MODEL)
    return found


def _seen(servers: Iterable[ModelServer], seen: list[ModelServer]) -> Iterator[ModelServer]:
    for server in servers:
        seen.append(server)
        yield server


def stranger_of(model: str) -> str:
    """Why a model is not to be asked: the usual port of its server is another user's. Empty for nothing."""
    place = USUAL.get(model.partition("/")[0])
    if place is None or os.environ.get(place.variable):
        return ""
    who = strangers_at(place.address)
    return f"at {place.address} listens a program of {who}, which would be sent your prompts" if who else ""


def check_stranger(model: str) -> None:
    """Raise `ConfigError` as `stranger_of` says."""
    if why := stranger_of(model):
        place = USUAL[model.partition("/")[0]]
        raise ConfigError(
            f"{model} cannot be asked: {why}.",
            f"Have your own server listen there, or set {place.variable} if you mean that one.",
        )


def _choices(server: ModelServer) -> Iterator[Choice]:
    for n, name in enumerate(server.models):
        why = f"{'another' if n else 'the first'} model of {server.name}"
        yield Choice(f"{server.provider}/{name}", why, server.needs)


def _address(place: UsualPlace) -> tuple[str, str, str]:
    """The address of a server, what is said of it, and why it is not asked.

    An address that is set can hold a password, so its variable is named.
    """
    given = "" if _fault_of(place.variable) else os.environ.get(place.variable) or ""
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
        with urlopen(request, timeout=1.0) as reply:
            rows = json.loads(reply.read(LISTING_BYTES))[path[0]][: 10 * MOST_MODELS]
        names = [str(row[path[1]]) for row in rows if not owner or row.get("owned_by") == owner]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ()
    # A name with a space or a line end is none of LiteLLM's; an embedding model does not chat.
    return tuple(n for n in names if re.fullmatch(r"[!-~]{1,200}", n) and "embed" not in n)[:MOST_MODELS]
