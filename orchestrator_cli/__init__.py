"""A prompt becomes a task graph that runs, builds its missing tools, and changes as results arrive."""

__version__ = "0.1.0"
