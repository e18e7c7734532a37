"""What code inside cannot reach. The whole set of attempts is in test_sandbox_escapes.py."""

import contextlib
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from toolsmith.sandbox import Backend, SandboxError, SandboxExecutor, SandboxUnavailable


def test_there_is_no_network(sandbox: SandboxExecutor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), 1).close()
        with pytest.raises(SandboxError, match=r"PermissionError|OSError"):
            sandbox(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)")


def test_secrets_of_the_environment_are_not_there(
    sandbox: SandboxExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_CANARY", "canary-in-environment")
    assert "SECRET_CANARY" not in sandbox("import os\ndict(os.environ)").output
    code = """
import os
found = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        found.append(open(f"/proc/{pid}/environ", "rb").read())
    except OSError:
        pass
b"canary-in-environment" in b"".join(found)
"""
    assert sandbox(code).output is False


def test_files_outside_the_workspace_cannot_be_read(sandbox: SandboxExecutor, tmp_path: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=Path.home(), prefix="canary") as at_home:
        (tmp_path / "secret").write_text("canary")
        for path in (at_home.name, tmp_path / "secret", "/etc/shadow", "/etc/passwd"):
            with pytest.raises(SandboxError, match=r"PermissionError|FileNotFoundError"):
                sandbox(f"open({str(path)!r})")


def test_the_types_of_files_are_known(sandbox: SandboxExecutor) -> None:
    assert sandbox("import mimetypes\nmimetypes.guess_type('a.html')[0]").output == "text/html"


def test_only_the_workspace_can_be_written(sandbox: SandboxExecutor, tmp_path: Path, workspace: Path) -> None:
    for path in (tmp_path / "planted", "/usr/planted", "/etc/planted", "/var/tmp/planted", "/planted"):
        with pytest.raises(SandboxError, match="Error"):
            sandbox(f"open({str(path)!r}, 'w')")
        assert not Path(path).exists()
    sandbox("open('mine', 'w').write('x')")
    assert (workspace / "mine").read_text() == "x"


def test_a_workspace_can_be_given_for_reading_only(make_sandbox: Any, workspace: Path) -> None:
    (workspace / "given").write_text("text")
    sandbox = make_sandbox(writable=False)
    assert sandbox("open('given').read()").output == "text"
    for action in ("open('new', 'w')", "open('given', 'a')", "import os; os.unlink('given')"):
        with pytest.raises(SandboxError, match=r"PermissionError|OSError"):
            sandbox(action)
    assert [path.name for path in workspace.iterdir()] == ["given"]


def test_a_planted_link_leads_nowhere_inside(
    sandbox: SandboxExecutor, tmp_path: Path, workspace: Path
) -> None:
    (tmp_path / "secret").write_text("canary")
    (workspace / "planted").symlink_to(tmp_path / "secret")
    sandbox(f"import os\nos.symlink({str(tmp_path / 'secret')!r}, 'made')")
    for link in ("planted", "made"):
        with pytest.raises(SandboxError, match=r"PermissionError|FileNotFoundError"):
            sandbox(f"open('{link}').read()")


def test_the_users_packages_cannot_be_changed(sandbox: SandboxExecutor) -> None:
    code = "import pydantic\nopen(pydantic.__file__, 'a')"
    with pytest.raises(SandboxError, match=r"PermissionError|OSError"):
        sandbox(code)


def test_attributes_of_files_outside_cannot_be_changed(sandbox: SandboxExecutor, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("x")
    victim.chmod(0o640)
    changes = (
        "chmod(path, 0o777)",
        "utime(path, (1, 1))",
        "chown(path, 1, 1)",
        "setxattr(path, 'user.a', b'x')",
    )
    for change in changes:
        with contextlib.suppress(SandboxError):
            sandbox(f"import os\npath = {str(victim)!r}\nos.{change}")
    stat = victim.stat()
    assert stat.st_mode & 0o7777 == 0o640
    assert stat.st_mtime > 1
    assert stat.st_uid == os.getuid()
    assert os.listxattr(victim) == []


def test_attributes_of_files_outside_cannot_be_read(sandbox: SandboxExecutor, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("x")
    with contextlib.suppress(OSError):  # not every file system has attributes
        os.setxattr(victim, "user.secret", b"canary")
    code = f"""
import os
found = []
for read in (os.listxattr, lambda path: os.getxattr(path, "user.secret")):
    for follow in (True, False):
        try:
            found.append(read({str(victim)!r}))
        except OSError:
            pass
found
"""
    assert sandbox(code).output == []
    copied = "import shutil\nopen('a', 'w').close()\nshutil.copy2('a', 'b')"
    assert sandbox(copied).output == "b"


def test_set_id_files_cannot_be_made_in_any_way(sandbox: SandboxExecutor, workspace: Path) -> None:
    code = """
import contextlib, os
def unnamed(folder):
    made = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o6755)
    os.link(f"/proc/self/fd/{made}", "linked", follow_symlinks=True)
os.umask(0)
for way in (
    lambda: unnamed("."),
    lambda: os.close(os.open("created", os.O_CREAT | os.O_WRONLY, 0o6755)),
    lambda: os.mkdir("folder", 0o6755),
    lambda: os.mknod("node", 0o106755),
    lambda: os.mkfifo("pipe", 0o6755),
    lambda: (open("changed", "w").close(), os.chmod("changed", 0o6755)),
    lambda: os.fchmod(os.open("changed", os.O_RDWR), 0o6755),
):
    with contextlib.suppress(OSError):
        way()
"""
    sandbox(code)
    assert [path.name for path in workspace.iterdir() if path.stat().st_mode & 0o6000] == []


def test_programs_work_without_the_calls_that_are_missing(sandbox: SandboxExecutor, workspace: Path) -> None:
    """Copying and sending do without `sendfile`, `timeout` without SIGCONT; SIGALRM has its own timer."""
    code = """
import pathlib, shutil, signal, socket, subprocess, time
pathlib.Path("one").write_bytes(bytes(100_000))
shutil.copyfile("one", "two")
ends = socket.socketpair()
sent = ends[0].sendfile(open("one", "rb"), 0, 4096)
ran = [
    subprocess.run(line).returncode
    for line in (["cp", "two", "three"], ["timeout", "0.1", "sleep", "5"])
]
came = []
signal.signal(signal.SIGALRM, lambda *_: came.append("SIGALRM"))
signal.setitimer(signal.ITIMER_REAL, 0.01)
time.sleep(0.1)
sent, ran, came
"""
    assert sandbox(code).output == (4096, [0, 124], ["SIGALRM"])
    assert (workspace / "three").read_bytes() == bytes(100_000)


def test_limits_of_other_processes_cannot_be_changed(sandbox: SandboxExecutor) -> None:
    code = f"import resource\nresource.prlimit({os.getpid()}, resource.RLIMIT_NOFILE)"
    with pytest.raises(SandboxError, match=r"PermissionError|ProcessLookupError"):
        sandbox(code)


def test_limits_cannot_be_raised_again(sandbox: SandboxExecutor) -> None:
    with pytest.raises(SandboxError, match=r"not allowed to raise maximum limit|PermissionError"):
        sandbox("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))")


def test_a_workspace_that_holds_the_interpreter_is_refused(backend: Backend) -> None:
    with pytest.raises(SandboxUnavailable, match="holds the Python environment"):
        SandboxExecutor(Path(sys.prefix), backend=backend)
