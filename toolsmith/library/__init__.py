"""The tools that were proved, as files: `folder` holds them, the rest is what becomes of them later."""

from toolsmith.library.folder import Library as Library

__all__ = ["Library"]
