"""What a process may do: its user, groups, capabilities and filters, its security label and namespaces.

Linux says so below `/proc`; elsewhere nothing is known. To read it of another process takes the rights that a
debugger needs, which a process within a domain of Landlock lacks for one outside: then nothing is known too.

Not covered: the rules of a filter or a domain, of which Linux says only that there are some, or nothing.
"""

from pathlib import Path

OWN = Path("/proc/self")
_ROWS = ("Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp")
_LABELS = ("attr/current", "attr/apparmor/current", "attr/smack/current")
_NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")

Rights = tuple[tuple[str, str], ...]


def rights(process: Path = OWN) -> Rights:
    """The rights of a process, by its folder below `/proc`; empty if they are unknown."""
    try:
        rows = (process / "status").read_text(encoding="utf-8", errors="replace").splitlines()
        names = [(name, str((process / "ns" / name).readlink())) for name in _NAMESPACES]
    except OSError:
        return ()
    kept = [
        (name, value) for name, _, value in (row.partition(":") for row in rows) if name.startswith(_ROWS)
    ]
    return (*kept, *((name, _read(process / name)) for name in _LABELS), *names)


def has_given_up(held: Rights) -> bool:
    """Whether a process can gain no rights. Rules may bind it that cannot be seen, such as Landlock's."""
    return dict(held).get("NoNewPrivs", "").strip() == "1"


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
