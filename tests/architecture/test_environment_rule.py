"""Only `settings.py` and `environment.py` read the environment, and only `settings.py` reads TOML.

So `Settings` holds all that a run depends on, and a secret has one way in. The few other places that
touch the environment pass something on to a library or to a process; each is listed here with its reason.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("orchestrator_cli", "memory", "toolsmith")
READERS = {"orchestrator_cli/settings.py", "orchestrator_cli/environment.py"}
EXECUTION = "orchestrator_cli/execution"

EXCEPTIONS = {
    ("orchestrator_cli/models/library.py", "set_variables"): "sets what LiteLLM reads at its import",
    ("orchestrator_cli/models/library.py", "_import_litellm"): "names what LiteLLM does not take",
    (
        "orchestrator_cli/engine/server.py",
        "configure_client",
    ): "sets what Prefect reads at its import",
    ("orchestrator_cli/engine/server.py", "_server_environment"): "makes the server's environment",
    ("orchestrator_cli/durable/places.py", "xdg_folders"): "finds what rules of home folders are about",
    ("orchestrator_cli/views/inline_image.py", "image_protocol"): "finds what the terminal calls itself",
    ("orchestrator_cli/resident/wanted.py", "wanted"): "comes before the settings are read",
    ("orchestrator_cli/resident/wanted.py", "user_folder"): "comes before the settings are read",
    ("orchestrator_cli/resident/wanted.py", "_is_another_user"): "comes before the settings are read",
    ("orchestrator_cli/resident/wanted.py", "_is_in_container"): "comes before the settings are read",
    ("orchestrator_cli/resident/address.py", "key"): "tells what libraries have read at their import",
    ("orchestrator_cli/resident/client.py", "_order"): "hands it over to a worker",
    ("orchestrator_cli/resident/worker.py", "_take_over"): "takes it over from a client",
    ("orchestrator_cli/resident/preload.py", "preload"): "sets what numpy reads at its import",
    ("orchestrator_cli/engine/user_flow.py", "run"): "reads what configure_client has set for the process",
}


def _touches_environment(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(value=ast.Name(id="os"), attr=name):
            return name in {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
        case ast.ImportFrom(module="os", names=names):
            return any(alias.name.startswith(("environ", "getenv")) for alias in names)
    return False


def _uses(node: ast.AST, function: str = "") -> Iterator[str]:
    """The outermost function around each use."""
    for child in ast.iter_child_nodes(node):
        inside = function or (child.name if isinstance(child, ast.FunctionDef) else "")
        if _touches_environment(child):
            yield inside
        yield from _uses(child, inside)


def _sources() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def test_the_environment_is_touched_in_the_named_places_only():
    found = {(name, function) for name, tree in _sources() for function in _uses(tree) if name not in READERS}
    assert found == EXCEPTIONS.keys()


def test_toml_is_read_in_one_place():
    readers = {
        name
        for name, tree in _sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import) and any(alias.name == "tomllib" for alias in node.names)
    }
    assert readers == {
        "orchestrator_cli/config_file.py",
        "orchestrator_cli/tools/manifests.py",  # parts of pyproject.toml
        "orchestrator_cli/resident/wanted.py",  # one setting, before the others are read
    }
