"""Commands that a resident process runs: the same as by themselves, whatever ends first."""

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint
from residents import PROGRAM
from scripted_model import answered

from orchestrator_cli.resident.rights import rights

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.01)
    return found


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def state_of(pid: int) -> str:
    """As `ps` shows it; empty if there is no such process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def dispositions(pid: int) -> dict[int, str]:
    """What a process does with each signal, if it ignores or blocks it."""
    rows = dict(row.split(":", 1) for row in Path(f"/proc/{pid}/status").read_text().splitlines())
    masks = {"ignored": int(rows["SigIgn"], 16), "blocked": int(rows["SigBlk"], 16)}
    return {
        int(number): " ".join(name for name, mask in masks.items() if mask >> (number - 1) & 1)
        for number in signal.valid_signals()
    }


class Planner:
    """Knows each answer at once, but for those that are held."""

    def __init__(self) -> None:
        self._free = threading.Event()
        self._free.set()
        self.waiting = 0

    def __call__(self, _request: object, _n: int) -> str:
        self.waiting += 1
        self._free.wait(60)
        return answered("It is done.")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        self._free.clear()
        self.waiting = 0
        try:
            yield
        finally:
            self._free.set()


@dataclass(frozen=True)
class Warmed:
    """A user whose commands a resident runs."""

    orch: Orch
    planner: Planner
    pid: int = 0
    """Of the resident."""

    def command(self, *args: str, **options: Any) -> "subprocess.Popen[str]":
        env = self.orch.environment(**({"ORCH_RESIDENT": "always"} | options.pop("env", {})))
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        cwd = options.pop("cwd", self.orch.workspace)
        return subprocess.Popen(  # type: ignore[no-any-return,call-overload]
            [PROGRAM, *args], env=env, cwd=cwd, text=True, **(streams | options)
        )

    def run(self, *args: str, **options: Any) -> tuple[int, str, str]:
        given = options.pop("input", None)
        if given is not None:
            options["stdin"] = subprocess.PIPE
        process = self.command(*args, **options)
        out, err = process.communicate(given, timeout=60)
        return process.returncode, out, err

    @contextlib.contextmanager
    def at_work(self, **options: Any) -> Iterator[tuple["subprocess.Popen[str]", int]]:
        """A command whose model does not answer, and its worker."""
        before = set(children(self.pid))
        with self.planner.held():
            process = self.command("ask", "Do it.", **options)
            try:
                (worker,) = until(lambda: set(children(self.pid)) - before)
                until(lambda: self.planner.waiting)
                yield process, worker
            finally:
                if process.poll() is None:
                    process.kill()
                process.communicate(timeout=60)


@pytest.fixture(scope="module")
def warmed(stage: tuple[Orch, Endpoint]) -> Iterator[Warmed]:
    orch, endpoint = stage
    with resident_of(orch, endpoint) as warmed:
        yield warmed


@contextlib.contextmanager
def resident_of(orch: Orch, endpoint: Endpoint) -> Iterator[Warmed]:
    endpoint.reply = planner = Planner()
    assert Warmed(orch, planner).run("runs")[0] == 0, "without a resident, the command runs by itself"
    sockets = orch.home / "resident"
    until(lambda: [*sockets.glob("*.sock")])
    (lock,) = sockets.glob("*.lock")
    # `pid` of `/proc/locks`, whose rows end with device:inode, start and end.
    rows = [row.split() for row in Path("/proc/locks").read_text().splitlines()]
    (pid,) = {int(row[-4]) for row in rows if row[-3].endswith(f":{lock.stat().st_ino}")}
    try:
        yield Warmed(orch, planner, pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        until(lambda: state_of(pid) in ("", "Z"))


@pytest.mark.parametrize(
    ("args", "given"),
    [
        (("--help",), ""),
        (("runs",), ""),
        (("show", "nothing"), ""),
        (("ask", "--nothing"), ""),
        (("ask", ""), ""),
        (("ask", "-q", "-"), "Do it."),
        (("-C", "nowhere", "ask", "Do it."), ""),
    ],
)
def test_a_command_is_the_same_as_by_itself(warmed: Warmed, args: tuple[str, ...], given: str) -> None:
    by_itself = warmed.run(*args, input=given, env={"ORCH_RESIDENT": "never"})
    assert warmed.run(*args, input=given) == by_itself


def test_a_worker_has_what_its_client_has(warmed: Warmed, tmp_path: Path) -> None:
    with warmed.at_work(cwd=tmp_path, env={"OF_A_TEST": "ü", "TZ": "Asia/Tokyo"}, umask=0o027) as (
        _,
        pid,
    ):
        there = Path(f"/proc/{pid}")
        assert (there / "cwd").readlink() == tmp_path
        assert "Umask:\t0027" in (there / "status").read_text()
        assert [(there / "fd" / name).readlink().name[:5] for name in "012"] == ["null", "pipe:", "pipe:"]
    assert oct((tmp_path / "fileLog.md").stat().st_mode & 0o777) == "0o640"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_client_ends_the_run(warmed: Warmed, number: int) -> None:
    with warmed.at_work() as (process, worker):
        process.send_signal(number)
        assert process.wait(timeout=60) == 130
        until(lambda: not state_of(worker))
    assert warmed.orch.events("RunFinished")[-1]["outcome"] == "interrupted"


def test_ctrl_c_at_a_terminal_ends_the_run(warmed: Warmed) -> None:
    ours, theirs = pty.openpty()

    def own_terminal() -> None:
        os.setsid()
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    with warmed.at_work(**streams, preexec_fn=own_terminal) as (process, _):
        os.close(theirs)
        os.write(ours, b"\x03")
        assert process.wait(timeout=60) == 130
    os.close(ours)


def test_a_client_that_is_stopped_stops_its_worker(warmed: Warmed) -> None:
    with warmed.at_work() as (process, worker):
        process.send_signal(signal.SIGTSTP)
        until(lambda: (state_of(process.pid), state_of(worker)) == ("T", "T"))
        process.send_signal(signal.SIGCONT)
        until(lambda: "T" not in (state_of(process.pid), state_of(worker)))
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130


def test_a_run_whose_client_is_killed_can_be_resumed(warmed: Warmed) -> None:
    with warmed.at_work() as (process, worker):
        process.kill()
        until(lambda: not state_of(worker))
    assert warmed.orch.events("RunFinished")[-1]["outcome"] == "interrupted"
    code, out, err = warmed.run("resume", "last", "-q")
    assert (code, out) == (0, "It is done.\n"), err


def test_a_client_ends_as_its_worker_is_killed(warmed: Warmed) -> None:
    with warmed.at_work() as (process, worker):
        os.kill(worker, signal.SIGKILL)
        assert process.wait(timeout=60) == -signal.SIGKILL


def test_nothing_grows_in_a_resident(warmed: Warmed) -> None:
    def grown() -> tuple[int, int, int]:
        there = Path(f"/proc/{warmed.pid}")
        return len([*(there / "fd").iterdir()]), len([*(there / "task").iterdir()]), len(children(warmed.pid))

    before = grown()
    for _ in range(20):
        assert warmed.run("runs")[0] == 0
    until(lambda: grown() == before, 10)


def test_a_resident_has_one_thread(warmed: Warmed) -> None:
    assert len([*Path(f"/proc/{warmed.pid}/task").iterdir()]) == 1


def test_another_environment_at_import_is_another_resident(warmed: Warmed) -> None:
    keys = {
        subprocess.run(
            [sys.executable, "-c", "from orchestrator_cli.resident import address; print(address.key())"],
            env=warmed.orch.environment(**env),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for env in ({}, {"OPENAI_API_KEY": "another"}, {"PWD": "/"}, {"SSL_CERT_FILE": "/a"}, {"LANG": "C"})
    }
    assert len(keys) == 3


def test_a_command_that_a_worker_starts_has_the_same_resident(warmed: Warmed) -> None:
    assert warmed.run("ask", "--detach", "Do it.")[0] == 0
    until(lambda: warmed.orch.events("RunFinished"), 30)
    assert len([*(warmed.orch.home / "resident").glob("*.lock")]) == 1


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not there")
@pytest.mark.parametrize(
    "confined", [["--no-new-privs"], ["--bounding-set", "-all"], ["--regid", "4242", "--clear-groups"]]
)
def test_who_has_fewer_rights_has_another_resident(warmed: Warmed, confined: list[str]) -> None:
    if os.geteuid() != 0 and confined != ["--no-new-privs"]:
        pytest.skip("only root can give these up")
    program = "from orchestrator_cli.resident import address; print(address.key())"
    found = [
        subprocess.run(
            [*before, sys.executable, "-c", program],
            env=warmed.orch.environment(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for before in ([], ["setpriv", *confined])
    ]
    assert found[0] != found[1]


@pytest.mark.parametrize("name", ["status", "attr/current", "attr/apparmor/current", "attr/smack/current"])
def test_another_label_or_filter_is_other_rights(tmp_path: Path, name: str) -> None:
    own = {"status": "Seccomp:\t2\nNoNewPrivs:\t0\nVmSize:\t1\n", "attr/current": "orch (enforce)"}
    processes = []
    for n, changed in enumerate(({}, {"status": own["status"].replace("1", "5")}, {name: "Seccomp:\t0\n"})):
        process = tmp_path / str(n)
        for file, text in (own | changed).items():
            (process / file).parent.mkdir(parents=True, exist_ok=True)
            (process / file).write_text(text)
        (process / "ns").mkdir()
        for space in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup"):
            (process / "ns" / space).symlink_to(f"{space}:[4026531837]")
        processes.append(rights(process))
    first, same, other = processes
    assert (first == same, first == other, first == ()) == (True, False, False)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not there")
def test_who_can_gain_no_rights_is_given_no_worker(warmed: Warmed) -> None:
    (socket,) = (warmed.orch.home / "resident").glob("*.sock")
    program = (
        "import socket, sys; from orchestrator_cli.resident.frames import Hungup, receive\n"
        "found = socket.socket(socket.AF_UNIX); found.connect(sys.argv[1])\n"
        "try: print('pid' in receive(found)[0])\n"
        "except Hungup: print('refused')"
    )
    said = [
        subprocess.run(
            [*before, sys.executable, "-c", program, socket.name],
            cwd=socket.parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for before in ([], ["setpriv", "--no-new-privs"])
    ]
    assert said == ["True", "refused"]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
@pytest.mark.parametrize("mode", ["always", "never"])
def test_a_signal_that_is_ignored_stays_ignored(warmed: Warmed, number: int, mode: str) -> None:
    with warmed.planner.held():
        process = warmed.command(
            "ask",
            "Do it.",
            env={"ORCH_RESIDENT": mode},
            preexec_fn=lambda: signal.signal(number, signal.SIG_IGN),
        )
        until(lambda: warmed.planner.waiting)
        here = children(warmed.pid) if mode == "always" else [process.pid]
        assert [dispositions(pid)[number] for pid in here] == ["ignored"]
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "It is done.\n"), err


def test_a_worker_has_the_signals_of_its_client_and_not_of_its_resident(warmed: Warmed) -> None:
    def begin() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # it is ignored if the tests run under nohup
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])

    with warmed.at_work(preexec_fn=begin) as (process, worker):
        blocked = [dispositions(pid)[signal.SIGUSR2] for pid in (process.pid, worker)]
        assert (blocked, dispositions(worker)[signal.SIGHUP]) == (["blocked"] * 2, "")
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=60) == -signal.SIGHUP


def test_a_worker_that_ignores_signals_ends_with_its_client(warmed: Warmed) -> None:
    with warmed.at_work(preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN)) as (
        process,
        worker,
    ):
        process.kill()
        until(lambda: not state_of(worker))


def test_a_resident_that_is_stopped_keeps_no_pipe_open(warmed: Warmed) -> None:
    os.kill(warmed.pid, signal.SIGSTOP)
    try:
        code, _, _ = warmed.run("runs")  # returns when its pipes have ended
    finally:
        os.kill(warmed.pid, signal.SIGCONT)
    assert code == 0


def test_a_command_outlives_the_resident(orch: Orch, endpoint: Endpoint) -> None:
    with resident_of(orch, endpoint) as mine:
        with mine.planner.held():
            process = mine.command("ask", "--json", "Do it.")
            until(lambda: mine.planner.waiting)
            os.kill(mine.pid, signal.SIGKILL)
            until(lambda: state_of(mine.pid) in ("", "Z"))
        out, err = process.communicate(timeout=60)
        assert (process.returncode, json.loads(out)["answer"]) == (0, "It is done."), err
        assert mine.run("runs")[0] == 0


@pytest.mark.thorough
@pytest.mark.parametrize("there", [True, False])
def test_a_resident_makes_no_data_folder_and_uses_only_its_own(tmp_path: Path, there: bool) -> None:
    home = tmp_path / "home"
    if there:
        home.mkdir()
        os.chown(home, 12_345, -1) if os.geteuid() == 0 else pytest.skip("only root can give a folder away")
    # The shell ends at once, and the pipe with the resident.
    command = f"{sys.executable} -P -m orchestrator_cli.resident.server key &"
    env = {"PATH": os.environ["PATH"], "ORCH_HOME": str(home)}
    done = subprocess.run(["bash", "-c", command], env=env, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert not (home / "resident").exists()
