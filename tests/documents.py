"""The scripts of docs/, which is no package, for the tests of what they make."""

import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS))

import command_pages  # noqa: E402
import record  # noqa: E402
from command_pages import Example  # noqa: E402

__all__ = ["DOCS", "Example", "command_pages", "record"]
