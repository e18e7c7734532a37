"""What people install: the wheel, in an environment of its own, with all that is not code."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from uv import find_uv_bin

ROOT = Path(__file__).parents[1]
INDEX = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
}
"""The package index that the tester has set for pip, as uv is given it."""


def run(*argv: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "HOME": str(cwd), "ORCH_HOME": str(cwd / "home"), **env}
    return subprocess.run(argv, cwd=cwd, env=clean, capture_output=True, text=True, timeout=170, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def commit() -> str:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    said = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    return said.stdout.strip()[:12]


@pytest.mark.slow
@pytest.mark.parametrize("with_demo", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_the_wheel_works_alone_and_names_its_commit(
    wheel: Path, commit: str, tmp_path: Path, with_demo: bool
) -> None:
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    install = [find_uv_bin(), "pip", "install", "--offline", "--no-deps", "--python", python, wheel]
    done = run(*install, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # Only what it depends on is taken from here: the project's own path is in a file that is not read so.
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    orch = tmp_path / "env" / "bin" / "orch"
    said = run(orch, "--version", cwd=tmp_path)
    assert said.stdout.startswith("orch 0."), said.stderr
    assert f"(commit {commit}" in said.stdout
    offline = {
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "OPENAI_API_KEY": "none",
        "ORCH_MODEL": "openai/none",
    }
    assert "ask" in run(orch, "--help", cwd=tmp_path).stdout
    if not with_demo:
        return
    demo = run(orch, "demo", cwd=tmp_path, **offline)
    assert demo.returncode == 0, demo.stderr
    assert str(ROOT) not in demo.stdout + demo.stderr


def test_a_clone_names_its_commit(commit: str, tmp_path: Path) -> None:
    said = run(sys.executable, "-m", "orchestrator_cli", "--version", cwd=tmp_path)
    assert f"(commit {commit})" in said.stdout


@pytest.mark.thorough  # installs every dependency
def test_uv_installs_it_as_a_tool(wheel: Path, commit: str, tmp_path: Path) -> None:
    listed = subprocess.check_output([sys.executable, "-m", "pip", "config", "list"], text=True)
    settings = (line.split("=", 1) for line in listed.splitlines())
    of_pip = {key.rpartition(".")[2]: value.strip("'").replace("\\n", " ") for key, value in settings}
    index = {name: of_pip[key] for key, name in INDEX.items() if key in of_pip}
    # As pip does: the lock may have been made with all of them.
    index["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    place = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    install = [find_uv_bin(), "tool", "install", "--python", sys.executable, "-c", ROOT / "requirements.lock"]
    done = run(*install, wheel, cwd=tmp_path, **place, **index)
    assert done.returncode == 0, done.stderr
    assert commit in run(tmp_path / "bin" / "orch", "--version", cwd=tmp_path).stdout
