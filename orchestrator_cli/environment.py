"""What orch reads from the environment besides its settings: proxies, secrets, addresses, the package index,
the editor, and the marks of runs that other processes have started.
"""

import base64
import contextlib
import importlib.util
import json
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from orchestrator_cli.durable.places import folder_id
from orchestrator_cli.http_requests import LOOPBACK

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


def value_of(name: str) -> str:
    """The value of a variable, such as a key or an address; empty if it is not set."""
    return os.environ.get(name) or ""


# --- what no request can be made with


def fault_of(variable: str) -> str:
    """What is wrong with the key or address in a variable, which is not shown; empty for nothing."""
    value = value_of(variable)
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
