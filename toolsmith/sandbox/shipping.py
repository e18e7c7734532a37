"""The worker's program on its way in: the checkout is not visible inside, so its code travels."""

import marshal
import types
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

_PACKAGE = "toolsmith.sandbox"
_IN_ORDER_OF_IMPORT = ("codec", "proctree", "landlock", "interpreter", "worker")


@cache
def boot_source() -> str:
    """What the interpreter is given as `-c`."""
    return _source("boot")


@cache
def attempts_source() -> str:
    """The attempts to get out, as code for a step; its last line is the caller's."""
    return _source("attempts")


def first_frame(settings: Mapping[str, Any]) -> bytes:
    """What boot.py reads: the worker's modules and its settings."""
    body = marshal.dumps((_worker_modules(), dict(settings)))
    return len(body).to_bytes(4, "big") + body


@cache
def _worker_modules() -> list[tuple[str, types.CodeType]]:
    packages = [("toolsmith", ""), (_PACKAGE, "")]
    sources = packages + [(f"{_PACKAGE}.{name}", _source(name)) for name in _IN_ORDER_OF_IMPORT]
    return [(name, compile(source, f"<{name}>", "exec", dont_inherit=True)) for name, source in sources]


def _source(name: str) -> str:
    return resources.files(_PACKAGE).joinpath(f"{name}.py").read_text(encoding="utf-8")
