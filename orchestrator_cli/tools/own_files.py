"""Which files of a folder are the user's own: not those that git ignores or that a program has put there."""

from collections.abc import Iterable
from pathlib import Path

from orchestrator_cli.durable.ignore_rules import IgnoreRules

PROGRAMS_OWN = frozenset(
    (
        *(".venv", "venv", "node_modules", "bower_components", "site-packages", "__pypackages__"),
        *("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".tox", ".nox", ".eggs"),
        *(".gradle", ".next", ".nuxt", ".turbo", ".terraform", ".ipynb_checkpoints", ".hypothesis"),
    )
)
"""Names of folders that hold what a program installs or keeps for itself, whether git ignores them or not."""


class OwnFiles:
    """The rules of a folder and of the repository around it. They grow with the folders that are entered."""

    def __init__(self, root: Path, view: Path | None = None) -> None:
        """`view`: where the folder's files are read instead, such as in a checkout of it."""
        self._root = str(root).rstrip("/")
        self._rules = IgnoreRules(root, view=view)
        # A repository that ignores the folder, such as one of a home folder's settings, says nothing of it.
        if any(self._rules.ignore(str(folder), True) for folder in (root, *root.parents)):
            self._rules = IgnoreRules(root, alone=True, view=view)

    @property
    def cost(self) -> int:
        """How many patterns a path is compared with."""
        return 1 + self._rules.size

    def enter(self, folder: str, names: Iterable[str]) -> None:
        """Learn the rules of a folder before its content is asked about; paths are relative to the root."""
        if ".gitignore" in names:
            self._rules.enter(Path(self._root, folder))

    def leaves_out(self, path: str, *, is_folder: bool) -> bool:
        """Whether what is at a path, in a folder that is not left out itself, is not the user's own."""
        if is_folder and path.rpartition("/")[2] in PROGRAMS_OWN:
            return True
        return self._rules.ignore(f"{self._root}/{path}", is_folder)
