"""A checkout by an overlay mount, for workspaces too large to copy: about 20 ms, whatever the size.

A small process owns a user namespace and a mount namespace. In it, the workspace (the read-only
lower layer) and the checkout's folder (the upper layer, for all that is written) are mounted as
one view over the checkout's folder. So that path shows two things: inside the namespace, where
the sandbox is started, the whole view; outside, only the changes, which the commit reads. The
host reads the whole view through a descriptor. The process ends when its parent closes a pipe,
and the mount ends with the last process in the namespace.

Unlike a copy, such a view is not a snapshot. The kernel does not define what happens to files
that change below a mount; in practice a reader sees the old or the new file, since commits
replace whole files. Conflicts are still found, because what the subtask wrote is compared
with the workspace as it was at the checkout. Protected names that existed then are hidden; one
that is created while the view is open can be read in it (it is never committed). A folder of the
workspace cannot be renamed in one step (`os.rename` fails with EXDEV; `shutil.move` and `mv` work).

Not covered, so that overlays are unavailable: files of other owners, paths with `,`, `:`, `\\` or
`"`, and a state folder that is in the workspace or on an overlay itself, as in many containers.
"""

import contextlib
import os
import select
import shutil
import stat
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable
from pathlib import Path

from orchestrator_cli.errors import RecoverableError
from orchestrator_cli.workspace.file_state import FileStat, FileTree
from orchestrator_cli.workspace.tree import FOLDER, Root, stat_at

START_S = 5.0
_PROGRAMS = ("unshare", "nsenter", "mount", "sh", "cat")
_WHERE = "/usr/sbin:/usr/bin:/sbin:/bin"
_MOUNT = '"$1" -t overlay overlay -o "$2" "$3" && echo ready && exec "$4" >&2'
_ENTER = 'cd "$0" && exec "$@"'


class NoOverlay(RecoverableError):
    """Overlays are unavailable here; the message says why."""


class Overlay:
    """One mounted view. `view` is all of it, for the host; `changes` is the folder of what was written."""

    def __init__(self, lower: Root, changes: Path, work: Path) -> None:
        """Mount `lower` below the folder `changes`, which outside stays as it is. Raises `NoOverlay`."""
        self.changes = changes
        self._fd: int | None = None
        self._programs = _programs()
        # The process is started in the open folder: its path may lead elsewhere meanwhile.
        options = f"lowerdir=.,upperdir={changes},workdir={work},userxattr"
        if any(sign in f"{changes}" for sign in ',:\\"'):
            raise NoOverlay("a path contains one of , : \\ and quotes")
        program = self._programs
        self._holder = subprocess.Popen(
            [
                *(program["unshare"], "--user", "--map-root-user", "--mount", "--propagation", "private"),
                *("--", program["sh"], "-c", _MOUNT, "sh"),
                *(program["mount"], options, str(changes), program["cat"]),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=lower.place,
            env={"PATH": _WHERE},
            start_new_session=True,
        )
        try:
            self._await_ready()
            self._fd = self._open_view()
        except BaseException:
            self.close()
            raise

    @property
    def view(self) -> Path:
        return Path(f"/proc/self/fd/{self._fd}")

    @property
    def entrance(self) -> tuple[str, ...]:
        """The prefix of a command that runs it within the namespace, in the view's folder."""
        enter = (self._programs["nsenter"], "--target", str(self._holder.pid), "--user", "--mount")
        return (
            *enter,
            *("--preserve-credentials", "--", self._programs["sh"], "-c", _ENTER, str(self.changes)),
        )

    def close(self) -> None:
        """Unmount the view. Idempotent."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        with contextlib.suppress(OSError):
            if self._holder.stdin is not None:
                self._holder.stdin.close()
        if self._holder.poll() is None:
            self._holder.kill()
        self._holder.wait()
        if self._holder.stdout is not None:
            self._holder.stdout.close()

    def _await_ready(self) -> None:
        out = self._holder.stdout
        if out is None:
            raise NoOverlay("its process has no output")
        poll = select.poll()
        poll.register(out, select.POLLIN)
        if not poll.poll(START_S * 1000):
            raise NoOverlay(f"it was not mounted within {START_S:g} s")
        output = os.read(out.fileno(), 4096).decode(errors="replace").strip()
        if output != "ready":
            raise NoOverlay(" ".join(output.split()) or "its process ended")

    def _open_view(self) -> int:
        try:
            fd = os.open(
                f"/proc/{self._holder.pid}/root{self.changes}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            )
        except OSError as exc:
            raise NoOverlay(f"the view cannot be reached: {exc.strerror}") from exc
        if os.fstat(fd).st_dev == self.changes.stat().st_dev:
            os.close(fd)
            raise NoOverlay("the view shows only what was changed")
        return fd


def _programs() -> dict[str, str]:
    if sys.platform != "linux":
        raise NoOverlay("overlays need Linux")
    found = {name: shutil.which(name, path=_WHERE) for name in _PROGRAMS}
    if missing := [name for name, path in found.items() if path is None]:
        raise NoOverlay(f"the programs {', '.join(missing)} are missing")
    return {name: path for name, path in found.items() if path is not None}


def hide(tree: Root, changes: Path, paths: Iterable[str]) -> None:
    """Before the mount: hide paths of the workspace from the view. Raises `OSError`."""
    for path in paths:
        made = changes
        for end, part in enumerate(path.split("/")[:-1], start=1):
            made = made / part
            if not made.exists():
                _make_like(tree, "/".join(path.split("/")[:end]), made)
        os.mknod(changes / path, stat.S_IFCHR, os.makedev(0, 0))  # a whiteout; needs no privilege


def _make_like(tree: Root, path: str, made: Path) -> None:
    made.mkdir()
    with tree.folder(path) as fd:
        found = os.fstat(fd)
    made.chmod(stat.S_IMODE(found.st_mode))
    os.utime(made, ns=(found.st_atime_ns, found.st_mtime_ns))


def overlaid(base: FileTree, changes: Root, hidden: Callable[[str], bool]) -> FileTree:
    """The content of the view: the workspace as it was, with the changes applied."""
    result = _Overlaid(base, hidden)
    result.merge(changes.fd, "")
    return result.now


class _Overlaid:
    def __init__(self, base: FileTree, hidden: Callable[[str], bool]) -> None:
        self.now: dict[str, FileStat] = dict(base)
        self._order = sorted(base)
        self._hidden = hidden

    def merge(self, folder: int, prefix: str) -> None:
        with os.scandir(folder) as found:
            names = [entry.name for entry in found]
        for name in names:
            if not self._hidden(prefix + name):
                self._merge_one(folder, name, prefix + name)

    def _merge_one(self, folder: int, name: str, path: str) -> None:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        state = stat_at(folder, name)
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
            self._drop_below(path)
            self.now.pop(path, None)
        elif state is not None:
            if not state.is_folder:
                self._drop_below(path)
            self.now[path] = state
            if state.is_folder:
                self._merge_folder(folder, name, path)

    def _merge_folder(self, folder: int, name: str, path: str) -> None:
        below = os.open(name, FOLDER, dir_fd=folder)
        try:
            if _is_opaque(below):
                self._drop_below(path)
            self.merge(below, f"{path}/")
        finally:
            os.close(below)

    def _drop_below(self, path: str) -> None:
        start = bisect_left(self._order, f"{path}/")
        for below in self._order[start:]:
            if not below.startswith(f"{path}/"):
                return
            self.now.pop(below, None)


def _is_opaque(folder: int) -> bool:
    with contextlib.suppress(OSError):
        return os.getxattr(folder, "user.overlay.opaque") == b"y"
    return False
