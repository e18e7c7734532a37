"""Disk that is taken in a hidden way counts, on both backends, as root and as an ordinary user."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from test_sandbox_attacks import NOBODY, ROOT, USERS, python_of


@pytest.mark.slow
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("backend", ["bubblewrap", "landlock"])
def test_disk_is_counted_however_it_is_taken(backend: str, user: str) -> None:
    found = outcomes("disk_run.py", user, backend)
    words = ("grew by more than", "disk lost", "hides what it holds")
    counted = {way for way, why in found.items() if any(word in why for word in words)}
    assert (set(found) - counted, found["little"]) == ({"little"}, ""), found


def outcomes(program: str, user: str, backend: str) -> dict[str, str]:
    """What a program of this folder prints that tries a backend as a user."""
    if user == "root" and os.geteuid() != 0:
        pytest.skip("needs root")
    with tempfile.TemporaryDirectory(prefix="orch-limits-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(ROOT / "toolsmith", folder / "code/toolsmith", ignore=shutil.ignore_patterns("*.pyc"))
        shutil.copy(Path(__file__).with_name(program), folder / "code")
        own = folder / "own"
        own.mkdir()
        if user == "user" and os.geteuid() == 0:
            os.chown(own, NOBODY, NOBODY)
        ran = subprocess.run(
            [*python_of(user), str(folder / "code" / program), str(own), backend],
            env={"PATH": os.environ["PATH"], "HOME": str(own), "PYTHONPATH": f"{folder}/code"},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, str] = json.loads(ran.stdout)
    if "unavailable" in found:
        pytest.skip(found["unavailable"])
    return found
