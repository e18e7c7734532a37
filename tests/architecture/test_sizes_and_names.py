"""One name for one thing, and files that can be read in one go.

The two lists of exceptions may only get shorter.
"""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("orchestrator_cli", "memory", "toolsmith")
MAX_LINES = 450
MAX_SHARED_NAMES = 3

LONG_MODULES_LEFT: set[str] = set()
SHARED_NAMES: set[str] = set()
"""At most `MAX_SHARED_NAMES`."""
SHARED_NAMES_LEFT: set[str] = set()
"""More than are allowed, until they are renamed."""

SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
}


def test_no_module_is_too_long() -> None:
    long = {name for name, text in SOURCES.items() if text.count("\n") > MAX_LINES}
    assert long <= LONG_MODULES_LEFT


def test_a_class_name_is_used_in_one_module_only() -> None:
    homes = defaultdict(set)
    for name, text in SOURCES.items():
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef):
                homes[node.name].add(name)
    shared = {name: modules for name, modules in homes.items() if len(modules) > 1}
    assert shared.keys() <= SHARED_NAMES | SHARED_NAMES_LEFT
    assert len(SHARED_NAMES) <= MAX_SHARED_NAMES
