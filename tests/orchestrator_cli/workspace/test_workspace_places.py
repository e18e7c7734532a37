"""What `orch` trusts, and secrets of a home folder, are hidden under whatever path a workspace has them."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator_cli.durable.places import Places
from orchestrator_cli.errors import UsageError
from orchestrator_cli.workspace import Workspace, WorkspaceFault

Bind = Callable[[Path, Path], Path]


@pytest.fixture
def bind() -> Iterator[Bind]:
    """Shows a folder under another path; skips the test if only root could."""
    made: list[Path] = []

    def mount(source: Path, target: Path) -> Path:
        target.mkdir(parents=True, exist_ok=True)
        if subprocess.run(["mount", "--bind", source, target], check=False, capture_output=True).returncode:
            pytest.skip("folders cannot be mounted here")
        made.append(target)
        return target

    yield mount
    for target in reversed(made):
        subprocess.run(["umount", target], check=True)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def write(root: Path, path: str, text: str = "x") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def seen(workspace: Workspace) -> set[str]:
    listed = set(workspace.listing().paths)
    with workspace.checkout() as checkout:
        assert {
            str(one.relative_to(checkout.root))
            for one in checkout.root.rglob("*")
            if one.is_file() or one.is_symlink()
        } == listed
    return listed


def test_the_data_folder_by_another_path_is_hidden(tmp_path: Path, bind: Bind) -> None:
    state = tmp_path / "state"
    for path in ("trust/a.json", "roles/b.md"):
        write(state, path)
    write(tmp_path / "work", "a.txt")
    alias = bind(state, tmp_path / "work/deep/notes")
    workspace = Workspace(tmp_path / "work", state, 10)
    assert seen(workspace) == {"a.txt"}
    with workspace.checkout() as checkout:
        write(checkout.root, "deep/notes/roles/b.md", "planted")
        checkout.commit()
    assert (alias / "roles/b.md").read_text() == "x"


def test_a_workspace_by_another_path_hides_the_data_folder_in_it(tmp_path: Path, bind: Bind) -> None:
    state = tmp_path / "user/data/state"
    write(state, "trust/a.json")
    write(tmp_path, "user/a.txt")
    assert seen(Workspace(bind(tmp_path / "user", tmp_path / "alias"), state, 10)) == {"a.txt"}


@pytest.mark.parametrize(("at", "below"), [("", ".config/gcloud/"), (".config", "gcloud/"), ("work", "")])
def test_a_home_by_another_path_hides_its_secrets(
    tmp_path: Path, home: Path, bind: Bind, at: str, below: str
) -> None:
    write(home, ".config/gcloud/token")
    write(home, "work/a.txt")
    root = bind(home / at, tmp_path / "alias")
    assert seen(Workspace(root, tmp_path / "state", 10)) <= {"a.txt", "work/a.txt"}
    outer = bind(home / at, tmp_path / "outer/inner").parent
    assert all("token" not in path for path in seen(Workspace(outer, tmp_path / "state", 10)))


def test_no_run_works_in_credentials_by_another_path(tmp_path: Path, home: Path, bind: Bind) -> None:
    write(home, ".ssh/id")
    with pytest.raises(UsageError, match="no run works there"):
        Workspace(bind(home / ".ssh", tmp_path / "alias"), tmp_path / "state", 10)
    outer = tmp_path / "outer"
    bind(home / ".ssh", outer / "inner")
    assert seen(Workspace(outer, tmp_path / "state", 10)) == set()


def test_what_editors_load_is_asked_about_by_another_path(tmp_path: Path, home: Path, bind: Bind) -> None:
    (home / ".config").mkdir()
    workspace = Workspace(bind(home / ".config", tmp_path / "alias"), tmp_path / "state", 10)
    with workspace.checkout() as checkout:
        write(checkout.root, "nvim/init.lua")
        assert {one.root for one in workspace.executed(checkout)} == {"nvim"}


def test_programs_of_a_home_are_asked_about(tmp_path: Path, home: Path) -> None:
    for root, asked in ((home, {"bin"}), (tmp_path / "work", set())):
        root.mkdir(exist_ok=True)
        workspace = Workspace(root, tmp_path / "state", 10)
        with workspace.checkout() as checkout:
            write(checkout.root, "bin/ls")
            assert {one.root for one in workspace.executed(checkout)} == asked


OWN = [
    # the workspace, what `orch` trusts, and what a run makes of it
    (".config", ".config/orch", "orch/x"),
    ("", ".config/orch", ".config/orch/x"),
    ("", "xdg/deep/orch", "xdg/deep/orch/x"),
    ("", "prefect", "prefect/x"),
    ("", "Other/settings.toml", "other/SETTINGS.toml"),
]


@pytest.mark.parametrize(("root", "own", "made"), OWN)
@pytest.mark.parametrize("there", [True, False])
def test_no_run_makes_what_orch_trusts(tmp_path: Path, root: str, own: str, made: str, there: bool) -> None:
    user = tmp_path / "user"
    (user / root).mkdir(parents=True)
    if there:
        write(user, f"{own}/x", "mine")
    workspace = Workspace(user / root, tmp_path / "state", 10, own=(user / own,))
    assert seen(workspace) == set()
    with workspace.checkout() as checkout:
        write(checkout.root, made, "planted")
        assert made.split("/")[-1 if own.endswith("toml") else -2] in " ".join(checkout.refused_paths())
        checkout.commit(approved=None)
    assert [path.read_text() for path in user.rglob("x") if path.is_file()] == ["mine"] * there


@pytest.mark.parametrize("own", ["conf/orch", "conf/deep/orch", "xdg/orch"])
def test_no_run_leads_what_orch_trusts_elsewhere_by_a_link(tmp_path: Path, own: str) -> None:
    user = tmp_path / "user"
    write(user, "theirs/orch/orch.toml")
    (user / "conf").mkdir()
    workspace = Workspace(user, tmp_path / "state", 10, own=(user / own,))
    for path in (own, own.split("/")[0]):
        with workspace.checkout() as checkout:
            place = checkout.root / path
            if place.exists():
                shutil.rmtree(place)
            place.parent.mkdir(exist_ok=True)
            place.symlink_to(user / "theirs")
            if path == own:
                checkout.commit(approved=None)
            else:
                with pytest.raises(WorkspaceFault, match="what it trusts"):
                    workspace.executed(checkout)
                with pytest.raises(WorkspaceFault, match="what it trusts"):
                    checkout.commit(approved=None)
        assert not (user / path).is_symlink()


def test_what_links_lead_to_is_protected_as_well(tmp_path: Path) -> None:
    user, dotfiles = tmp_path / "user", tmp_path / "dotfiles"
    write(dotfiles, "conf/orch-settings", "mine")
    write(dotfiles, "other", "shown")
    (user / "conf/orch").mkdir(parents=True)
    (dotfiles / "current").symlink_to("conf")
    (user / "conf/orch/orch.toml").symlink_to("../../../dotfiles/current/orch-settings")
    workspace = Workspace(dotfiles, tmp_path / "state", 10, own=(user / "conf/orch/orch.toml",))
    assert "conf/orch-settings" not in seen(workspace)
    with workspace.checkout() as checkout:
        write(checkout.root, "conf/orch-settings", "planted")
        (checkout.root / "current").unlink()
        (checkout.root / "current").symlink_to("elsewhere")
        with pytest.raises(WorkspaceFault, match="current may not be replaced"):
            checkout.commit(approved=None)
    with workspace.checkout() as checkout:
        write(checkout.root, "conf/orch-settings", "planted")
        checkout.commit(approved=None)
    assert (dotfiles / "conf/orch-settings").read_text() == "mine"


def test_a_hidden_folder_of_a_home_is_shown_only_if_it_is_known(tmp_path: Path, home: Path) -> None:
    shown = {
        "work/a.txt",
        "work/.newprogram/x",
        ".bashrc",
        ".config/app/x",
        ".dockerignore",
        ".vscode/a.json",
    }
    for path in (*shown, ".newprogram/token", ".token", ".var/app/x/config/login"):
        write(home, path)
    assert seen(Workspace(home, tmp_path / "state", 10)) == shown
    allowed = Workspace(home, tmp_path / "state", 10, allowed=(".newprogram",))
    assert seen(allowed) == {*shown, ".newprogram/token"}


def test_places_are_found_through_links_in_circles(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert Places([tmp_path / "a/x"]).within(tmp_path) == [tmp_path / "a/x"]
