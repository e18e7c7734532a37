"""Names in a workspace that no subtask reads or writes, wherever they stand.

They may hold secrets, or the host executes or trusts them later. The user may allow single ones
by name, but not those that `orch` itself writes and trusts.
"""

import fnmatch
from collections.abc import Collection

PROTECTED = (".git", ".hg", ".svn", ".env*", "fileLog.md", "orch.toml", ".pre-commit-config.yaml")


OURS = ("fileLog.md", "orch.toml")


def is_protected(name: str, allowed: Collection[str] = ()) -> bool:
    """True of one component of a path, such as `.git` or `.env.local`, unless it is `allowed`."""
    if name in allowed and name not in OURS:
        return False
    return any(fnmatch.fnmatch(name, pattern) for pattern in PROTECTED)
