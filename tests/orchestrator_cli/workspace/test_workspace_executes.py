"""What is executed or obeyed later is committed only if a person agrees, under whatever name."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from orchestrator_cli.errors import UsageError
from orchestrator_cli.tools.executed_files import EXECUTES
from orchestrator_cli.tools.file_rules import executes
from orchestrator_cli.workspace import Checkout, Workspace, WorkspaceFault


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def workspace(root: Path, tmp_path: Path) -> Workspace:
    return Workspace(root, tmp_path / "state", 10)


def write(root: Path, path: str, text: str = "x") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def roots(workspace: Workspace, checkout: Checkout) -> set[str]:
    return {one.root for one in workspace.executed(checkout)}


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


NAMES = {
    ".vscode/tasks.json": ".vscode",
    "app/.VSCode/settings.json": "app/.VSCode",
    ".claude/settings.json": ".claude",
    ".pi/extensions/x.ts": ".pi",
    "CRUSH.md": "CRUSH.md",
    ".flox/env/manifest.toml": ".flox",
    "docs/agents.MD": "docs/agents.MD",
    ".mcp.json": ".mcp.json",
    ".husky/pre-commit": ".husky",
    ".pre-commit-config.yaml": ".pre-commit-config.yaml",
    ".gitattributes": ".gitattributes",
    ".bashrc": ".bashrc",
    "tests/conftest.py": "tests/conftest.py",
    "lib/site-packages/evil.pth": "lib/site-packages/evil.pth",
    ".pytest.ini": ".pytest.ini",
    ".mvn/extensions.xml": ".mvn",
    "rust-toolchain.toml": "rust-toolchain.toml",
    ".dir-locals-2.el": ".dir-locals-2.el",
    ".qwen/settings.json": ".qwen",
    ".config/mise/config.toml": ".config/mise",
    ".local/share/dbus-1/services/x.service": ".local/share/dbus-1",
    ".vscode\ufe0f/tasks.json": ".vscode\ufe0f",
    ".github/workflows/ci.yml": ".github/workflows",
    ".GitHub/Workflows/ci.yml": ".GitHub/Workflows",
    ".\uff36scode/tasks.json": ".\uff36scode",
    ".vs\u200dcode/tasks.json": ".vs\u200dcode",
    ".vscode. /tasks.json": ".vscode. ",
    ".vscode::$INDEX_ALLOCATION/tasks.json": ".vscode::$INDEX_ALLOCATION",
    ".lazy.lua": ".lazy.lua",
    "gptme.toml": "gptme.toml",
    "grumphp.yml.dist": "grumphp.yml.dist",
    ".rvmrc": ".rvmrc",
    "a/.erlang": "a/.erlang",
    ".chef/config.rb": ".chef",
    "Saltfile": "Saltfile",
    "devfile.yaml": "devfile.yaml",
}


@pytest.mark.parametrize("path", NAMES)
def test_a_file_that_is_executed_later_needs_a_yes(workspace: Workspace, root: Path, path: str) -> None:
    with workspace.checkout() as checkout:
        write(checkout.root, path)
        write(checkout.root, "other.txt")
        (found,) = workspace.executed(checkout)
        assert (found.root, path in found.paths) == (NAMES[path], True)
        with pytest.raises(WorkspaceFault, match="only if a person agrees"):
            checkout.commit()
        assert files(root) == []
        checkout.commit(approved={NAMES[path]})
    assert files(root) == sorted([path, "other.txt"])


@pytest.mark.parametrize(
    "path",
    [
        "vscode/tasks.json",
        "agents.txt",
        ".github/CODEOWNERS",
        "workflows/ci.yml",
        "my.pth",
        "a.py",
        "data/.login",
        "lefthook.md",
    ],
)
def test_other_files_need_none(workspace: Workspace, path: str) -> None:
    with workspace.checkout() as checkout:
        write(checkout.root, path)
        assert workspace.executed(checkout) == ()
        assert checkout.commit()


DOTTED = {
    ".tekton/build.yaml": ".tekton",
    "web/.Tomorrow/settings.json": "web/.Tomorrow",
    ".github/.agent-of-2027": ".github/.agent-of-2027",
    ".to\u200dmorrow": ".to\u200dmorrow",
}


@pytest.mark.parametrize("mark", [".git/HEAD", "package.json", "pyproject.toml"])
@pytest.mark.parametrize("path", DOTTED)
def test_in_a_project_an_unknown_name_with_a_dot_needs_a_yes(
    workspace: Workspace, root: Path, path: str, mark: str
) -> None:
    write(root, mark, "{}" if mark.endswith("json") else "")
    with workspace.checkout() as checkout:
        write(checkout.root, path)
        assert roots(workspace, checkout) == {DOTTED[path]}


@pytest.mark.parametrize(
    "path",
    [".gitignore", "docs/.prettierignore", ".github/CODEOWNERS", ".cache/a/.b", ".tox/.x", "a.b/.keep"],
)
def test_a_known_name_with_a_dot_needs_none(workspace: Workspace, root: Path, path: str) -> None:
    write(root, "package.json", "{}")
    with workspace.checkout() as checkout:
        write(checkout.root, path)
        assert workspace.executed(checkout) == ()


def test_outside_of_a_project_an_unknown_name_with_a_dot_needs_none(workspace: Workspace) -> None:
    with workspace.checkout() as checkout:
        write(checkout.root, "notes/.draft/one.txt")
        write(checkout.root, "package.json", "{}")  # of the run itself
        assert workspace.executed(checkout) == ()


def test_what_holds_logins_in_a_home_folder_is_hidden_there(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, ".pi/agent/auth.json")
    write(root, ".claude/settings.json")
    monkeypatch.setenv("HOME", str(root))
    with Workspace(root, tmp_path / "state", 10).checkout() as checkout:
        assert files(checkout.root) == [".claude/settings.json"]


def test_every_rule_names_what_it_is_about() -> None:
    for rule in EXECUTES:
        assert rule.why
        for name in rule.names:
            assert executes.within(f"a/{name.replace('*', 'x')}/b") is not None


def test_a_deletion_needs_a_yes(workspace: Workspace, root: Path) -> None:
    write(root, ".claude/settings.json", '{"deny": ["Bash"]}')
    with workspace.checkout() as checkout:
        (checkout.root / ".claude/settings.json").unlink()
        assert roots(workspace, checkout) == {".claude"}


def test_a_makefile_needs_a_yes_if_it_is_the_users(workspace: Workspace, root: Path) -> None:
    write(root, "Makefile")
    for text in ("one", "two"):  # the second changes what the run itself made
        with workspace.checkout() as checkout:
            write(checkout.root, "sub/makefile", text)
            assert workspace.executed(checkout) == ()
            checkout.commit()
    with workspace.checkout() as checkout:
        write(checkout.root, "Makefile", "changed")
        assert roots(workspace, checkout) == {"Makefile"}


@pytest.mark.parametrize(
    ("before", "after", "asked"),
    [
        (None, {"name": "a"}, False),
        (None, {"scripts": {"postinstall": "x"}}, False),
        ({"name": "a"}, {"name": "a", "scripts": {"postinstall": "x"}}, True),
        ({"name": "a"}, {"name": "a", "gitHooks": {"pre-commit": "x"}}, True),
        ({"name": "a"}, {"name": "a", "packageManager": "yarn@https://example.org/y.js"}, True),
        ({"name": "a"}, {"name": "a", "dependencies": {"x": "^1.0", "y": "workspace:*"}}, False),
        ({"name": "a"}, {"name": "a", "dependencies": {"x": "https://example.org/x.tgz"}}, True),
        ({"name": "a"}, {"name": "a", "overrides": {"x": {"y": "user/repo"}}}, True),
        ({"scripts": {"test": "x"}}, {"scripts": {"test": "x"}, "version": "2"}, False),
        ({"scripts": {"test": "x"}}, {"scripts": {"test": "y"}}, True),
        ({"name": "a"}, {"name": "a", "husky": {"hooks": {"pre-commit": "x"}}}, True),
        ({"name": "a"}, "{not json", True),
    ],
)
def test_a_package_needs_a_yes_if_its_scripts_change(
    workspace: Workspace, root: Path, before: object, after: object, asked: bool
) -> None:
    if before is not None:
        write(root, "package.json", json.dumps(before))
    with workspace.checkout() as checkout:
        write(checkout.root, "package.json", after if isinstance(after, str) else json.dumps(after))
        assert roots(workspace, checkout) == ({"package.json"} if asked else set())


KEYS = [
    # the file, its content before (None: none) and after the change
    ("pyproject.toml", "[project]\nname='a'", "[project]\nname='b'", False),
    ("pyproject.toml", "[project]\nname='a'", "[project]\nname='a'\n[tool.pytest]\naddopts='-p x'", True),
    ("pyproject.toml", "[build-system]\n", "[build-system]\nbackend-path=['x']", True),
    ("setup.cfg", "[metadata]\nname=a", "[metadata]\nname=b", False),
    ("setup.cfg", "[metadata]\nname=a", "[metadata]\nname=a\n[tool:pytest]\naddopts=-p x", True),
    ("setup.cfg", "[tool:pytest]\na=b", "[tool:pytest]\na=b\n [metadata]\nc=d", True),
    ("tox.ini", None, "[flake8]\nmax-line-length=100", False),
    ("tox.ini", None, "[pytest] ; ]\naddopts=-p x", True),
    ("tox.ini", "[testenv:py]\ncommands=a", "[testenv:py]\ncommands=b", True),
]


@pytest.mark.parametrize(("path", "before", "after", "asked"), KEYS)
def test_settings_need_a_yes_if_a_part_that_is_executed_changes(
    workspace: Workspace, root: Path, path: str, before: str | None, after: str, asked: bool
) -> None:
    write(root, "tests/test_a.py")
    if before is not None:
        write(root, path, before)
    with workspace.checkout() as checkout:
        write(checkout.root, path, after)
        assert roots(workspace, checkout) == ({path} if asked else set())


def test_a_new_project_needs_no_yes(workspace: Workspace, root: Path) -> None:
    new = {
        "package.json": '{"scripts": {"test": "x"}}',
        "pyproject.toml": "[tool.pytest.ini_options]\nx=1",
        "Makefile": "all:",
        "build.rs": "x",
    }
    for content in ("", " "):  # then it changes what it made
        with workspace.checkout() as checkout:
            for path, text in new.items():
                write(checkout.root, path, text + content)
            assert workspace.executed(checkout) == ()
            checkout.commit()


def test_a_package_inside_of_another_one_needs_a_yes(workspace: Workspace, root: Path) -> None:
    write(root, "package.json", "{}")
    with workspace.checkout() as checkout:
        write(checkout.root, "packages/a/package.json", '{"scripts": {"postinstall": "x"}}')
        assert roots(workspace, checkout) == {"packages/a/package.json"}


BESIDE = [
    # what there is, what is written, and what is asked about
    ("Makefile", "GNUmakefile", "GNUmakefile"),
    ("makefile", "Makefile", "Makefile"),
    ("justfile", ".justfile", ".justfile"),
    ("Taskfile.yaml", "Taskfile.yml", "Taskfile.yml"),
    ("Cargo.toml", "build.rs", "build.rs"),
    ("pyproject.toml", "setup.py", "setup.py"),
    ("package.json", "binding.gyp", "binding.gyp"),
    (".venv/bin/python", ".venv/bin/ls", ".venv"),
    (".venv/pyvenv.cfg", ".venv/pyvenv.cfg", ".venv"),
    ("node_modules/.bin/a", "node_modules/.bin/a", "node_modules"),
    ("node_modules/.bin/a", "node_modules/a/cli.js", "node_modules"),
    ("tools/conda-meta/history", "tools/lib/x.py", "tools/lib"),
    (".yarn/releases/a.cjs", ".yarn/releases/a.cjs", ".yarn/releases"),
    ("gradlew", "gradlew", "gradlew"),
    ("gradle/wrapper/a.jar", "gradle/wrapper/a.jar", "gradle/wrapper"),
    ("flow.py", "prefect.yaml", "prefect.yaml"),
    ("tasks.py", "invoke.yml", "invoke.yml"),
    ("project.clj", "profiles.clj", "profiles.clj"),
    ("build.sbt", "project/Evil.scala", "project/Evil.scala"),
    ("pnpm-lock.yaml", "package.json5", "package.json5"),
    ("Gemfile", "Steepfile", "Steepfile"),
    ("Cargo.toml", "sgconfig.yml", "sgconfig.yml"),
    ("Makefile.PL", "Makefile.PL", "Makefile.PL"),
    ("dbt_project.yml", "dbt_project.yml", "dbt_project.yml"),
]


@pytest.mark.parametrize(
    ("text", "asked"), [("7.4.1", False), ("evil/7.4.1", True), ("7.4.1\nevil/7.4.1", True)]
)
def test_a_version_that_names_where_it_is_fetched_from_needs_a_yes(
    workspace: Workspace, text: str, asked: bool
) -> None:
    with workspace.checkout() as checkout:
        write(checkout.root, ".bazelversion", text)
        assert roots(workspace, checkout) == ({".bazelversion"} if asked else set())


@pytest.mark.parametrize(
    ("after", "asked"),
    [
        ({"fmt": {"lineWidth": 90}}, False),
        ({"tasks": {"dev": "x"}}, True),
        ({"lint": {"plugins": ["./x.ts"]}}, True),
    ],
)
def test_what_deno_runs_needs_a_yes(workspace: Workspace, root: Path, after: object, asked: bool) -> None:
    write(root, "deno.json", "{}")
    with workspace.checkout() as checkout:
        write(checkout.root, "deno.json", json.dumps(after))
        assert roots(workspace, checkout) == ({"deno.json"} if asked else set())


@pytest.mark.parametrize(("there", "path", "asked"), BESIDE)
def test_a_file_that_is_used_instead_of_another_needs_a_yes(
    workspace: Workspace, root: Path, there: str, path: str, asked: str
) -> None:
    write(root, there)
    with workspace.checkout() as checkout:
        write(checkout.root, path, "changed")
        assert roots(workspace, checkout) == {asked}


def test_a_file_that_a_link_names_already_needs_a_yes(workspace: Workspace, root: Path) -> None:
    (root / "Makefile").symlink_to("b.make")
    with workspace.checkout() as checkout:
        write(checkout.root, "b.make")
        assert roots(workspace, checkout) == {"Makefile"}


def test_the_source_that_an_installed_program_leads_to_needs_no_yes(workspace: Workspace, root: Path) -> None:
    write(root, "node_modules/.bin/b")
    (root / "node_modules/.bin/a").symlink_to("../../src/a.js")
    with workspace.checkout() as checkout:
        write(checkout.root, "src/a.js")
        assert workspace.executed(checkout) == ()


def test_a_git_repository_by_another_name_needs_a_yes(workspace: Workspace, root: Path) -> None:
    with workspace.checkout() as checkout:
        for path in ("data/HEAD", "data/config", "data/objects/x", "data/refs/x"):
            write(checkout.root, path)
        assert roots(workspace, checkout) == {"data"}


@pytest.mark.parametrize("last", ["HEAD", "objects/x", "refs/x"])
def test_a_git_repository_made_piece_by_piece_needs_a_yes(
    workspace: Workspace, root: Path, last: str
) -> None:
    pieces = {"HEAD", "objects/x", "refs/x"} - {last}
    # The last piece comes from a checkout that was taken before the others were there.
    with workspace.checkout() as late:
        with workspace.checkout() as checkout:
            for path in pieces:
                write(checkout.root, f"data/{path}")
            checkout.commit()
        write(late.root, f"data/{last}")
        assert roots(workspace, late) == {"data"}
    with workspace.checkout() as checkout:
        write(checkout.root, "data/" + last)
        checkout.commit(approved={"data"})
    with workspace.checkout() as checkout:
        write(checkout.root, "data/config", "[core]\nfsmonitor = touch pwned")
        assert roots(workspace, checkout) == {"data"}


def test_a_git_worktree_by_another_name_needs_a_yes(workspace: Workspace) -> None:
    with workspace.checkout() as checkout:
        write(checkout.root, "data/head")
        write(checkout.root, "data/commondir", "../other")
        assert roots(workspace, checkout) == {"data"}


LINKS = [
    # links that there are, the file that is changed, and what is asked about
    ({"notes": ".vscode"}, "notes/tasks.json", ".vscode"),
    ({".vscode": "notes"}, "notes/tasks.json", ".vscode"),
    ({".vscode": "a", "a": "b/c"}, "b/c/tasks.json", ".vscode"),
    ({".VSCODE": "Notes"}, "notes/tasks.json", ".VSCODE"),
    ({"CLAUDE.md": "docs/rules.md"}, "docs/rules.md", "CLAUDE.md"),
    ({".github": "build"}, "build/workflows/ci.yml", ".github/workflows"),
    ({".github/workflows": "../build"}, "build/ci.yml", ".github/workflows"),
    ({".github": "build", "build/workflows": "../ci"}, "ci/a.yml", ".github/workflows"),
    ({".vscode": "a", "a/tasks.json": "../b.json"}, "b.json", ".vscode"),
    ({".vscode": "."}, "tasks.json", ".vscode"),
]


@pytest.mark.parametrize(("links", "path", "root_asked"), LINKS)
def test_links_that_are_there_hide_nothing(
    workspace: Workspace, root: Path, links: dict[str, str], path: str, root_asked: str
) -> None:
    for name, target in links.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(target)
    with workspace.checkout() as checkout:
        if ".vscode" in links.values():
            (checkout.root / ".vscode").mkdir()
        write(checkout.root, path)
        assert root_asked in roots(workspace, checkout)
        with pytest.raises(WorkspaceFault, match="only if a person agrees"):
            checkout.commit()


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("notes", ".vscode"),
        (".vscode", "notes"),
        (".github", "notes"),
        ("notes", "deep/../.git/hooks"),
        ("notes", "../../.ssh"),
        ("notes", "/home/user/.aws/credentials"),
    ],
)
def test_a_new_link_to_or_from_such_a_name_needs_a_yes(workspace: Workspace, name: str, target: str) -> None:
    with workspace.checkout() as checkout:
        (checkout.root / name).symlink_to(target)
        (checkout.root / "plain").symlink_to("file.txt")
        (found,) = workspace.executed(checkout)
        assert found.paths == (name,)


RETARGETED = [
    # the links and files that there are, what links replace, and what is asked about
    ({".vscode": "b", "b": "a"}, ["c/tasks.json"], {"b": "c"}, ".vscode"),
    ({".vscode": "a"}, ["a/x", "c/tasks.json"], {"a": "c"}, ".vscode"),
    ({"CLAUDE.md": "cur.md", "cur.md": "good.md"}, ["evil.md"], {"cur.md": "evil.md"}, "CLAUDE.md"),
    ({".config/nvim": "../dot/nvim", "dot": "one"}, ["two/nvim/init.lua"], {"dot": "two"}, ".config/nvim"),
    ({".config": "conf", "conf": "one"}, ["two/nvim/init.lua"], {"conf": "two"}, ".config"),
    ({"CLAUDE.md": "dot/a.md"}, ["dot/a.md", "two/a.md"], {"dot": "two"}, "CLAUDE.md"),
]


@pytest.mark.parametrize(("links", "paths", "after", "asked"), RETARGETED)
def test_a_link_on_the_way_to_such_a_name_needs_a_yes(
    workspace: Workspace,
    root: Path,
    links: dict[str, str],
    paths: list[str],
    after: dict[str, str],
    asked: str,
) -> None:
    for path in paths:
        write(root, path)
    for name, target in links.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).symlink_to(target)
    with workspace.checkout() as checkout:
        for name, target in after.items():
            place = checkout.root / name
            shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink()
            place.symlink_to(target)
        assert asked in roots(workspace, checkout)


def test_a_link_that_was_on_the_way_counts_when_a_folder_replaces_it(
    workspace: Workspace, root: Path
) -> None:
    (root / ".vscode").symlink_to("b")
    (root / "b").symlink_to("a")
    with workspace.checkout() as checkout:
        (checkout.root / "b").unlink()
        write(checkout.root, "b/tasks.json")
        assert roots(workspace, checkout) == {".vscode"}


@pytest.mark.parametrize("way", ["{root}/.git/hooks", "../{name}/.git/hooks", "../{name}/.vscode"])
def test_a_link_that_leads_out_and_back_needs_a_yes(workspace: Workspace, root: Path, way: str) -> None:
    with workspace.checkout() as checkout:
        (checkout.root / "notes").symlink_to(way.format(root=root, name=root.name))
        assert roots(workspace, checkout) == {"notes"}


def test_a_name_by_a_link_out_and_back_needs_a_yes(workspace: Workspace, root: Path) -> None:
    (root / ".vscode").symlink_to(f"../{root.name}/a")
    with workspace.checkout() as checkout:
        write(checkout.root, "a/tasks.json")
        assert roots(workspace, checkout) == {".vscode"}


ABOVE = [
    # the workspace, a file in it, and what is asked about
    (".config", "nvim/init.lua", "nvim"),
    (".config", "systemd/user/x.service", "systemd"),
    ("repo/.github", "workflows/a.yml", "workflows"),
    (".local", "bin/ls", "bin"),
    (".cargo", "config.toml", "config.toml"),
    (".local/share", "applications/x.desktop", "applications"),
    ("repo/.vscode", "tasks.json", "."),
    (".claude", "sub/settings.json", "."),
    ("repo/.husky", "_/pre-commit", "."),
]


@pytest.mark.parametrize(("place", "path", "asked"), ABOVE)
def test_the_folders_above_the_workspace_count(tmp_path: Path, place: str, path: str, asked: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    workspace = Workspace(tmp_path / place, tmp_path / "state", 10)
    with workspace.checkout() as checkout:
        write(checkout.root, path)
        assert roots(workspace, checkout) == {asked}
        checkout.commit(approved={asked})
    allowed = Workspace(tmp_path / place, tmp_path / "state", 10, allowed=(place,))
    with allowed.checkout() as checkout:
        write(checkout.root, path, "changed")
        assert asked != "." or allowed.executed(checkout) == ()


@pytest.mark.parametrize("place", [".git/hooks", "bare/hooks", "bare"])
def test_no_run_works_in_a_git_folder(tmp_path: Path, place: str) -> None:
    for path in ("HEAD", "objects/x", "refs/x", "hooks/x"):
        write(tmp_path / "bare", path)
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    with pytest.raises(UsageError, match="no run works"):
        Workspace(tmp_path / place, tmp_path / "state", 10)
    write(tmp_path, "bare/main/.git", "gitdir: ../worktrees/main")
    assert Workspace(tmp_path / "bare/main", tmp_path / "state", 10)


def test_links_in_circles_are_followed_once(workspace: Workspace, root: Path) -> None:
    for name, target in {"a": "b", "b": "a", ".vscode": ".vscode", ".github": ".", "x": ".github/x"}.items():
        (root / name).symlink_to(target)
    with workspace.checkout() as checkout:
        write(checkout.root, "file.txt")
        assert workspace.executed(checkout) == ()
        write(checkout.root, "workflows/ci.yml")
        assert roots(workspace, checkout) == {".github/workflows"}


def test_what_was_committed_under_another_name_needs_a_yes_when_it_is_moved(
    workspace: Workspace, root: Path
) -> None:
    with workspace.checkout("one") as checkout:
        write(checkout.root, "parts/editor/tasks.json")
        checkout.commit()
    with workspace.checkout("two") as checkout:
        (checkout.root / "parts/editor").rename(checkout.root / ".vscode")
        assert roots(workspace, checkout) == {".vscode"}
        with pytest.raises(WorkspaceFault, match="only if a person agrees"):
            checkout.commit()
    assert files(root) == ["parts/editor/tasks.json"]


def test_a_name_that_the_user_allows_needs_no_yes(root: Path, tmp_path: Path) -> None:
    workspace = Workspace(root, tmp_path / "state", 10, allowed=("conftest.py", "tests/fixture"))
    with workspace.checkout() as checkout:
        write(checkout.root, "tests/conftest.py")
        for path in ("HEAD", "objects/x", "refs/x"):
            write(checkout.root, f"tests/fixture/{path}")
        assert len(checkout.commit()) == 4


LOADED = [
    # what there is, what is written, and what is asked about
    ((), "sitecustomize/__init__.py", "sitecustomize"),
    ((), "lib/usercustomize.pyc", "lib/usercustomize.pyc"),
    ((), "lib/a.pyc", "lib/a.pyc"),
    ((), "uv.toml", "uv.toml"),
    ((), "tox.toml", "tox.toml"),
    ((), "opencode.jsonc", "opencode.jsonc"),
    ((), ".bsp/x.json", ".bsp"),
    ((), ".RData", ".RData"),
    ((), ".octaverc", ".octaverc"),
    ((), "ansible.cfg", "ansible.cfg"),
    ((), ".bundle/config", ".bundle"),
    ((), ".ycm_extra_conf.py", ".ycm_extra_conf.py"),
    ((), ".config/direnv/direnvrc", ".config/direnv"),
    ((), ".config/plasma-workspace/env/x.sh", ".config/plasma-workspace"),
    ((), ".config/gdb/gdbinit", ".config/gdb"),
    ((), ".rhosts", ".rhosts"),
    ((), ".oh-my-zsh/custom/x.zsh", ".oh-my-zsh"),
    ((), ".cargo/bin/ls", ".cargo/bin"),
    (("package.json",), "eslint.config.mjs", "eslint.config.mjs"),
    (("package.json",), "sub/vite.config.mts", "sub/vite.config.mts"),
    (("package.json",), ".babelrc.cjs", ".babelrc.cjs"),
    (("pyproject.toml",), "docs/.somerc", "docs/.somerc"),
    (("Gemfile",), "Gemfile", "Gemfile"),
    (("env/pyvenv.cfg", "env/bin/a"), "env/bin/activate", "env/bin"),
    (("a/py/pyvenv.cfg",), "a/py/lib/python3.12/x.py", "a/py/lib"),
    (("tools/conda-meta/history",), "tools/bin/python", "tools/bin"),
    *(((), path, path.partition("/")[0]) for path in (".lsp/config.edn", ".merlin", ".autoenv.zsh")),
    *(((), path, path.partition("/")[0]) for path in (".gitlint", ".cargo-husky/x", ".replit", ".agent/x")),
    *(((), path, path) for path in ("prek.toml", "IFLOW.md", "jupyter_lab_config.py", ".jvmopts")),
    ((), "mise/config.toml", "mise/config.toml"),
    (("pyproject.toml",), "hatch_build.py", "hatch_build.py"),
    (("package.json",), "nx.json", "nx.json"),
    (("a.csproj",), "sub/obj/a.targets", "sub/obj/a.targets"),
    (("build.gradle",), "sub/build.gradle.kts", "sub/build.gradle.kts"),
    (("Gemfile",), ".rubocop.yml", ".rubocop.yml"),
    (("x.cabal",), "hie.yaml", "hie.yaml"),
    ((".envrc",), "flake.nix", "flake.nix"),
    (("Dockerfile",), "Dockerfile", "Dockerfile"),
    (("app/compose.yaml",), "app/compose.yaml", "app/compose.yaml"),
    *(((), path, None) for path in ("Dockerfile", "mix.exs", "build.gradle", "flake.nix", "nx.json")),
    *(((), path, None) for path in ("pom.xml", "a.csproj", ".rubocop.yml", "hatch_build.py")),
    *((("package.json", "compose.yaml"), path, None) for path in ("Dockerfile", "gulpfile.js")),
    *(((), path, path) for path in ("matplotlibrc", "ipython_config.py", "startup.m", "sub/config.nims")),
    ((), "features/environment.py", "features/environment.py"),
    (("pyproject.toml",), "hatch.toml", "hatch.toml"),
    (("pyproject.toml",), "poetry.toml", "poetry.toml"),
    (("x.cabal",), "Setup.hs", "Setup.hs"),
    (("x.cabal",), "x.cabal", "x.cabal"),
    *(
        ((".git/x",), path, path)
        for path in ("rebar.config", "build.zig", "a.nimble", "dub.sdl", "zuul.yaml")
    ),
    (("build.gradle",), "buildSrc/src/X.java", "buildSrc"),
    (("deps.edn",), "dev/user.clj", "dev/user.clj"),
    ((".Rprofile",), "renv/activate.R", "renv/activate.R"),
    (("package.json",), "babel.config.json", "babel.config.json"),
    (("package.json",), "karma.conf.js", "karma.conf.js"),
    (("main.tf",), "x_override.tf", "x_override.tf"),
    (("docs/conf.py",), "docs/conf.py", "docs/conf.py"),
    *(((), path, None) for path in ("hatch.toml", "Setup.hs", "build.zig", "rebar.config", "docs/conf.py")),
    ((), "eslint.config.mjs", None),
    ((), ".somerc", None),
    ((), "Gemfile", None),
    ((), "env/bin/activate", None),
    (("env/readme",), "env/bin/activate", None),
    (("package.json",), "src/config.js", None),
]


@pytest.mark.parametrize(("there", "path", "asked"), LOADED)
def test_what_programs_load_by_itself_needs_a_yes(
    workspace: Workspace, root: Path, there: tuple[str, ...], path: str, asked: str | None
) -> None:
    for one in there:
        write(root, one, "")
    with workspace.checkout() as checkout:
        write(checkout.root, path, "changed")
        assert roots(workspace, checkout) == {asked} - {None}


ENVIRONMENTS = [
    # what is written into an empty folder, and what is asked about
    ({".venv/pyvenv.cfg": "home=/", ".venv/bin/python": "x"}, {".venv"}),
    ({"venv/Scripts/python.exe": "x"}, {"venv"}),
    ({"env/pyvenv.cfg": "home=/", "env/bin/python": "x"}, {"env/pyvenv.cfg", "env/bin"}),
    ({"conda-meta/history": "", "bin/python": "x"}, {"conda-meta", "bin"}),
    ({"node_modules/.bin/tsc": "x"}, {"node_modules"}),
    ({"node_modules/typescript/lib/tsc.js": "x"}, {"node_modules"}),
    ({"app/__pypackages__/3.12/lib/x.py": "x"}, {"app/__pypackages__"}),
    ({".python-version": "3.12"}, set()),
    ({".python-version": "3.12\n./tools/python"}, {".python-version"}),
    ({"lib/python.py": "x", "bin/run": "x"}, set()),
]


@pytest.mark.parametrize(("made", "asked"), ENVIRONMENTS)
def test_a_new_environment_needs_a_yes(
    workspace: Workspace, root: Path, made: dict[str, str], asked: set[str]
) -> None:
    with workspace.checkout() as checkout:
        for path, text in made.items():
            write(checkout.root, path, text)
        assert roots(workspace, checkout) == asked


def test_an_environment_made_piece_by_piece_needs_a_yes(workspace: Workspace, root: Path) -> None:
    with workspace.checkout() as checkout:
        write(checkout.root, "env/bin/python")
        checkout.commit()
    with workspace.checkout() as checkout:
        write(checkout.root, "env/pyvenv.cfg")
        assert roots(workspace, checkout) == {"env/pyvenv.cfg"}
        checkout.commit(approved={"env/pyvenv.cfg"})
    with workspace.checkout() as checkout:
        write(checkout.root, "env/bin/python", "changed")
        assert roots(workspace, checkout) == {"env/bin"}


INI = "[metadata]\nname=a\n"
READERS = [
    # the file, its content before, and after: what another reader sees in it
    *(
        ("setup.cfg", INI, f"{INI}#{sign}[tool:pytest]{sign}addopts=-p x\n")
        for sign in "\f\v\x85\u2028\x1e\r"
    ),
    ("setup.cfg", INI, f"{INI}[DEFAULT]\naddopts=-p x"),
    ("setup.cfg", INI, f"{INI}[tool:pytest]\naddopts=-p x\n" + "#" * (1 << 20)),
    ("setup.cfg", INI + "#" * (1 << 20), f"{INI}[tool:pytest]\naddopts=-p x\n" + "#" * (1 << 20)),
    ("package.json", "{}", '{"scripts": {"test": "x"}, "scripts": {}}'),
    ("package.json", "{}", '{"a": "' + "x" * (1 << 20) + '", "scripts": {"test": "x"}}'),
    ("pyproject.toml", "", "[tool.mypy]\nplugins=['x']"),
    ("pyproject.toml", "", "[tool.pylint.main]\ninit-hook='x'"),
    ("mypy.ini", "[mypy]\nstrict=1", "[mypy]\nstrict=1\nPlugins : x"),
    ("mypy.ini", "[mypy]\nplugins=\n a", "[mypy]\nplugins=\n a,\n b"),
    ("mypy.ini", "[mypy]\nplugins=\n a", "[mypy]\nplugins=\n a,\n b=c"),
    (".pylintrc", "[MAIN]\njobs=1", "[MAIN]\njobs=1\ninit-hook=x"),
    (".coveragerc", "[run]", "[run]\nplugins=x"),
    (".flake8", "[flake8]", "[flake8:local-plugins]\nextension=x"),
    ("composer.json", "{}", '{"scripts": {"post-install-cmd": "x"}}'),
    ("composer.json", "{}", '{"config": {"allow-plugins": {"x/y": true}}}'),
]


@pytest.mark.parametrize(("path", "before", "after"), READERS)
def test_what_any_reader_executes_needs_a_yes(
    workspace: Workspace, root: Path, path: str, before: str, after: str
) -> None:
    write(root, "a.py")
    write(root, path, before)
    with workspace.checkout() as checkout:
        (checkout.root / path).write_bytes(after.encode())
        assert roots(workspace, checkout) == {path}


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("mypy.ini", "[mypy]\nstrict=1", "[mypy]\nstrict=0"),
        (".pylintrc", "[MAIN]\njobs=1", "[MAIN]\njobs=2"),
        ("composer.json", "{}", '{"name": "a/b", "config": {"sort-packages": true}}'),
        ("pyproject.toml", "[tool.mypy]\nstrict=true", "[tool.mypy]\nstrict=false"),
    ],
)
def test_settings_that_run_nothing_need_no_yes(
    workspace: Workspace, root: Path, path: str, before: str, after: str
) -> None:
    write(root, "a.py")
    write(root, path, before)
    with workspace.checkout() as checkout:
        write(checkout.root, path, after)
        assert roots(workspace, checkout) == set()


LOCK = '"resolved": "https://registry.npmjs.org/x/-/x-1.tgz"'
EVIL = '"resolved": "https://registry.npmjs.org@evil.example/x/-/x-1.tgz"'


@pytest.mark.parametrize("path", ["package-lock.json", "yarn.lock", "uv.lock"])
def test_a_lock_needs_a_yes_if_it_names_another_site(workspace: Workspace, root: Path, path: str) -> None:
    with workspace.checkout() as checkout:
        write(checkout.root, path, EVIL)
        assert workspace.executed(checkout) == ()
    write(root, path, LOCK)
    for text, asked in ((LOCK * 2, set()), (LOCK + EVIL, {path}), ("git+ssh://git@evil.example/x", {path})):
        with workspace.checkout() as checkout:
            write(checkout.root, path, text)
            assert roots(workspace, checkout) == asked


NPM, PIP = {"package.json": "{}"}, {"pyproject.toml": "", "a.py": ""}
GAINED = [
    # what there is, the file that is written, its content, and whether it is asked about
    (NPM, "package-lock.json", LOCK, False),
    (NPM, "package-lock.json", '"funding": {"url": "https://example.org"}', False),
    (NPM, "package-lock.json", EVIL, True),
    (NPM, "package-lock.json", EVIL.replace("/", "\\/"), True),
    (NPM, "npm-shrinkwrap.json", '"resolved": "file:../x"', True),
    ({}, "package-lock.json", EVIL, False),
    ({"Cargo.toml": ""}, "Cargo.lock", "registry+https://github.com/rust-lang/crates.io-index", False),
    ({"Cargo.toml": ""}, "Cargo.lock", "git+https://github.com/evil/x", True),
    (NPM, "package.json", '{"dependencies": {"x": "x.tgz"}}', True),
    (NPM, "package.json", '{"dependencies": {"x": ".x"}}', True),
    (NPM, "package.json", '{"dependencies": {"x": "~1.2.3"}}', False),
    (NPM, "package.json", '{"jest": {"setupFiles": ["x"]}}', True),
    (NPM, "package.json", '{"prettier": {"plugins": ["x"]}}', True),
    (NPM, "package.json", '{"prettier": {"semi": false}}', False),
    (NPM, "pnpm-workspace.yaml", "x", True),
    (PIP, "pyproject.toml", "[project]\ndependencies=['x>=1; python_version<\"4\"']", False),
    (PIP, "pyproject.toml", "[project]\ndependencies=['x @ https://example.org/x.whl']", True),
    (PIP, "pyproject.toml", "[project.optional-dependencies]\na=['x @ file:///x']", True),
    (PIP, "pyproject.toml", "[dependency-groups]\ndev=['x @ git+ssh://x/y', {include-group='b'}]", True),
    (PIP, "pyproject.toml", "[tool.poetry.dependencies]\nx={path='x'}", True),
    (PIP, "pyproject.toml", "[tool.poetry.group.dev.dependencies]\nx={git='x'}", True),
    (PIP, "pyproject.toml", "[tool.poetry.group.dev.dependencies]\nx='^1.0'", False),
    (PIP, "pyproject.toml", "[project.entry-points.pytest11]\nx='x'", True),
    (PIP, "requirements.txt", "x==1.0  # see https://example.org\n# a/b\ny[z]>=2 ; os_name == 'nt'", False),
    (PIP, "requirements.txt", "x==1 \\\n  --hash=sha256:ab", False),
    (PIP, "requirements.txt", "x\n./local", True),
    (PIP, "requirements.txt", "-r other.txt", True),
    (PIP, "requirements.txt", "--extra-index-url=x", True),
    (PIP, "requirements-dev.txt", "x @ https://example.org/x.whl", True),
    (PIP, "requirements/dev.txt", "x-1.0.whl", True),
    ({}, "requirements.txt", "-e .", False),
    (PIP, "pip.py", "x", True),
    (PIP, "pytest/__init__.py", "x", True),
    (PIP, "x-1.dist-info/entry_points.txt", "x", True),
    ({"Cargo.toml": ""}, "Cargo.toml", "[package]\nbuild='x.rs'", True),
    ({"Cargo.toml": ""}, "Cargo.toml", "[lib]\nproc-macro=true", True),
    ({"Cargo.toml": ""}, "Cargo.toml", "[dependencies]\nx={version='1', features=['y']}", False),
    ({"Cargo.toml": ""}, "Cargo.toml", "[dependencies]\nx={git='https://example.org'}", True),
    ({"Makefile": ""}, "mk/x.mk", "x", True),
    ({}, "x.mk", "x", False),
    ({"CMakeLists.txt": ""}, "CMakeLists.txt", "x", True),
    ({"compose.yaml": ""}, "compose.override.yml", "x", True),
    ({}, "compose.override.yml", "x", False),
    ({}, ".lfsconfig", "x", True),
    ({}, "gunicorn.conf.py", "x", True),
    ({"a.csproj": ""}, "Directory.Build.targets", "x", True),
    ({}, "Directory.Build.props", "x", False),
    ({}, ".direnv/x", "x", True),
]


@pytest.mark.parametrize(("there", "path", "text", "is_asked"), GAINED)
def test_a_manifest_needs_a_yes_for_what_is_fetched_or_built(
    workspace: Workspace, root: Path, there: dict[str, str], path: str, text: str, is_asked: bool
) -> None:
    for name, content in there.items():
        write(root, name, content)
    with workspace.checkout() as checkout:
        write(checkout.root, path, text)
        assert bool(roots(workspace, checkout)) == is_asked


def test_bytecode_may_go_and_not_change(workspace: Workspace, root: Path) -> None:
    for name in ("a", "b"):
        write(root, f"pkg/__pycache__/{name}.cpython-311.pyc")
    with workspace.checkout() as checkout:
        for path in ("pkg/__pycache__/a.cpython-311.pyc", "new/__PyCache__/c.cpython-311.pyc"):
            write(checkout.root, path, "planted")
        (checkout.root / "pkg/__pycache__/b.cpython-311.pyc").unlink()
        (checkout.root / "__pycache__").symlink_to("new")
        assert roots(workspace, checkout) == set()
        checkout.commit()
    assert files(root) == ["pkg/__pycache__/a.cpython-311.pyc"]
    assert (root / "pkg/__pycache__/a.cpython-311.pyc").read_text() == "x"


@pytest.mark.parametrize("cache", ["__pycache__", ".pytest_cache", ".mypy_cache", ".Ruff_Cache"])
def test_caches_of_tools_are_no_files_that_were_written(workspace: Workspace, root: Path, cache: str) -> None:
    with workspace.checkout() as checkout:
        write(checkout.root, f"{cache}/v/x")
        write(checkout.root, "kept")
        assert checkout.changed_paths() == checkout.written_paths() == ["kept"]
        checkout.commit()
    assert files(root) == ["kept"]


def test_what_was_deleted_is_changed_and_not_written(workspace: Workspace, root: Path) -> None:
    write(root, "gone")
    write(root, "sub/gone")
    with workspace.checkout() as checkout:
        (checkout.root / "gone").unlink()
        shutil.rmtree(checkout.root / "sub")
        write(checkout.root, "made")
        assert checkout.changed_paths() == ["gone", "made", "sub/gone"]
        assert checkout.written_paths() == ["made"]


GIT = [
    # a setting of the repository, what is written, and what is asked about
    ("core.hooksPath=tools/hooks", "tools/hooks/pre-commit", "tools/hooks"),
    ("core.hooksPath={root}/tools", "Tools/pre-commit", "Tools"),
    ("core.hooksPath=.", "pre-commit", "."),
    ("core.fsmonitor=tools/monitor --fast", "tools/monitor", "tools/monitor"),
    ("filter.lfs.clean=python3 'my tools/clean.py' %f", "my tools/clean.py", "my tools/clean.py"),
    ("diff.img.textconv=./show", "show", "show"),
    ("include.path=../team.conf", "team.conf", "team.conf"),
    ("alias.x=!sh run.sh", "run.sh", "run.sh"),
    ("alias.x=!f() {{ sh scripts/st.sh; }}; f", "scripts/st.sh", "scripts/st.sh"),
    ("alias.x=!sh run.sh;true", "run.sh", "run.sh"),
    ("alias.x=!$(git rev-parse --show-toplevel)/run.sh", "run.sh", "run.sh"),
    ("alias.x=!$PWD/run.sh", "run.sh", "run.sh"),
    ("alias.x=-c core.pager=./run.sh log", "run.sh", "run.sh"),
    ("diff.img.textconv=sh -c './scripts/tc.sh \"$1\"'", "scripts/tc.sh", "scripts/tc.sh"),
    ("filter.x.smudge=python3 -m tools.clean", "tools/clean.py", "tools/clean.py"),
    ("filter.x.process=cd tools&&./run.py", "tools/run.py", "tools"),
    ('difftool.x.cmd=./bin/d "$LOCAL" "$REMOTE"', "bin/d", "bin/d"),
    ("mergetool.x.path=tools/merge", "tools/merge", "tools/merge"),
    ("core.editor='tools/ed' --wait", "tools/ed", "tools/ed"),
    ("alias.x=!f() {{ sh scripts/st.sh; }}; f", "scripts/other.sh", None),
    ("core.hooksPath=linked", "real/pre-commit", "real"),
    ("user.name=tools", "tools/x", None),
    ("alias.x=grep .", "a.txt", None),
    ("alias.x=log --oneline", "log/a.txt", None),
    ("alias.x=!git log", "log.py", None),
]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("inside", ["", "sub"])
@pytest.mark.parametrize(("setting", "path", "asked"), GIT)
def test_what_git_is_set_to_run_needs_a_yes(
    workspace: Workspace, root: Path, setting: str, path: str, asked: str | None, inside: str
) -> None:
    repository = root / inside
    repository.mkdir(exist_ok=True)
    subprocess.run(["git", "init", "-q", repository], check=True)
    name, _, value = setting.partition("=")
    subprocess.run(
        ["git", "-C", repository, "config", name, value.format(root=repository)],
        check=True,
        capture_output=True,
    )
    (repository / "linked").symlink_to("real")
    with workspace.checkout() as checkout:
        write(checkout.root / inside, path)
        assert roots(workspace, checkout) == ({str(Path(inside, asked))} if asked else set())


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_reading_the_settings_of_git_runs_nothing(workspace: Workspace, root: Path) -> None:
    subprocess.run(["git", "init", "-q", root], check=True)
    for name in ("core.fsmonitor", "core.pager", "core.editor", "alias.config", "pager.config"):
        subprocess.run(["git", "-C", root, "config", name, f"touch {root}/ran"], check=True)
    with workspace.checkout() as checkout:
        write(checkout.root, "a.txt")
        assert workspace.executed(checkout) == ()
    assert not (root / "ran").exists()


@pytest.mark.parametrize("place", [".git", ".git/commondir", ".git/config", ".git/hooks/pre-commit"])
def test_a_pipe_where_git_keeps_its_files_is_not_waited_for(
    workspace: Workspace, root: Path, place: str
) -> None:
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(root / place)
    with workspace.checkout() as checkout:
        write(checkout.root, "a.txt")
        started = time.monotonic()
        assert len(checkout.commit()) == 1
        assert time.monotonic() - started < 5


SETUP = "[metadata]\nname=a\nversion=1\n"
UNKNOWN = [
    # the file, its content before, what is added to it, and whether it is asked about
    ("pyproject.toml", "", "[tool.setuptools.dynamic]\nversion={attr='ev.V'}", True),
    ("pyproject.toml", "", "[tool.setuptools.dynamic]\nversion={file='VERSION'}", False),
    ("pyproject.toml", "", "[project.scripts]\npytest='ev:main'", True),
    ("pyproject.toml", "", "[tool.poetry.scripts]\npip='ev:main'", True),
    ("pyproject.toml", "", "[project.scripts]\nacme='acme:main'", False),
    ("pyproject.toml", "", "[tool.newtool]\nplugins=['x']", True),
    ("pyproject.toml", "", "[project]\nname='a'\nversion='2'\nkeywords=['x']\n[tool.ruff]\nx=1", False),
    ("setup.cfg", SETUP, "license=attr:ev.V", True),
    (
        "setup.cfg",
        SETUP,
        "description=x\n[options]\npackages=find:\n[options.packages.find]\nwhere=src",
        False,
    ),
    ("setup.cfg", SETUP, "[options.entry_points]\nconsole_scripts=\n  pytest = ev:main", True),
    ("setup.cfg", SETUP, "[options.entry_points]\nconsole_scripts=\n  acme = acme:main", False),
    ("setup.cfg", SETUP, "[options]\ncmdclass=\n  build = ev.B", True),
    ("setup.cfg", SETUP, "[newtool]\nplugin=x", True),
    ("Cargo.toml", "", "[workspace]\nmembers=['e']", True),
    ("Cargo.toml", "", "[package]\nname='a'\nversion='2'\n[features]\nx=[]\n[[bin]]\nname='b'", False),
    ("composer.json", "{}", '{"extra": {"installer": "x"}}', True),
    ("composer.json", "{}", '{"autoload": {"psr-4": {"A\\\\": "src"}}, "version": "2"}', False),
    ("package.json", "{}", '{"workspaces": ["e"]}', True),
    ("package.json", "{}", '{"prettier": "./evil.js"}', True),
    ("package.json", "{}", '{"newtool": {"plugins": ["x"]}}', True),
    ("package.json", "{}", '{"name": "a", "version": "2", "bin": {"a": "a.js"}, "files": ["x"]}', False),
    ("package.json", "{}", '{"prettier": {"semi": true}, "type": "module", "main": "x.js"}', False),
]


@pytest.mark.parametrize(("path", "before", "added", "is_asked"), UNKNOWN)
def test_settings_need_a_yes_unless_they_are_known_to_run_nothing(
    workspace: Workspace, root: Path, path: str, before: str, added: str, is_asked: bool
) -> None:
    write(root, "a.py")
    write(root, path, before)
    with workspace.checkout() as checkout:
        write(checkout.root, path, added if before == "{}" else before + added)
        assert roots(workspace, checkout) == ({path} if is_asked else set())


NPM_ROOT = {"package.json": '{"workspaces": ["packages/*"]}', "packages/a/package.json": '{"name": "a"}'}
MEMBERS = [
    # what there is, what is written, and whether it is asked about
    ({"Cargo.toml": "[workspace]\nmembers=['crates/*']"}, "crates/e/build.rs", "x", True),
    (NPM_ROOT, "packages/e/binding.gyp", "x", True),
    (NPM_ROOT, "packages/e/package.json", '{"name": "typescript", "version": "5.0.0"}', True),
    (NPM_ROOT, "packages/a/package.json", '{"name": "a", "bin": {"tsc": "t.js"}}', True),
    (NPM_ROOT, "packages/a/package.json", '{"name": "a", "version": "2"}', False),
    (NPM_ROOT, "packages/a/src/package.json", '{"type": "module"}', False),
    (NPM_ROOT, "package.json", '{"name": "all", "workspaces": ["packages/*"]}', False),
    ({"package.json": "{}"}, "examples/e/package.json", '{"name": "e"}', False),
    ({"package.json": "{}", "pnpm-workspace.yaml": "x"}, "e/package.json", '{"name": "e"}', True),
    ({"pyproject.toml": ""}, "packages/e/setup.py", "x", True),
]


@pytest.mark.parametrize(("there", "path", "text", "is_asked"), MEMBERS)
def test_a_new_member_of_a_project_is_judged_by_the_whole(
    workspace: Workspace, root: Path, there: dict[str, str], path: str, text: str, is_asked: bool
) -> None:
    for name, content in there.items():
        write(root, name, content)
    with workspace.checkout() as checkout:
        write(checkout.root, path, text)
        assert roots(workspace, checkout) == ({path} if is_asked else set())


MODULES = [
    # what there is, what is written, and whether it is asked about
    ("requirements.txt", "logging.py", True),
    ("app/pyproject.toml", "app/json/__init__.py", True),
    ("a.py", "random.py", True),
    ("pyproject.toml", "calendar.cpython-311-x86_64-linux-gnu.so", True),
    ("pyproject.toml", "src/app/logging.py", False),
    ("app/a.py", "app/logging.py", False),
    ("pyproject.toml", "test.py", False),
    ("pyproject.toml", "logging.md", False),
    ("pyproject.toml", "json/data.json", False),
    ("pyproject.toml", "http/client_of_ours.py", False),
    ("readme.txt", "logging.py", False),
    ("a.py", "report.py", False),
]


@pytest.mark.parametrize(("there", "path", "is_asked"), MODULES)
def test_a_new_module_with_a_name_of_python_needs_a_yes(
    workspace: Workspace, root: Path, there: str, path: str, is_asked: bool
) -> None:
    write(root, there, "")
    with workspace.checkout() as checkout:
        write(checkout.root, path)
        assert roots(workspace, checkout) == ({path} if is_asked else set())
        checkout.commit(approved={path})
    write(root, "queue.py")
    with workspace.checkout() as checkout:
        write(checkout.root, "queue.py", "the user's own, changed")
        assert workspace.executed(checkout) == ()


def git(folder: Path, *words: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "-C", folder, *words], check=True, capture_output=True)


BESIDE_IT = [
    # where the repository is, a setting of it, and what is written
    ("app", "core.fsmonitor=../githks/fsm", "githks/fsm"),
    ("app", "core.hooksPath=../githks", "githks/pre-commit"),
    ("deep/er/app", "diff.x.textconv=sh ../../../show.sh", "show.sh"),
    ("app", "include.path=../../team.conf", "team.conf"),
    ("one", "alias.x=!{root}/tools/x", "tools/x"),
]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize(("place", "setting", "path"), BESIDE_IT)
def test_what_a_repository_beside_it_is_set_to_run_needs_a_yes(
    workspace: Workspace, root: Path, place: str, setting: str, path: str, bare: bool
) -> None:
    git(root / place, "init", "-q", *["--bare"] * bare)
    name, _, value = setting.partition("=")
    git(
        root / place,
        "config",
        name,
        value.format(root=root).replace("../../team", "../" * (2 - bare) + "team"),
    )
    with workspace.checkout() as checkout:
        write(checkout.root, path)
        (found,) = workspace.executed(checkout)
        assert path in found.paths


HOOK = "#!/bin/sh\n"
FOLLOWED = [
    # a file that runs by itself, its content, and the script that it names
    (".git/hooks/pre-commit", f"{HOOK}exec ./tools/hook.sh", "tools/hook.sh"),
    (".git/hooks/post-checkout", f'{HOOK}cd "tools" && ./hook', "tools/hook"),
    (".git/hooks/pre-push", f"{HOOK}python3 -m tools.check --fast", "tools/check.py"),
    (".git/hooks/pre-push", f"{HOOK}. $(git rev-parse --show-toplevel)/lib/env", "lib/env"),
    ("sub/.git/hooks/pre-commit", f"{HOOK}exec ../tools/hook.sh", "tools/hook.sh"),
    (".husky/pre-commit", "node tools/check", "tools/check.js"),
    ("lefthook.yml", 'pre-commit:\n  commands:\n    a: {run: "sh tools/a.sh {staged_files}"}', "tools/a.sh"),
    (".pre-commit-config.yaml", "- entry: tools/lint.py", "tools/lint.py"),
    ("sub/lefthook.yml", "run: sh tools/a.sh", "sub/tools/a.sh"),
    (".vscode/tasks.json", '{"command": "${workspaceFolder}/tools/watch.sh"}', "tools/watch.sh"),
    (".claude/settings.json", '{"command": ""$CLAUDE_PROJECT_DIR"/tools/h.py"}', "tools/h.py"),
    (".devcontainer/devcontainer.json", '{"postCreateCommand": "tools/setup.sh"}', "tools/setup.sh"),
    (".mcp.json", '{"command": "node", "args": ["server/index.js"]}', "server/index.js"),
    (".envrc", "source_env tools/env.sh", "tools/env.sh"),
    ("package.json", '{"scripts": {"postinstall": "node tools/post.js"}}', "tools/post.js"),
    ("package.json", '{"scripts": {"prepare": "npm run b", "b": "node b"}}', "b.js"),
    ("packages/a/package.json", '{"scripts": {"install": "node ../../x.cjs"}}', "x.cjs"),
    ("package.json", '{"husky": {"hooks": {"pre-commit": "./x.sh"}}}', "x.sh"),
    ("Cargo.toml", "[package]\nbuild='tools/gen.rs'", "tools/gen.rs"),
    ("pyproject.toml", "[build-system]\nbuild-backend='b.c'\nbackend-path=['_b']", "_b/b/c.py"),
    ("pyproject.toml", "[tool.hatch.build.targets.wheel.hooks.custom]\npath='tools/h.py'", "tools/h.py"),
    ("pyproject.toml", "[tool.setuptools]\ncmdclass={build='pkg.cmd.Build'}", "pkg/cmd.py"),
    ("pyproject.toml", "[tool.poetry.build]\nscript='build.py'", "build.py"),
    ("composer.json", '{"scripts": {"post-install-cmd": ["@php bin/x.php"]}}', "bin/x.php"),
]


@pytest.mark.parametrize(("there", "text", "path"), FOLLOWED)
def test_a_script_that_something_runs_by_itself_needs_a_yes(
    workspace: Workspace, root: Path, there: str, text: str, path: str
) -> None:
    write(root, there, text)
    write(root, path)
    with workspace.checkout() as checkout:
        write(checkout.root, path, "changed")
        write(checkout.root, "tools/other.py", "changed")
        (found,) = workspace.executed(checkout)
        assert (found.root, found.paths) == (path, (path,))
        with pytest.raises(WorkspaceFault, match="only if a person agrees"):
            checkout.commit()


def test_a_script_that_is_run_by_another_name_needs_a_yes(workspace: Workspace, root: Path) -> None:
    write(root, ".git/hooks/pre-commit", f"{HOOK}./tools/hook.sh")
    write(root, "real/one.sh")
    (root / "tools").symlink_to("real")
    (root / "real/hook.sh").symlink_to("one.sh")
    with workspace.checkout() as checkout:
        write(checkout.root, "real/one.sh", "changed")
        assert roots(workspace, checkout) == {"real/one.sh"}


PROJECT = {
    ".git/hooks/pre-commit": f"{HOOK}pytest tests && ruff check src && prettier --check README.md\n",
    ".pre-commit-config.yaml": "repos:\n- repo: local\n  hooks:\n  - entry: ruff check src tests\n",
    ".vscode/settings.json": '{"python.testing.pytestArgs": ["tests"], "files.exclude": {"**/*.pyc": true}}',
    ".github/workflows/ci.yml": "run: python tests/run.py",
    "AGENTS.md": "Start with src/app.py and tests/test_app.py.",
    "package.json": '{"scripts": {"prepare": "npm run build", "build": "tsc -p src", "test": "node t.js"}}',
    "pyproject.toml": "[build-system]\nbuild-backend='setuptools.build_meta'\n[project]\nname='app'\n",
    "README.md": "x",
    "index.html": "x",
    "t.js": "x",
    "src/app.py": "x",
    "src/index.ts": "x",
    "tests/test_app.py": "x",
    "tests/run.py": "x",
}
WRITTEN = (
    *("README.md", "index.html", "t.js", "src/app.py", "src/index.ts", "src/build.py", "tests/test_app.py"),
    *("tests/run.py", "src/new/logging.py", "docs/a.md", "style.css", "data.json", "tests/test_new.py"),
    *("src/lib.rs", "scripts/report.py", "Dockerfile", ".gitignore", "LICENSE", "src/__init__.py"),
)


def test_work_on_an_ordinary_project_needs_no_yes(workspace: Workspace, root: Path) -> None:
    for path, text in PROJECT.items():
        write(root, path, text)
    with workspace.checkout() as checkout:
        for path in WRITTEN:
            write(checkout.root, path, "changed")
        write(checkout.root, "package.json", PROJECT["package.json"].replace("{", '{"version": "2", ', 1))
        write(checkout.root, "pyproject.toml", PROJECT["pyproject.toml"] + "version='2'\n[tool.ruff]\nx=1\n")
        assert workspace.executed(checkout) == ()
