"""A checkout by an overlay mount: some 20 ms, whatever the size, for workspaces too large to copy.

A small process owns a user and a mount namespace. In it the workspace, read-only below, and the
checkout's own folder, for all that is written, are mounted as one view over that very folder. So
one path has two faces: within the namespace it is the whole view, where the sandbox is started;
outside it holds just what was changed, which is read off it at the commit. The host sees the
whole view through a descriptor. The process ends with the pipe that its maker holds, and with
the last process in it the mount.

What such a view does not have that a copy has: it is no snapshot. The kernel leaves open what
becomes of files that change below a mount; in practice a reader sees the old file or the new
one, since commits replace files whole. A conflict is found all the same, because what the
subtask wrote is compared with the workspace as it was at the checkout. Protected names that
existed then are hidden; one that is created while the view is open can be read in it (it is
never committed). A folder of the workspace cannot be renamed in one step (`os.rename` fails
with EXDEV, `shutil.move` and `mv` work).

What is not covered: files of other owners, paths with `,`, `:`, `\\` or `"`, and a state folder
that lies in the workspace or on an overlay itself, as in many containers: then there is none.
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

from orchestrator_cli.workspace.marks import Mark, Tree
from orchestrator_cli.workspace.tree import Root, mark_at

START_S = 5.0
_PROGRAMS = ("unshare", "nsenter", "mount", "sh", "cat")
_WHERE = "/usr/sbin:/usr/bin:/sbin:/bin"
_MOUNT = '"$1" -t overlay overlay -o "$2" "$3" && echo ready && exec "$4" >&2'
_ENTER = 'cd "$0" && exec "$@"'


class NoOverlay(Exception):
    """There is no overlay to be had here; the message says why."""


class Overlay:
    """One mounted view; `view` is the whole of it for the host, `changes` the folder of what was written."""

    def __init__(self, lower: Path, changes: Path, work: Path) -> None:
        """Mount `lower` below the folder `changes`, which stays readable as it is. Raises `NoOverlay`."""
        self.changes = changes
        self._fd: int | None = None
        self._programs = _programs()
        options = f"lowerdir={lower},upperdir={changes},workdir={work},userxattr"
        if any(sign in f"{lower}{changes}" for sign in ',:\\"'):
            raise NoOverlay("a path holds one of the signs , : \\ and quotes")
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
        """What a command has to begin with to be run within the namespace, in the view's folder."""
        enter = (self._programs["nsenter"], "--target", str(self._holder.pid), "--user", "--mount")
        return (
            *enter,
            *("--preserve-credentials", "--", self._programs["sh"], "-c", _ENTER, str(self.changes)),
        )

    def close(self) -> None:
        """Take the view away. Idempotent."""
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
        said = os.read(out.fileno(), 4096).decode(errors="replace").strip()
        if said != "ready":
            raise NoOverlay(" ".join(said.split()) or "its process ended")

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
        raise NoOverlay("overlays are a matter of Linux")
    found = {name: shutil.which(name, path=_WHERE) for name in _PROGRAMS}
    if missing := [name for name, path in found.items() if path is None]:
        raise NoOverlay(f"the programs {', '.join(missing)} are not there")
    return {name: path for name, path in found.items() if path is not None}


def hide(lower: Path, changes: Path, paths: Iterable[str]) -> None:
    """Before the mount: let paths of the workspace be as if they did not exist. Raises `OSError`."""
    with Root(lower) as tree:
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


def overlaid(base: Tree, changes: Root, hidden: Callable[[str], bool]) -> Tree:
    """What the view shows: the workspace as it was, with what lies in the folder of changes."""
    result = _Overlaid(base, hidden)
    result.merge(changes.fd, "")
    return result.now


class _Overlaid:
    def __init__(self, base: Tree, hidden: Callable[[str], bool]) -> None:
        self.now: dict[str, Mark] = dict(base)
        self._order = sorted(base)
        self._hidden = hidden

    def merge(self, folder: int, prefix: str) -> None:
        with os.scandir(folder) as found:
            names = [entry.name for entry in found]
        for name in names:
            if not self._hidden(name):
                self._merge_one(folder, name, prefix + name)

    def _merge_one(self, folder: int, name: str, path: str) -> None:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        mark = mark_at(folder, name)
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
            self._drop_below(path)
            self.now.pop(path, None)
        elif mark is not None:
            if not mark.is_folder:
                self._drop_below(path)
            self.now[path] = mark
            if mark.is_folder:
                self._merge_folder(folder, name, path)

    def _merge_folder(self, folder: int, name: str, path: str) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        below = os.open(name, flags, dir_fd=folder)
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
