"""The worker's program as text: the checkout is not visible inside, so its sources travel."""

from __future__ import annotations

from functools import cache
from importlib import resources

_PACKAGE = "toolsmith.sandbox"
_IN_ORDER_OF_IMPORT = ("codec", "proctree", "landlock", "interpreter", "worker")


@cache
def boot_source() -> str:
    """What the interpreter is given as `-c`."""
    return _source("boot")


@cache
def worker_modules() -> list[tuple[str, str]]:
    """Names and sources of the worker's modules, in the order of import."""
    packages = [("toolsmith", ""), (_PACKAGE, "")]
    return packages + [(f"{_PACKAGE}.{name}", _source(name)) for name in _IN_ORDER_OF_IMPORT]


def _source(name: str) -> str:
    return resources.files(_PACKAGE).joinpath(f"{name}.py").read_text(encoding="utf-8")
