"""Tools with network and secrets: declared, allowed, tried with exactly that, and kept apart."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from toolsmith.build import build_tool
from toolsmith.built import CaseResult, TrialReport
from toolsmith.errors import PermissionRefused, ToolNotBuilt
from toolsmith.library import Library
from toolsmith.permissions import Permissions
from toolsmith.proof.checker import check
from toolsmith.sandbox import SandboxError, SandboxExecutor
from toolsmith.sandbox.proxy import Dialer
from toolsmith.smolagents_tools import SandboxedTool, describe
from toolsmith.spec import Need, ToolSpec

KEY = "s3cr3t-of-the-weather"
LOOPBACK = Dialer(resolve=lambda host, port: ["127.0.0.1"], allowed=lambda address: True)
CODE = '''import os
import urllib.request

from smolagents import tool


@tool
def weather(city: str) -> str:
    """Say what the weather is in a city.

    Args:
        city: The city's name.

    Returns:
        What the server says.
    """
    if not city:
        raise ValueError("the city is empty")
    request = urllib.request.Request(f"http://DOMAIN/{city}")
    request.add_header("X-Key", os.environ["WEATHER_KEY"])
    with urllib.request.urlopen(request, timeout=30) as reply:
        return reply.read().decode()
'''


def raw(domain: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": "weather",
        "purpose": "Say what the weather is in a city.",
        "inputs": {"city": {"type": "string", "description": "The city's name."}},
        "output_type": "string",
        "output_description": "What the server says.",
        "errors": [{"type": "ValueError", "when": "the city is empty"}],
        "network": [domain],
        "secrets": ["WEATHER_KEY"],
        "examples": [{"title": "a city", "arguments": {"city": "Bern"}, "check": "len(value) > 0"}],
    } | changes


SUITE = {
    "cases": [
        {"title": "another", "arguments": {"city": "Rome"}, "check": "len(value) > 0"},
        {"title": "a third", "arguments": {"city": "Oslo"}, "check": "'Oslo' in value"},
        {"title": "no city", "arguments": {"city": ""}, "error": "ValueError"},
    ]
}


class Weather(http.server.BaseHTTPRequestHandler):
    """Says the city and the key it was given."""

    def do_GET(self) -> None:
        body = f"{self.path}: sunny for {self.headers['X-Key']}".encode()
        self.server.seen.append(self.headers["X-Key"])  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def server() -> Iterator[Any]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Weather) as server:
        server.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


NEED = Need(name="weather", purpose="the weather of a city, from DOMAIN")
WriteModel = Callable[..., Any]


def replies(domain: str) -> tuple[str, str, str]:
    code = f"```python\n{CODE.replace('DOMAIN', domain)}```"
    return f"```json\n{json.dumps(raw(domain))}\n```", f"```json\n{json.dumps(SUITE)}\n```", code


def test_a_trial_has_exactly_what_was_permitted_and_its_secret_leaves_nowhere(
    library: Library, model: WriteModel, server: Any
) -> None:
    domain, asked = f"api.example.org:{server.server_port}", list[ToolSpec]()

    def permit(spec: ToolSpec) -> Permissions:
        asked.append(spec)
        return Permissions(spec.network, {"WEATHER_KEY": KEY})

    complete = model(*replies(domain))
    built = build_tool(NEED, complete=complete, library=library, permit=permit, dialer=LOOPBACK)
    assert built.trial.passed
    assert [spec.secrets for spec in asked] == [("WEATHER_KEY",)]
    assert server.seen == [KEY, KEY, KEY]
    kept = "".join(path.read_text() for path in library.root.rglob("v1/*"))
    assert KEY not in kept + repr(permit(built.spec)) + "".join(complete.prompts)
    assert library.get("weather") == built
    assert '`os.environ["WEATHER_KEY"]`' in complete.prompts[2]
    assert domain in complete.prompts[2]


def test_what_is_not_permitted_is_refused_before_any_code_is_written(
    library: Library, model: WriteModel
) -> None:
    def permit(_: ToolSpec) -> Permissions:
        raise PermissionRefused("the user did not allow api.example.org")

    complete = model(*replies("api.example.org"))
    with pytest.raises(ToolNotBuilt, match=r"the user did not allow api\.example\.org"):
        build_tool(NEED, complete=complete, library=library, permit=permit)
    assert len(complete.prompts) == 1
    assert library.list() == ()


def test_without_a_permit_every_grant_is_refused(library: Library, model: WriteModel) -> None:
    with pytest.raises(ToolNotBuilt, match=r"network: api\.example\.org; secrets: WEATHER_KEY"):
        build_tool(NEED, complete=model(*replies("api.example.org")), library=library)


@pytest.mark.parametrize(
    "changes",
    [{"network": ["127.0.0.1"]}, {"network": ["org"]}, {"secrets": ["PATH"]}, {"secrets": ["HTTP_PROXY"]}],
)
def test_a_specification_cannot_ask_for_what_can_never_be_granted(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not a domain that can be granted|a secret cannot be called"):
        ToolSpec.model_validate(raw("api.example.org", **changes))


ALLOWED = ToolSpec.model_validate(raw("api.example.org"))
PLAIN = ToolSpec.model_validate(raw("api.example.org", network=[], secrets=[]))


def test_clients_and_declared_secrets_are_for_tools_that_declare_them() -> None:
    assert check(CODE, ALLOWED) == ()
    faults = "\n".join(check(CODE, PLAIN))
    assert "urllib.request is imported: a tool has no network" in faults
    assert "os.environ is imported: a tool has no environment" in faults


@pytest.mark.parametrize(
    "reading", ['os.environ["HOME"]', "dict(os.environ)", 'os.getenv("AWS_KEY")', "os.environ[city]"]
)
def test_of_the_environment_nothing_else_is_read(reading: str) -> None:
    (fault,) = check(CODE.replace('os.environ["WEATHER_KEY"]', reading), ALLOWED)
    assert 'only os.environ["NAME"] can be read, with NAME one of WEATHER_KEY' in fault


@pytest.mark.parametrize("reading", ['os.environ.get("WEATHER_KEY", "")', 'os.getenv("WEATHER_KEY")'])
def test_a_declared_secret_is_read_in_any_of_the_usual_ways(reading: str) -> None:
    assert check(CODE.replace('os.environ["WEATHER_KEY"]', reading), ALLOWED) == ()


def test_other_modules_of_the_network_stay_forbidden() -> None:
    assert "socket is imported" in check(f"import socket\n{CODE}", ALLOWED)[0]


def test_agent_sees_what_a_tool_reaches() -> None:
    assert describe(ALLOWED).endswith("It alone has network: api.example.org; secrets: WEATHER_KEY.")
    assert "It alone" not in describe(PLAIN)


class Recording:
    """The sandbox of a privileged tool, as far as a test needs to know who calls it."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def call_tool(self, source: str, function: str, arguments: dict[str, Any]) -> Any:
        self.calls.append(arguments)
        return "sunny"


def test_agent_code_gets_a_call_to_the_host_and_not_the_tool(
    library: Library, sample: Any, tmp_path: Any
) -> None:
    built = library.add(ALLOWED, CODE.replace("DOMAIN", "api.example.org"), passed(ALLOWED), sample.origin)
    own = Recording()
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    with SandboxExecutor(workspace) as executor:
        executor.send_tools({"weather": SandboxedTool(built, own)})
        assert executor('weather(city="Bern")').output == "sunny"
        with pytest.raises(SandboxError, match="KeyError"):
            executor('import os\nos.environ["WEATHER_KEY"]')
    assert own.calls == [{"city": "Bern"}]


def passed(spec: ToolSpec) -> TrialReport:
    results = (CaseResult(title=case.title, passed=True, detail="", seconds=0.1) for case in spec.examples)
    return TrialReport(passed=True, results=tuple(results))
