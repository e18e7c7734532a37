"""Files of a workspace that the rest of the machine uses under names of its own."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator_cli.data_folder import own_places
from orchestrator_cli.errors import UsageError
from orchestrator_cli.workspace import Workspace, WorkspaceFault
from orchestrator_cli.workspace.entrances import Entrances


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def root(home: Path) -> Path:
    (home / "dotfiles").mkdir()
    return home / "dotfiles"


def write(root: Path, path: str, text: str = "x") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def link(place: Path, target: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


def opened(root: Path, allowed: tuple[str, ...] = (), own: tuple[Path, ...] = ()) -> Workspace:
    return Workspace(root, root.parent.parent / "state", 10, allowed=allowed, own=own)


def asked(workspace: Workspace, path: str) -> set[str]:
    with workspace.checkout() as checkout:
        write(checkout.root, path, "changed")
        return {one.root for one in workspace.executed(checkout)}


def seen(workspace: Workspace) -> set[str]:
    return set(workspace.listing().paths)


DOTFILES = [
    # the link in the home folder, its target, what is written, and what is asked about
    (".bashrc", "dotfiles/bashrc", "bashrc", "bashrc"),
    (".gitconfig", "{home}/dotfiles/git/config", "git/config", "git/config"),
    (".config/nvim", "../dotfiles/nvim", "nvim/lua/x.lua", "nvim"),
    (".config", "dotfiles/conf", "conf/nvim/init.lua", "conf/nvim"),
    (".config/nvim/init.lua", "../../dotfiles/init.lua", "init.lua", "init.lua"),
    (".config/Code/User/settings.json", "../../../dotfiles/code.json", "code.json", "code.json"),
    (".local/bin", "../dotfiles/tools", "tools/ls", "tools"),
    (".zshrc", "dotfiles/zsh", "zsh", "zsh"),
    (".zshrc", "dotfiles/zsh", "other", None),
    (".config/harmless", "../dotfiles/harmless", "harmless/x", None),
    (".local/bin/tool", "../../dotfiles/tool.py", "tool.py", None),
]


@pytest.mark.parametrize(("name", "target", "path", "root_asked"), DOTFILES)
@pytest.mark.parametrize("there", [True, False])
def test_what_a_home_leads_to_needs_a_yes(
    home: Path, root: Path, name: str, target: str, path: str, root_asked: str | None, there: bool
) -> None:
    link(home / name, target.format(home=home))
    if there:
        write(root, path)
    assert asked(opened(root), path) == {root_asked} - {None}
    assert asked(opened(root, allowed=(path.split("/")[0],)), path) <= {root_asked} - {path.split("/")[0]}


def test_a_link_on_the_way_from_a_home_needs_a_yes(home: Path, root: Path) -> None:
    link(home / ".bashrc", "dotfiles/current/bashrc")
    link(root / "current", "one")
    write(root, "one/bashrc")
    write(root, "two/bashrc")
    workspace = opened(root)
    assert asked(workspace, "one/bashrc") == {"one/bashrc"}
    with workspace.checkout() as checkout:
        (checkout.root / "current").unlink()
        (checkout.root / "current").symlink_to("two")
        assert {one.root for one in workspace.executed(checkout)} == {"current"}


def test_links_in_the_workspace_go_on_from_a_home(home: Path, root: Path) -> None:
    link(home / ".config", "dotfiles/conf")
    link(root / "conf/nvim", "../editor")
    assert "conf/nvim" in asked(opened(root), "editor/init.lua")


SECRETS = [
    (".netrc", "netrc", "netrc"),
    (".aws/credentials", "cloud/credentials", "cloud/credentials"),
    (".ssh", "keys", "keys/id"),
    (".config", "conf", "conf/gh/hosts.yml"),
    (".config/gh/hosts.yml", "hosts.yml", "hosts.yml"),
]


@pytest.mark.parametrize(("name", "target", "path"), SECRETS)
def test_secrets_that_a_home_leads_to_are_hidden(
    home: Path, root: Path, name: str, target: str, path: str
) -> None:
    link(home / name, str(root / target))
    write(root, path, "secret")
    write(root, "shown")
    workspace = opened(root)
    assert seen(workspace) == {"shown"}
    with workspace.checkout() as checkout:
        assert not (checkout.root / path).exists()
        write(checkout.root, path, "planted")
        checkout.commit(approved=None)
    assert (root / path).read_text() == "secret"
    assert path in seen(opened(root, allowed=(target, name, path, ".config/gh")))


def test_no_run_works_in_secrets_of_another_settings_folder(
    home: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(root / "conf"))
    write(root, "conf/gcloud/token")
    with pytest.raises(UsageError, match="no run works there"):
        opened(root / "conf/gcloud")


XDG = [
    # the variable, what is written below it, and what is asked about, or None if that is hidden
    ("XDG_CONFIG_HOME", "nvim/init.lua", "nvim"),
    ("XDG_CONFIG_HOME", "autostart/x.desktop", "autostart"),
    ("XDG_DATA_HOME", "applications/x.desktop", "applications"),
    ("XDG_CONFIG_HOME", "gcloud/token", None),
    ("XDG_DATA_HOME", "keyrings/login.keyring", None),
    ("XDG_STATE_HOME", "nvim/shada", None),
    ("XDG_CACHE_HOME", "huggingface/token", None),
]


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize(("variable", "path", "what"), XDG)
def test_other_settings_folders_have_the_same_rules(
    root: Path, monkeypatch: pytest.MonkeyPatch, variable: str, path: str, what: str | None, inside: bool
) -> None:
    folder = root if inside else root / "conf"
    monkeypatch.setenv(variable, str(folder))
    write(folder, path)
    workspace = opened(root)
    rest = Path(folder / path).relative_to(root).as_posix()
    assert (rest in seen(workspace)) == (what is not None)
    assert asked(workspace, rest) == ({Path(folder, what).relative_to(root).as_posix()} if what else set())


def test_a_folder_on_the_path_needs_a_yes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{root / 'tools'}:relative:/usr/bin")
    assert asked(opened(root), "tools/ls") == {"tools"}
    assert asked(opened(root), "tools/data/notes") == set()
    assert asked(opened(root), "relative/ls") == set()
    (root / "tools").mkdir()
    assert asked(opened(root / "tools"), "ls") == {"."}


@pytest.mark.parametrize(
    ("name", "target", "path", "what"),
    [
        ("hooks/pre-commit", "../../scripts/check", "scripts/check", "scripts/check"),
        ("hooks", "../tooling/hooks", "tooling/hooks/post-merge", "tooling/hooks"),
        ("info/attributes", "../../attributes", "attributes", "attributes"),
        ("config", "../team", "team", "team"),
        ("hooks/pre-commit", "../../scripts/check", "scripts/other", None),
    ],
)
def test_what_git_reaches_by_links_needs_a_yes(
    root: Path, name: str, target: str, path: str, what: str | None
) -> None:
    subprocess.run(["git", "init", "-q", "--template=", root], check=True)
    place = root / ".git" / name
    if place.exists():
        write(root, path, place.read_text())
        place.unlink()
    link(place, target)
    assert asked(opened(root), path) == {what} - {None}


def test_roles_that_links_lead_to_are_hidden(home: Path, root: Path) -> None:
    state = home.parent / "state"
    link(state / "roles", str(root / "roles"))
    link(state / "more/mine.md", str(root / "mine.md"))
    for path in ("roles/coder.md", "mine.md", "shown"):
        write(root, path)
    own = own_places(state, None, state / "orch.toml")
    workspace = opened(root, own=own)
    assert seen(workspace) == {"shown"}
    with workspace.checkout() as checkout:
        write(checkout.root, "roles/coder.md", "planted")
        checkout.commit(approved=None)
    assert (root / "roles/coder.md").read_text() == "x"


def test_what_orch_runs_from_needs_a_yes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, "src/entrance_editable/__init__.py")
    (root / "src/entrance_editable/__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(root / "src"))
    importlib.import_module("entrance_editable")
    monkeypatch.setattr(sys, "prefix", str(root / "pythons/orch"))
    assert asked(opened(root), "src/entrance_editable/new.py") == {"src/entrance_editable"}
    assert asked(opened(root), "pythons/orch/lib/python3/site-packages/x.py") == {"pythons/orch/lib"}
    assert asked(opened(root), "src/other.py") == set()
    assert asked(opened(root), "docs/a.md") == set()
    assert seen(opened(root)) == {"src/entrance_editable/__init__.py"}
    inside = opened(root / "src/entrance_editable")
    with inside.checkout() as checkout:
        write(checkout.root, "a.py")
        with pytest.raises(WorkspaceFault, match="orch itself runs"):
            checkout.commit()
    del sys.modules["entrance_editable"]


OUTSIDE = [
    # where a link of the workspace leads, and whether it is asked about
    ("{home}/.bashrc", True),
    ("../.bashrc", True),
    ("{home}/.config/nvim/init.lua", True),
    ("{home}/.vscode", True),
    ("{home}/other/AGENTS.md", True),
    ("{home}/other/Makefile", True),
    ("{home}/alias", True),
    ("{home}/config/fish/config.fish", True),
    ("{home}", True),
    ("{home}/tools/ls", True),
    ("{home}/tools", True),
    ("{home}/data", False),
    ("../data/x.csv", False),
]


@pytest.mark.parametrize(("target", "is_asked"), OUTSIDE)
def test_a_link_to_what_is_executed_outside_needs_a_yes(
    home: Path, root: Path, monkeypatch: pytest.MonkeyPatch, target: str, is_asked: bool
) -> None:
    for folder in ("tools", "data", "config", "other", "real"):
        (home / folder).mkdir()
    link(home / "alias", "real/.profile")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("PATH", f"{home / 'tools'}:/usr/bin:/bin")
    workspace = opened(root)
    with workspace.checkout() as checkout:
        link(checkout.root / "results.txt", target.format(home=home))
        found = {one.root for one in workspace.executed(checkout)}
        assert found == ({"results.txt"} if is_asked else set())


MACHINE = [
    # the target of a link, and whether it is asked about
    ("/etc/cron.d", True),
    ("/etc/cron.d/new", True),
    ("/etc/profile.d/x.sh", True),
    ("/etc/new-program/plugins", True),
    ("/var/spool/cron/crontabs/ada", True),
    ("/boot", True),
    ("/", True),
    ("/var", True),
    ("{home}/..", True),
    ("{home}/.config/systemd/user", True),
    ("{home}/.config/autostart/x.desktop", True),
    ("../../../../../../../../../../etc/cron.d", True),
    ("second", True),
    ("/var/log", False),
    ("/srv/etc/cron.d", False),
    ("{home}/etc/cron.d", False),
]


@pytest.mark.parametrize("name", ["results", "out/data.csv"])
@pytest.mark.parametrize(("target", "is_asked"), MACHINE)
def test_a_link_to_what_the_machine_uses_needs_a_yes(
    home: Path, root: Path, name: str, target: str, is_asked: bool
) -> None:
    link(root / name.replace("results", "second").replace("data.csv", "second"), "/etc/cron.d")
    workspace = opened(root)
    with workspace.checkout() as checkout:
        link(checkout.root / name, target.format(home=home))
        assert {one.root for one in workspace.executed(checkout)} == ({name} if is_asked else set())


def test_a_link_to_programs_of_the_machine_counts_if_the_user_can_write_there(home: Path, root: Path) -> None:
    workspace = opened(root)
    with workspace.checkout() as checkout:
        link(checkout.root / "results", "/usr/lib/new/x.py")
        asked_about = {one.root for one in workspace.executed(checkout)}
    assert asked_about == ({"results"} if os.access("/usr/lib", os.W_OK) else set())


def test_what_the_machine_uses_by_a_link_needs_a_yes(tmp_path: Path, root: Path) -> None:
    etc = tmp_path / "etc"
    link(etc / "systemd/system/x.service", f"{root}/deploy/x.service")
    link(etc / "systemd/system/multi-user.target.wants/y.service", f"{root}/y.service")
    link(etc / "cron.daily/report", "../../home/dotfiles/report")
    link(etc / "alternatives/editor", "/usr/bin/vi")
    entrances = Entrances(root, machine=(etc,))
    used = [path for path in ("deploy/x.service", "y.service", "report", "other") if [*entrances.uses(path)]]
    assert used == ["deploy/x.service", "y.service", "report"]
