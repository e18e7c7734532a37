"""Every HTTP client is made in one of these places, which give it the rules of `http_requests`.

What is not covered: clients that libraries make themselves. Those of Prefect in a user's own flow, and in a
worker of a team's server, are Prefect's.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("orchestrator_cli", "memory", "toolsmith")
MAKERS = {
    *("Client", "AsyncClient", "HTTPTransport", "AsyncHTTPTransport", "Session", "ClientSession"),
    *("QdrantClient", "AsyncQdrantClient", "get_client", "OpenAI", "AsyncOpenAI", "Apprise"),
    *("urlopen", "build_opener", "HTTPConnection", "HTTPSConnection", "PoolManager", "OTLPSpanExporter"),
    *("sse_client", "streamable_http_client", "websocket_client"),
}
MODULES = {"aiohttp", "requests", "urllib3", "websockets", "websocket", "pycurl", "grpc"}
"""Libraries that may be imported only by a module that has a place below."""

PLACES = {
    ("orchestrator_cli.http_requests", "build_opener"): "is the rules, for urllib",
    ("orchestrator_cli.http_requests", "HTTPConnection"): "is the rules, for urllib",
    ("orchestrator_cli.http_requests", "HTTPSConnection"): "is the rules, for urllib",
    ("orchestrator_cli.http_clients", "Session"): "is the rules, for requests",
    ("orchestrator_cli.engine.connection", "get_client"): "has httpx_options",
    ("orchestrator_cli.schedules.worker_flow", "get_client"): "runs within Prefect's own worker",
    ("orchestrator_cli.views.telemetry", "OTLPSpanExporter"): "has a requests_session",
    ("orchestrator_cli.views.notify_service", "Apprise"): "has a process of its own",
    (
        "orchestrator_cli.models.library",
        "Client",
    ): "rehearses a call, with a transport that never reaches a network",
    (
        "orchestrator_cli.models.library",
        "OpenAI",
    ): "rehearses a call, with a transport that never reaches a network",
    ("orchestrator_cli.tools.web", "Client"): "connects to an address that was checked, with the same limits",
    ("orchestrator_cli.mcp_client.over_http", "AsyncClient"): "bounds bodies, and checks each address",
    ("orchestrator_cli.mcp_client.over_http", "sse_client"): "has the client above",
    ("orchestrator_cli.mcp_client.over_http", "streamable_http_client"): "has the client above",
    ("orchestrator_cli.mcp_client.connection", "Client"): "is of MCP, over a transport that was made above",
    ("memory.server", "QdrantClient"): "is given httpx_options",
}


def _sources() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def _made(tree: ast.Module) -> Iterator[str]:
    """The names of makers that are called, or from which classes are derived."""
    for node in ast.walk(tree):
        used = (
            [node.func]
            if isinstance(node, ast.Call)
            else node.bases
            if isinstance(node, ast.ClassDef)
            else []
        )
        for one in used:
            name = one.attr if isinstance(one, ast.Attribute) else one.id if isinstance(one, ast.Name) else ""
            if name in MAKERS:
                yield name


def test_http_clients_are_made_in_the_named_places_only() -> None:
    assert {(module, name) for module, tree in _sources() for name in _made(tree)} == PLACES.keys()


def test_libraries_of_http_have_no_other_home() -> None:
    homes = {module for module, _ in PLACES}
    others = [
        (module, name)
        for module, tree in _sources()
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        if name.partition(".")[0] in MODULES and module not in homes
    ]
    assert not others
