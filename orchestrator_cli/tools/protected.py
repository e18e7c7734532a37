"""Names in a workspace that no subtask reads or writes, wherever they stand.

They may hold secrets, or the host executes or trusts them later.
"""

import fnmatch

PROTECTED = (".git", ".hg", ".svn", ".env*", "fileLog.md", "orch.toml", ".pre-commit-config.yaml")


def is_protected(name: str) -> bool:
    """True of one component of a path, such as `.git` or `.env.local`."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in PROTECTED)
