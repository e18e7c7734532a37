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
from typing import Any, NamedTuple

from orchestrator_cli.default_models import FAMILIES, Choice, default_model, read_list
from orchestrator_cli.errors import ConfigError

_taken: dict[str, str] = {}


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


LOOPBACK = ("127.0.0.1", "localhost", "::1")


def urlopen(request: urllib.request.Request | str, timeout: float, tls: ssl.SSLContext | None = None) -> Any:
    """Open an address; on loopback, without a proxy. Raises `OSError` and `ValueError`.

    Redirects are followed on the same host only, because urllib sends a key along to any.
    """
    url = request if isinstance(request, str) else request.full_url
    direct = urllib.parse.urlsplit(url).hostname in LOOPBACK
    # urllib does not find ::1 in NO_PROXY.
    proxies = [urllib.request.ProxyHandler({})] if direct else []
    context = [urllib.request.HTTPSHandler(context=tls)] if tls else []
    return urllib.request.build_opener(_SameHost, *context, *proxies).open(request, timeout=timeout)


class _SameHost(urllib.request.HTTPRedirectHandler):
    max_redirections = 3

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        here, there = map(urllib.parse.urlsplit, (req.full_url, newurl))
        upgraded = (here.scheme, there.scheme) == ("http", "https")
        if here.hostname != there.hostname or not (upgraded or here[:2] == there[:2]):
            raise urllib.error.URLError(f"{here.netloc} redirects to {there.netloc}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


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


def is_within_a_run() -> bool:
    """Whether a run of another process has started this one."""
    return os.environ.get(_WITHIN) not in (None, str(os.getpid()))


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

OLLAMA = "http://127.0.0.1:11434"
LLAMA_CPP = "http://127.0.0.1:8080/v1"

THREE_WAYS = (
    '  1. orch ask -m anthropic/claude-sonnet-4-6 …   (or ORCH_MODEL, or model = "…" in orch.toml)\n'
    "  2. export a provider's key, such as ANTHROPIC_API_KEY or OPENAI_API_KEY\n"
    "  3. start a local server: Ollama, llama.cpp, or one named by OPENAI_BASE_URL\n"
    "Or see it work without a model: orch demo"
)
NO_MODEL = f"Let orch look for one and keep it: orch init\nOr set one of three ways:\n{THREE_WAYS}"


SET_AGAIN = "Set the variable again, without quotes or line ends, or name another model with -m."

OTHER_NAMES = {
    "ANTHROPIC_API_KEY": ("ANTHROPIC_AUTH_TOKEN",),
    "GEMINI_API_KEY": ("GOOGLE_API_KEY",),
    "OPENROUTER_API_KEY": ("OR_API_KEY",),
}
"""Variables that replace a key."""


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
    provider = _provider_of(model)
    for key, family in FAMILIES.items():
        if family.provider == provider and not any(map(os.environ.get, (key, *OTHER_NAMES.get(key, ())))):
            enough = "; any text is enough for a local server" if provider == "openai" else ""
            return f"{key} is not set{enough}"
    return ""


def malformed(model: str) -> str:
    """What is wrong with the key or address that is set for a model's provider; empty for nothing."""
    provider = _provider_of(model)
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


def _provider_of(model: str) -> str:
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
    return ModelServer("the server at OPENAI_BASE_URL", "openai", models, "OPENAI_BASE_URL set")


def local_servers() -> Iterator[ModelServer]:
    """Ollama and llama.cpp, at their usual ports or where the environment has LiteLLM look for them."""
    base, where = _address("OLLAMA_API_BASE", OLLAMA)
    models = _models(f"{base}/api/tags", ("models", "name"))
    yield ModelServer(f"Ollama at {where}", "ollama_chat", models, "Ollama running")
    base, where = _address("LLAMAFILE_API_BASE", LLAMA_CPP)
    models = _models(f"{base}/models", ("data", "id"), owner="llamacpp")
    yield ModelServer(f"llama.cpp at {where}", "llamafile", models, "llama.cpp running")


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
    if (found := next(found_models(own_server(), local_servers()), None)) is None:
        raise ConfigError("No model is set, and none was found.", NO_MODEL)
    return found


def _choices(server: ModelServer) -> Iterator[Choice]:
    for n, name in enumerate(server.models):
        why = f"{'another' if n else 'the first'} model of {server.name}"
        yield Choice(f"{server.provider}/{name}", why, server.needs)


def _address(variable: str, usual: str) -> tuple[str, str]:
    """The address of a server, and what is said of it: one that is set can hold a password."""
    given = "" if _fault_of(variable) else os.environ.get(variable) or ""
    return (given.rstrip("/"), variable) if given else (usual, usual)


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
