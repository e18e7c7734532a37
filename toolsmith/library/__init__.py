"""The library of proved tools: `folder` holds the files, the other modules what happens to a tool later."""

from toolsmith.library.folder import Library as Library

__all__ = ["Library"]
