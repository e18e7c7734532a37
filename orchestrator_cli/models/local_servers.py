"""Model servers at the usual port of this machine, which another user may have taken before.

A server is at its usual port if no variable names its address. It is sent prompts only if it is the user's
own, of root or of a user of the system. An address that is set is used, whoever listens there.

Not covered: systems without `/proc/net/tcp`, such as macOS, where it is unknown whose it is; a server that
ends and is replaced between the look, which each request makes, and the request.
"""

import os
import pwd
import socket
import urllib.parse
import urllib.request
from contextlib import suppress
from typing import NamedTuple

from orchestrator_cli.durable.peers import listeners
from orchestrator_cli.environment import value_of
from orchestrator_cli.errors import ConfigError


class UsualPlace(NamedTuple):
    variable: str
    """Names another address."""
    address: str


OLLAMA = UsualPlace("OLLAMA_API_BASE", "http://127.0.0.1:11434")
LLAMA_CPP = UsualPlace("LLAMAFILE_API_BASE", "http://127.0.0.1:8080/v1")
USUAL = {
    "ollama": OLLAMA,
    "ollama_chat": OLLAMA,
    "llamafile": LLAMA_CPP,
    "xinference": UsualPlace("XINFERENCE_API_BASE", "http://127.0.0.1:9997/v1"),
    "lemonade": UsualPlace("LEMONADE_API_BASE", "http://127.0.0.1:8000"),
    "docker_model_runner": UsualPlace("DOCKER_MODEL_RUNNER_API_BASE", "http://127.0.0.1:22088"),
    "langgraph": UsualPlace("LANGGRAPH_API_BASE", "http://127.0.0.1:2024"),
    "langflow": UsualPlace("LANGFLOW_API_BASE", "http://127.0.0.1:7860"),
}
"""Where LiteLLM finds the servers of a provider, by its prefix, if nothing is set."""
FIRST_PERSON = 1000
"""Users below are those of the system."""
CONNECT_S = 2.0


def owners_at(address: str) -> str:
    """Whose programs listen at an address of this machine, in words; empty if that is unknown, or none do."""
    found = listeners(urllib.parse.urlsplit(address).port or 0) or ()
    return " and ".join(map(_named, sorted(found)))


def strangers_at(address: str) -> str:
    """The other persons whose programs listen at an address of this machine; empty for none."""
    found = listeners(urllib.parse.urlsplit(address).port or 0) or ()
    return " and ".join(_named(user) for user in sorted(found) if not _is_trusted(user))


def stranger_of(model: str) -> str:
    """Why a model is not to be asked: the usual port of its server is another user's. Empty for nothing."""
    place = USUAL.get(model.partition("/")[0])
    if place is None or value_of(place.variable):
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


def base_url() -> str:
    """The address of the user's own OpenAI-compatible server; empty if none is set."""
    return value_of("OPENAI_BASE_URL") or value_of("OPENAI_API_BASE")


def server_of(provider: str) -> tuple[str, str]:
    """The variable that names the server of a provider, and the address that is set or usual.

    The address is empty if it is the provider's own.
    """
    if provider == "openai":
        return "OPENAI_BASE_URL", base_url()
    place = USUAL.get(provider)
    variable = place.variable if place else f"{provider.upper()}_API_BASE"
    return variable, value_of(variable) or (place.address if place else "")


def bare_address(address: str) -> str:
    """Scheme, host and port of an address, which can hold a password or a key besides."""
    parts = urllib.parse.urlsplit(address)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def connection_fault(address: str) -> str:
    """Why nothing can be connected to at an address; empty if it can, or if a proxy is in between.

    Nothing is sent.
    """
    parts = urllib.parse.urlsplit(address)
    host, scheme = parts.hostname or "", parts.scheme
    if scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return ""
    try:
        port = parts.port or (443 if scheme == "https" else 80)
        socket.create_connection((host, port), timeout=CONNECT_S).close()
    except OSError as exc:
        return exc.strerror or str(exc)
    return ""


def _is_trusted(user: int) -> bool:
    return user == os.geteuid() or user < FIRST_PERSON


def _named(user: int) -> str:
    if user == os.geteuid():
        return "you"
    with suppress(KeyError):
        return pwd.getpwuid(user).pw_name
    return f"user {user}"
