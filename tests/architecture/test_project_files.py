"""What installs the project holds no address and pins everything; what runs it means what it says."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pins() -> dict[str, str]:
    """Each requirement of the lock with its lines joined, by its name."""
    whole = LOCK.replace("\\\n", " ")
    rows = [line for line in whole.splitlines() if line.strip() and not line.startswith("#")]
    return {_plain(re.split(r"[=\[ ]", row)[0]): row for row in rows}


def test_neither_the_lock_nor_the_makefile_holds_an_address():
    assert "://" not in LOCK
    assert "://" not in MAKEFILE


def test_every_package_of_the_lock_has_one_version_and_its_hashes():
    loose = [name for name, row in _pins().items() if "==" not in row or "--hash=sha256:" not in row]
    assert not loose


def test_every_dependency_is_in_the_lock():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {_plain(re.split(r"[^A-Za-z0-9_.-]", row)[0]) for row in wanted}
    assert names <= _pins().keys()


def test_no_target_of_the_makefile_bears_the_name_of_a_folder():
    # `check` runs the tests again when one of these folders has changed; a target is always newer.
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    assert targets
    assert not targets & folders
