"""Makes all attempts of escapes.py and peer_attacks.py as its user, and tells what came of them.

    python attack_run.py FOLDER BACKEND      BACKEND is a sandbox's name, or "none" for plain processes

FOLDER belongs to that user. Everything worth reaching is made there and belongs to the user too, so that an
attempt that fails was stopped by the sandbox, not by permissions. Prints JSON: outcomes by name.
"""

from __future__ import annotations

# ruff: noqa: T201  (printing is what it is for)
import ast
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from toolsmith.sandbox.probe import choose_backend
from toolsmith.sandbox.session import SandboxSession
from toolsmith.sandbox.spec import Limits, SandboxError, SandboxUnavailable

HERE = Path(__file__).parent
SOURCES = ("escapes.py", "peer_attacks.py")
CANARY = "canary-6b1f0c"
SHARED = ("/tmp", "/dev/shm", "/var/tmp", "/run")

Attack = Callable[[str, dict[str, Any]], str]


def main() -> None:
    folder, backend = Path(sys.argv[1]), sys.argv[2]
    outcomes: dict[str, str] = {}
    for source in SOURCES:
        text = (HERE / source).read_text(encoding="utf-8")
        with Field(folder / source.removesuffix(".py")) as field:
            attack = outside(text, field.lent) if backend == "none" else inside(text, field, backend)
            with attack as make:
                for name in names(text):
                    outcomes[name] = field.judged(make(name, field.surroundings()))
    print(json.dumps(outcomes))


def names(text: str) -> list[str]:
    found = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    return [node.name for node in found if [one.arg for one in node.args.args] == ["at"]]


@contextmanager
def outside(text: str, lent: Path) -> Iterator[Attack]:
    """Each attempt is a plain process, which is lent a descriptor that it should not have."""

    def make(name: str, at: dict[str, Any]) -> str:
        code = f"{text}\nimport json\nprint(attempt({name!r}, json.loads(sys.argv[1])))"
        command = [sys.executable, "-W", "ignore", "-c", code, json.dumps(at)]
        with lent.open() as stdin:
            ran = subprocess.run(
                command,
                stdin=stdin,
                cwd=at["workspace"],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        return ran.stdout.strip() or f"stopped: {ran.stderr.strip()[-300:]}"

    yield make


@contextmanager
def inside(text: str, field: Field, backend: str) -> Iterator[Attack]:
    """All attempts are made in one sandbox: what one of them opens is there for the next."""
    session = SandboxSession(
        field.workspace, limits=Limits(wall_s=20), backend=choose_backend(backend), writable=True
    )

    def run(code: str) -> Any:
        return session.request({"t": "run", "number": 1, "code": code}).value

    def make(name: str, at: dict[str, Any]) -> str:
        session.bindings.variables = {"at": at}
        session.bind()
        try:
            if not run("'attempt' in globals()"):
                run(text)
            return str(run(f"attempt({name!r}, at)"))
        except SandboxError as error:
            return f"stopped: {error}"

    try:
        yield make
    finally:
        session.close()


class Field(ExitStack):
    """What the attempts are made on."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._outside, self._home = folder / "outside", folder / "home"
        self.workspace, self.lent = self._outside / "workspace", self._outside / "file"
        self.workspace.mkdir(parents=True)
        (self._home / "keys").mkdir(parents=True)
        (self._home / "keys" / "id").write_text("canary-key")
        self.lent.write_text("x")
        (self._outside / "secret").write_text(CANARY)
        self._stray = f"orch-stray-{os.getpid()}"
        self._fixed = self._listen() | self._places()
        self._victim = self._spawn()
        self.callback(self._end_the_victim)
        self._before = self._seen()

    def surroundings(self) -> dict[str, Any]:
        return {**self._fixed, "victim": self._victim.pid}

    def judged(self, outcome: str) -> str:
        """The outcome, with what the host sees afterwards."""
        changes = [*self._strays(), *self._changes()]
        if self._victim.poll() is not None:
            changes.append("the victim is dead")
            self._victim = self._spawn()
        return f"escaped: {', '.join(changes)}" if changes else outcome

    def _places(self) -> dict[str, Any]:
        return {
            **{"home": str(self._home), "key": "keys/id", "outside": str(self._outside)},
            **{"planted": f"orch-planted-{os.getpid()}", "plant": str(self._outside / "planted")},
            **{"workspace": str(self.workspace), "secret": str(self._outside / "secret"), "canary": CANARY},
            **{"stray": self._stray, "stray_seconds": f"97.{os.getpid()}", "host_pid": os.getpid()},
        }

    def _listen(self) -> dict[str, Any]:
        """The listeners need not accept: connections succeed anyway."""
        tcp = self.enter_context(socket.create_server(("127.0.0.1", 0)))
        anywhere = self.enter_context(socket.create_server(("0.0.0.0", 0)))
        udp = self.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        abstract = f"orch-attack-{os.getpid()}-{id(self)}"
        for address in (self.workspace / "host.sock", self._outside / "socket", "\0" + abstract):
            listener = self.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(address))
            listener.listen()
        for address in (self.workspace / "datagram.sock", self._outside / "datagrams"):
            self.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)).bind(str(address))
        return {
            **{
                "tcp": tcp.getsockname()[1],
                "tcp_any": anywhere.getsockname()[1],
                "udp": udp.getsockname()[1],
            },
            **{"address": socket.gethostbyname_ex(socket.gethostname())[2][0], "abstract": abstract},
            **{"socket": str(self._outside / "socket"), "datagrams": str(self._outside / "datagrams")},
        }

    def _spawn(self) -> subprocess.Popen[bytes]:
        env = {"K": "canary-victim"}
        return subprocess.Popen(["sleep", "99"], env=env, cwd=self._outside, start_new_session=True)

    def _end_the_victim(self) -> None:
        self._victim.kill()
        self._victim.wait()

    def _seen(self) -> dict[str, Any]:
        return {path.name: path.stat().st_size for path in self._outside.iterdir() if path != self.workspace}

    def _changes(self) -> Iterator[str]:
        for name in self._seen().keys() - self._before.keys():
            yield f"made {name} outside"
            (self._outside / name).unlink()
        if (missing := self._before.keys() - self._seen().keys()) or self.lent.read_text() != "x":
            yield f"changed outside: {sorted(missing)}"

    def _strays(self) -> Iterator[str]:
        for folder in (*SHARED, str(self._home)):
            path = Path(folder, self._stray)
            if path.exists():
                yield f"left {folder}/…"
                path.unlink()
        wanted = ["sleep", self._fixed["stray_seconds"]]
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().decode(errors="replace").split("\0")[:-1]
            except OSError:
                continue
            if words[-2:] == wanted:
                yield "left a process"
                os.kill(int(path.parent.name), 9)


if __name__ == "__main__":
    try:
        main()
    except SandboxUnavailable as error:
        print(json.dumps({"unavailable": str(error)}))
