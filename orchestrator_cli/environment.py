"""What orch reads from the environment besides its settings: proxies, secrets, the package index, the editor,
and the model that a provider's key or a local server implies.

Provider keys are looked for by name when no model is set. Their values go from the environment to the
provider's library; here they are only checked for what no request can carry.

The default model for a provider's key is chosen from LiteLLM's list. Each provider has one family, such as
`claude-sonnet-*`. Of its models that chat, call tools and are not past their `deprecation_date`, the one with
the highest version is chosen: a model that retires is left on its day, and an update of LiteLLM brings its
successor. `*` is a version such as `4-5`; a point in it is a decimal point (grok-4.20 came before grok-4.3).
Names with a date are snapshots of others, and are passed over.

LiteLLM takes seconds to import, so its file is read without it.

Not covered: whether a key may use the model, and what changed after the installed LiteLLM was released.
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator_cli.errors import ConfigError

LIST = "model_prices_and_context_window_backup.json"
_VERSION = r"(\d{1,2}(?:[.-]\d{1,2})?)"

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


# --- the default model of a provider


@dataclass(frozen=True)
class Family:
    """A provider by LiteLLM's prefix, and the names of its models that may be chosen."""

    provider: str
    pattern: str
    """A name without the prefix, with at most one `*`."""
    fallback: str
    """The name that is taken if the list has none, or cannot be read."""


@dataclass(frozen=True)
class Choice:
    model: str
    """By LiteLLM's name, with the prefix."""
    why: str


FAMILIES = {
    "ANTHROPIC_API_KEY": Family("anthropic", "claude-sonnet-*", "claude-sonnet-4-6"),
    "OPENAI_API_KEY": Family("openai", "gpt-*-mini", "gpt-5-mini"),
    "GEMINI_API_KEY": Family("gemini", "gemini-pro-latest", "gemini-pro-latest"),
    "MISTRAL_API_KEY": Family("mistral", "mistral-medium-latest", "mistral-medium-latest"),
    "DEEPSEEK_API_KEY": Family("deepseek", "deepseek-v*-flash", "deepseek-v4-flash"),
    "XAI_API_KEY": Family("xai", "grok-*", "grok-4.3"),
    "GROQ_API_KEY": Family("groq", "openai/gpt-oss-120b", "openai/gpt-oss-120b"),
    # LiteLLM lists no models of OpenRouter, which chooses one itself.
    "OPENROUTER_API_KEY": Family("openrouter", "auto", "auto"),
}
"""The provider keys that are looked for, in this order, and the model of each."""


def newest(family: Family, listed: Mapping[str, Mapping[str, Any]], today: date) -> Choice:
    """The model of a family to use on a day. `listed` is LiteLLM's list: what is known of models, by name."""
    shape = re.compile(re.escape(family.pattern).replace(r"\*", _VERSION))
    versions = {}
    for name, known in listed.items():
        bare = name.removeprefix(f"{family.provider}/")
        if (match := shape.fullmatch(bare)) and _serves(family, known, today):
            versions[bare] = tuple(map(float, "".join(match.groups()).split("-"))) if match.groups() else ()
    if not versions:
        return Choice(f"{family.provider}/{family.fallback}", "LiteLLM's list has no model to choose from")
    chosen = max(versions, key=lambda bare: (versions[bare], bare))
    return Choice(
        f"{family.provider}/{chosen}",
        f"the newest {family.pattern} in LiteLLM's list that is not retired"
        if "*" in family.pattern
        else "in LiteLLM's list and not retired",
    )


def default_model(key: str) -> Choice:
    """The default model of the provider whose key has this name."""
    return newest(FAMILIES[key], read_list(), datetime.now(UTC).date())


def retirement(model: str, listed: Mapping[str, Mapping[str, Any]]) -> date | None:
    """The day on which a model retires, by its `deprecation_date` in LiteLLM's list; None if it has none."""
    known = listed.get(model) or listed.get(model.partition("/")[2]) or {}
    try:
        return date.fromisoformat(str(known.get("deprecation_date")))
    except ValueError:
        return None


@cache
def read_list() -> Mapping[str, Mapping[str, Any]]:
    """LiteLLM's list as it is installed; empty if it cannot be read."""
    try:
        found = importlib.util.find_spec("litellm")
        if found is None or found.origin is None:
            return {}
        listed = json.loads(Path(found.origin).with_name(LIST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: known for name, known in listed.items() if isinstance(known, dict)}


def _serves(family: Family, known: Mapping[str, Any], today: date) -> bool:
    return (
        known.get("litellm_provider") == family.provider
        and known.get("mode") == "chat"
        and known.get("supports_function_calling") is True
        # Days in ISO 8601 sort as text.
        and today.isoformat() <= str(known.get("deprecation_date") or "9999")
    )


# --- finding a model when none is set

OLLAMA = "http://127.0.0.1:11434"

NO_MODEL = (
    "Set one of three ways:\n"
    '  1. orch ask -m anthropic/claude-sonnet-4-6 …   (or ORCH_MODEL, or model = "…" in orch.toml)\n'
    "  2. export a provider's key, such as ANTHROPIC_API_KEY or OPENAI_API_KEY\n"
    "  3. start a local server: Ollama, or any OpenAI-compatible one named by OPENAI_BASE_URL\n"
    "Or see it work without a model: orch demo"
)


SET_AGAIN = "Set the variable again, without quotes or line ends, or name another model with -m."

OTHER_NAMES = {
    "ANTHROPIC_API_KEY": ("ANTHROPIC_AUTH_TOKEN",),
    "GEMINI_API_KEY": ("GOOGLE_API_KEY",),
    "OPENROUTER_API_KEY": ("OR_API_KEY",),
}
"""Variables that replace a key."""


_COMMON = frozenset({family.provider for family in FAMILIES.values()} | {"ollama_chat"})
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


def find_model() -> Choice:
    """A model for a user who has set none. Raises `ConfigError` with the three ways to set one.

    `OPENAI_BASE_URL` comes before the keys, because `OPENAI_API_KEY` is then meant for that server.
    """
    if fault := next(filter(None, map(_fault_of, ("OPENAI_BASE_URL", "OPENAI_API_BASE"))), ""):
        raise ConfigError(f"{fault}.", SET_AGAIN)
    base = base_url()
    if base and (name := _first_model(f"{base.rstrip('/')}/models", ("data", "id"))):
        return Choice(f"openai/{name}", "the first model of the server at OPENAI_BASE_URL")
    for key in FAMILIES:
        if os.environ.get(key) and not (base and key == "OPENAI_API_KEY"):
            chosen = default_model(key)
            return Choice(chosen.model, f"{key} is set; {chosen.why}")
    if name := _first_model(f"{OLLAMA}/api/tags", ("models", "name")):
        return Choice(f"ollama_chat/{name}", f"the first model of Ollama at {OLLAMA}")
    raise ConfigError("No model is set, and none was found.", NO_MODEL)


LISTING_BYTES = 10_000_000
"""What is read of a server's list of models."""


def _first_model(url: str, path: tuple[str, str]) -> str | None:
    """The first model that a local server offers; None if it does not answer within a second."""
    request = urllib.request.Request(url)
    if key := os.environ.get("OPENAI_API_KEY"):
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urlopen(request, timeout=1.0) as reply:
            rows = json.loads(reply.read(LISTING_BYTES))[path[0]]
        return str(rows[0][path[1]])
    except (OSError, ValueError, LookupError, TypeError):
        return None
