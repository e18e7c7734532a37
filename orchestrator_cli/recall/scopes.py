"""Whose memory a command reads and writes: the user of the settings, in a workspace or in all of them.

What is seen from a scope is decided by `memory.visibility`.
"""

from pathlib import Path

from memory import Scope
from memory.records import LOCAL_USER
from orchestrator_cli.settings import Settings


def user_scope(settings: Settings) -> Scope:
    """Everything of the user, of all workspaces."""
    return Scope(user=settings.memory.owner)


def workspace_scope(workspace: Path, user: str = LOCAL_USER) -> Scope:
    """What belongs to a workspace, or to none."""
    return Scope(user=user, project=str(workspace.resolve()))


def own_scope(settings: Settings) -> Scope:
    """What belongs to the workspace of the settings, or to none."""
    return workspace_scope(settings.workspace, settings.memory.owner)
