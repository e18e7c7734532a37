"""All attempts, those of other sandboxes' own suites too: on both backends, as root and as an ordinary user.

An ordinary user may be unable to run the Python of the tests (in root's home, say): then the system's
is used. Without a sandbox the same attempts work, apart from those listed here with their reasons.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
NOBODY = 65534
USERS = ["root", "user"]

NEEDS_ROOT = {
    *("read_the_password_hashes", "open_kernel_settings_and_devices", "raise_the_own_limits"),
    *("become_another_user", "have_capabilities", "make_a_device", "become_root_with_other_programs"),
    "by_watching_all_files",
}
DEPENDS_ON_THE_SYSTEM = {
    # Yama, namespaces switched off, no 32-bit calls, a program that is not installed
    *("trace_another_process", "take_a_descriptor_of_another_process", "make_namespaces"),
    *("by_the_32_bit_convention", "by_perl", "by_the_shells_own_sockets", "become_root_with_other_programs"),
    *("write_into_the_memory_of_others", "read_other_processes_through_proc", "by_watching_all_files"),
    "win_a_race_with_a_link",  # by chance
    *("reach_calls_with_a_history", "make_sockets_of_unusual_families"),
}

# setpriv may start a program that the user it changes to could not start.
RUNS_ITSELF = "import os, sys; print(sys.version_info >= (3, 11) and os.access(sys.executable, os.X_OK))"


@functools.cache
def outcomes(user: str, backend: str) -> dict[str, str]:
    """What came of each attempt."""
    if user == "root" and os.geteuid() != 0:
        pytest.skip("needs root")
    with tempfile.TemporaryDirectory(prefix="orch-attacks-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(ROOT / "toolsmith", folder / "code/toolsmith", ignore=shutil.ignore_patterns("*.pyc"))
        for program in ("attack_run.py", "escapes.py", "peer_attacks.py"):
            shutil.copy(Path(__file__).with_name(program), folder / "code")
        (folder / "own").mkdir()
        command = [*python_of(user), str(folder / "code/attack_run.py"), str(folder / "own"), backend]
        if user == "user" and os.geteuid() == 0:
            os.chown(folder / "own", NOBODY, NOBODY)
        env = {"PATH": os.environ["PATH"], "HOME": f"{folder}/own", "PYTHONPATH": f"{folder}/code"}
        env |= {"ORCH_CANARY_KEY": "canary-env", "CANARY": "canary-6b1f0c", "PYTHONDONTWRITEBYTECODE": "1"}
        ran = subprocess.run(
            command, env=env, cwd=folder, capture_output=True, text=True, timeout=170, check=False
        )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, str] = json.loads(ran.stdout)
    if "unavailable" in found:
        pytest.skip(found["unavailable"])
    return found


def python_of(user: str) -> list[str]:
    if user == "root" or os.geteuid() != 0:
        return [sys.executable]
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            stdout = subprocess.run(
                [*drop, python, "-c", RUNS_ITSELF],
                capture_output=True,
                text=True,
                check=False,
            ).stdout
        except FileNotFoundError as error:
            pytest.skip(f"cannot become an ordinary user: {error}")
        if stdout == "True\n":
            return [*drop, python]
    pytest.skip("an ordinary user can run no Python 3.11 here")


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("backend", ["bubblewrap", "landlock"])
def test_every_attempt_is_stopped(user: str, backend: str) -> None:
    found = outcomes(user, backend)
    assert len(found) >= 70
    assert {name: outcome for name, outcome in found.items() if not outcome.startswith("stopped: ")} == {}


@pytest.mark.thorough
@pytest.mark.parametrize("user", USERS)
def test_the_same_attempts_work_without_a_sandbox(user: str) -> None:
    found = outcomes(user, "none")
    may_fail = DEPENDS_ON_THE_SYSTEM | (NEEDS_ROOT if user == "user" else set())
    stopped = {name: outcome for name, outcome in found.items() if outcome.startswith("stopped: ")}
    assert {name: outcome for name, outcome in stopped.items() if name not in may_fail} == {}
    assert len(found) - len(stopped) >= 60
