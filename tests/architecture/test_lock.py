"""What is installed: exact versions with hashes, which fit the project, and none that is known to be bad."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUNTIME = [Requirement(row) for row in PROJECT["project"]["dependencies"]]
WANTED = [*RUNTIME, *(Requirement(row) for row in PROJECT["dependency-groups"]["dev"])]
BAD: list[dict[str, Any]] = tomllib.loads(
    Path(__file__).with_name("known_bad_releases.toml").read_text(encoding="utf-8")
)["release"]
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def entries(lock: str) -> list[str]:
    """The requirements of a lock, each on one line."""
    return [line for line in lock.replace("\\\n", " ").splitlines() if line.strip() and line[0] != "#"]


def pins(lock: str) -> list[tuple[Requirement, str]]:
    """Each requirement of a lock that can be read, and its version; empty if that is not exact."""
    found = []
    for row in entries(lock):
        try:
            requirement = Requirement(row.partition(" --hash")[0])
        except InvalidRequirement:
            continue
        match list(requirement.specifier):
            case [one] if one.operator == "==" and "*" not in one.version and requirement.url is None:
                found.append((requirement, one.version))
            case _:
                found.append((requirement, ""))
    return found


def faults(lock: str) -> list[str]:
    """All that is wrong with the form of a lock."""
    rows, read = entries(lock), pins(lock)
    found = [f"{requirement.name} has no exact version" for requirement, version in read if not version]
    found += [f"no requirement: {row[:60]}" for row in rows if row[0] == "-"]
    found += [f"no hash: {row[:60]}" for row in rows if not HASH.search(row)]
    found += [f"no SHA-256: {row[:60]}" for row in rows if "--hash" in HASH.sub("", row)]
    if len(read) < len(rows):
        found.append("it has lines that are no requirements")
    if "://" in lock:
        found.append("it holds an address")
    return found


def unmet(lock: str, wanted: list[Requirement]) -> list[str]:
    """The wanted requirements that a lock does not fulfil with every version it has."""
    versions: dict[str, list[str]] = {}
    extras: dict[str, set[str]] = {}
    for requirement, version in pins(lock):
        versions.setdefault(canonicalize_name(requirement.name), []).append(version)
        extras.setdefault(canonicalize_name(requirement.name), set()).update(requirement.extras)
    return [
        str(one)
        for one in wanted
        if not (there := versions.get(canonicalize_name(one.name)))
        or not all(one.specifier.contains(version, prereleases=True) for version in there)
        or not one.extras <= extras[canonicalize_name(one.name)]
    ]


def bad_ones(lock: str, wanted: list[Requirement]) -> list[str]:
    """The known bad releases that are in a lock, or that a dependency would allow."""
    locked = {(canonicalize_name(requirement.name), version) for requirement, version in pins(lock)}
    allowed = {canonicalize_name(one.name): one.specifier for one in wanted}
    return [
        f"{row['name']} {version} is {row['why']}"
        for row in BAD
        for version in row["versions"]
        if (row["name"], version) in locked
        or (row["name"] in allowed and allowed[row["name"]].contains(version, prereleases=True))
    ]


def test_the_lock_has_exact_versions_with_hashes_and_no_address():
    assert faults(LOCK) == []


def test_the_lock_fits_the_project():
    assert unmet(LOCK, WANTED) == []


def test_no_known_bad_release_is_locked_or_allowed():
    assert bad_ones(LOCK, RUNTIME) == []


def with_line(name: str, new: str) -> str:
    """The lock with the first line of a package changed."""
    changed, count = re.subn(rf"^{name}==\S+", new, LOCK, flags=re.MULTILINE)
    assert count == 1
    return changed


@pytest.mark.parametrize(
    "lock",
    [
        with_line("litellm", "litellm>=1.106"),
        with_line("litellm", "litellm==1.106.*"),
        with_line("litellm", "litellm @ https://example.org/litellm.whl"),
        f"{LOCK}litellm==1.106.2\n",
        f"{LOCK}litellm==1.106.2 --hash=md5:{'0' * 32}\n",
        f"--index-url https://example.org/simple\n{LOCK}",
        f"-e . --hash=sha256:{'0' * 64}\n{LOCK}",
    ],
    ids=["range", "wildcard", "address", "no hash", "weak hash", "index", "editable"],
)
def test_a_loose_lock_is_noticed(lock):
    assert faults(lock)


def test_a_lock_that_does_not_fit_is_noticed():
    assert unmet(with_line("litellm", "litellm==1.82.6"), WANTED) == ["litellm<1.107,>=1.106"]
    assert unmet(LOCK, [Requirement("no-such-package")])


@pytest.mark.parametrize("version", ["1.82.7", "1.82.8"])
def test_a_bad_release_is_noticed(version):
    assert bad_ones(with_line("litellm", f"litellm=={version}"), [])
    assert bad_ones(LOCK, [Requirement("litellm>=1.80")])


def test_the_documented_command_makes_constraints_that_pip_takes(tmp_path):
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^sed .*requirements\.lock > constraints\.txt$", page, re.MULTILINE)
    (tmp_path / "requirements.lock").write_text(LOCK, encoding="utf-8")
    subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, check=True, timeout=10)
    made = (tmp_path / "constraints.txt").read_text(encoding="utf-8")
    # pip refuses constraints with extras, and with hashes also any requirement that is a folder.
    assert "--hash" not in made
    assert not any(requirement.extras for requirement, _ in pins(made))
    assert [(one.name, version) for one, version in pins(made)] == [
        (one.name, version) for one, version in pins(LOCK)
    ]
