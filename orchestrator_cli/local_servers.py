"""Model servers at the usual port of this machine, which another user may have taken before.

A server is at its usual port if no variable names its address. It is sent prompts only if it is the user's
own, of root or of a user of the system. An address that is set is used, whoever listens there.

Not covered: systems without `/proc/net/tcp`, such as macOS, where it is unknown whose it is; a server that
ends and is replaced between the look, which each request makes, and the request.
"""

import os
import pwd
import urllib.parse
from contextlib import suppress
from typing import NamedTuple

from orchestrator_cli.durable.peers import listeners


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


def owners_at(address: str) -> str:
    """Whose programs listen at an address of this machine, in words; empty if that is unknown, or none do."""
    found = listeners(urllib.parse.urlsplit(address).port or 0) or ()
    return " and ".join(map(_named, sorted(found)))


def strangers_at(address: str) -> str:
    """The other persons whose programs listen at an address of this machine; empty for none."""
    found = listeners(urllib.parse.urlsplit(address).port or 0) or ()
    return " and ".join(_named(user) for user in sorted(found) if not _is_trusted(user))


def _is_trusted(user: int) -> bool:
    return user == os.geteuid() or user < FIRST_PERSON


def _named(user: int) -> str:
    if user == os.geteuid():
        return "you"
    with suppress(KeyError):
        return pwd.getpwuid(user).pw_name
    return f"user {user}"
