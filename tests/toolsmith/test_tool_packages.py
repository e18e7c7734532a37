"""Packages of tools: named, locked by hash, installed from wheels, kept whole, used in the sandbox."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import wheels
from hypothesis import given
from hypothesis import strategies as st

from toolsmith.build import build_tool
from toolsmith.errors import PackagesUnavailable, ToolNotBuilt
from toolsmith.library import Library
from toolsmith.packages import Command, Packages, ProgramResult
from toolsmith.permissions import Installation, PackageLock, Permissions, package_name, read_lock, requirement
from toolsmith.proof.checker import check
from toolsmith.sandbox import Backend, SandboxError, SandboxExecutor, SandboxUnavailable, choose_backend
from toolsmith.sandbox.backends import Seatbelt
from toolsmith.sandbox.spec import Limits, SandboxSpec
from toolsmith.spec import Need, ToolSpec


@dataclass(frozen=True)
class Shop:
    """An index with the wheels of `wheels.tiny`, and uv as it sees that index and nothing else."""

    folder: Path
    run: Command
    home: Path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    with wheels.serving(wheels.tiny(folder / "files")) as address:
        run = wheels.run_here(wheels.environment(folder, UV_DEFAULT_INDEX=address))
        yield Shop(folder / "files", run, folder)


@dataclass(frozen=True)
class Closed:
    """What is left of an index that has gone: what uv has in its cache, and a lock from before."""

    lock: PackageLock
    environment: dict[str, str]

    @property
    def run(self) -> Command:
        return wheels.run_here(self.environment)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Closed:
    folder = tmp_path_factory.mktemp("closed")
    packages = Packages(folder / ".packages")
    with wheels.serving(wheels.tiny(folder / "files")) as address:
        environment = wheels.environment(folder, UV_DEFAULT_INDEX=address)
        lock = packages.resolve(["tinymark"], wheels.run_here(environment))
        packages.ensure(lock, wheels.run_here(environment))
    return Closed(lock, environment)


@pytest.fixture(scope="module")
def made(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """`tinymark` with what it needs, for tests that only look at it."""
    packages = Packages(tmp_path_factory.mktemp("made") / ".packages")
    return packages.ensure(packages.resolve(["tinymark>=1.0"], shop.run), shop.run)


@pytest.fixture
def packages(tmp_path: Path) -> Packages:
    return Packages(tmp_path / ".packages")


def never_called(argv: Sequence[str], _: str) -> ProgramResult:
    raise AssertionError(f"nothing is to be run: {argv}")


# --- what can be asked for


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("markdown", "markdown"),
        ("Markdown >= 3.6", "markdown>=3.6"),
        ("ruamel_yaml", "ruamel-yaml"),
        ("a.b<2,>=1", "a-b<2,>=1"),
        ("x~=1.4", "x~=1.4"),
        ("x==1.*", "x==1.*"),
    ],
)
def test_a_package_has_one_spelling(text: str, plain: str) -> None:
    assert requirement(text) == plain
    assert requirement(plain) == plain
    assert package_name(text) == package_name(plain)


@pytest.mark.parametrize(
    "text",
    [
        *("", "-r list.txt", "--index-url=x", "./folder", "../x.whl", "/x", "x.whl/..", "file:x"),
        *("x @ https://example.org/x.whl", "git+https://example.org/x", "https://example.org/x.whl"),
        *("x[extra]", "x; python_version<'4'", "x ===1", "x>=1\ny", "x y", "x>=", "x --hash=sha256:0", "é"),
    ],
)
def test_what_is_more_than_a_name_with_bounds_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a package|compares versions as text"):
        requirement(text)


@given(st.text())
def test_whatever_is_let_through_names_one_package_and_no_place(text: str) -> None:
    try:
        plain = requirement(text)
    except ValueError:
        return
    assert not set(plain) & set(" \t\r\n/\\:@;[]'\"#%&")
    assert not plain.startswith("-")
    assert requirement(plain) == plain


RAW = {**wheels.SHOUTING, "packages": ["TinyMark >= 1.0"]}
SPEC = ToolSpec.model_validate(RAW)
CODE = wheels.SHOUTING_CODE


def test_a_specification_names_each_package_once_and_not_too_many() -> None:
    assert SPEC.packages == ("tinymark>=1.0",)
    assert SPEC.privileged
    with pytest.raises(ValueError, match="tinymark is named more than once"):
        ToolSpec.model_validate({**RAW, "packages": ["tinymark>1", "Tinymark<2"]})
    with pytest.raises(ValueError, match="at most 10"):
        ToolSpec.model_validate({**RAW, "packages": [f"a{number}" for number in range(11)]})


def test_a_lock_holds_exact_versions_with_hashes_and_nothing_else() -> None:
    one = f"--hash=sha256:{'0' * 64}"
    lock = read_lock(f"b==2.0 \\\n    {one} \\\n    {one}\n# a note\na==1 \\\n    {one}\n")
    assert lock.versions == ("a 1", "b 2.0")
    for line in (
        f"a @ https://example.org/a.whl {one}",
        "a==1",
        f"a>=1 {one}",
        f"--index-url x {one}",
        f"a==1 {one} --index-url x",
    ):
        with pytest.raises(ValueError, match="exact version"):
            PackageLock(lines=(line,))


# --- what a module may import


def test_a_module_may_import_what_its_packages_bring_and_nothing_else() -> None:
    assert check(CODE, SPEC, {"tinymark", "tinydep"}) == ()
    assert (
        check(CODE.replace("from tinymark", "import tinydep\nfrom tinymark"), SPEC, {"tinymark", "tinydep"})
        == ()
    )
    (fault,) = check(CODE.replace("from tinymark", "import numpy\nfrom tinymark"), SPEC, {"tinymark"})
    assert "numpy is imported" in fault
    assert "tinymark>=1.0, which bring tinymark" in fault
    (fault,) = check(CODE, SPEC)
    assert "tinymark is imported: it is neither in the standard library nor" in fault


def test_a_package_opens_no_door_that_is_closed_to_all() -> None:
    for name in ("subprocess", "socket", "requests"):
        module = CODE.replace("from tinymark", f"import {name}\nfrom tinymark")
        assert f"{name} is imported" in check(module, SPEC, {"tinymark", name})[0]


# --- resolving


def test_the_newest_versions_that_fit_are_locked_with_all_that_they_need(
    shop: Shop, packages: Packages
) -> None:
    assert packages.resolve(["tinymark>=1.0"], shop.run).versions == ("tinydep 1.0", "tinymark 1.2")
    assert packages.resolve(["tinymark<1.2"], shop.run).versions == ("tinydep 1.0", "tinymark 1.0")
    lock = packages.resolve(["tinymark"], shop.run)
    assert "://" not in "".join(lock.lines)


def test_without_the_index_what_uvs_cache_has_is_enough(closed: Closed, packages: Packages) -> None:
    assert packages.resolve(["tinymark"], closed.run) == closed.lock
    with pytest.raises(PackagesUnavailable, match="make the package index reachable"):
        packages.resolve(["tinyother"], closed.run)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ("tinymark>=9", "only tinymark<=1.2 is available"),
        ("tinynone", "tinynone was not found"),
        ("tinysrc", "only wheels are installed, since to build a package runs its code on the host"),
        ("tinyaway", "URL dependenc"),
    ],
)
def test_what_cannot_be_had_as_a_wheel_of_the_index_is_refused(
    shop: Shop, packages: Packages, wanted: str, reason: str
) -> None:
    wheels.wheel(shop.folder, "tinyaway", "1.0", {"tinyaway.py": ""}, ["tinydep @ https://example.org/d.whl"])
    with pytest.raises(PackagesUnavailable, match=reason) as refused:
        packages.resolve([wanted], shop.run)
    assert "://" not in str(refused.value)
    assert not (shop.folder / "built").exists(), "no code of a package was run"


def test_no_reason_holds_an_address_or_its_password(packages: Packages, tmp_path: Path) -> None:
    index = "http://ann:hunter2@127.0.0.1:9/simple"
    with pytest.raises(PackagesUnavailable, match="make the package index reachable") as refused:
        packages.resolve(["tinymark"], wheels.run_here(wheels.environment(tmp_path, UV_DEFAULT_INDEX=index)))
    assert not any(part in str(refused.value) for part in ("hunter2", "127.0.0.1", "://", str(tmp_path)))


# --- installing, and finding again


def test_packages_are_installed_once_per_lock(shop: Shop, packages: Packages) -> None:
    lock = packages.resolve(["tinymark"], shop.run)
    there = packages.ensure(lock, shop.run)
    assert there.modules == {"tinymark", "tinydep"}
    assert packages.ensure(lock, never_called) == there
    older = packages.ensure(packages.resolve(["tinymark<1.2"], shop.run), shop.run)
    assert older.folder != there.folder
    assert [
        path.name for path in packages.root.iterdir() if path.name.startswith(".") and path.name != ".locks"
    ] == []
    assert not any(
        file.samefile(other) for file in there.folder.rglob("*.py") for other in shop.home.rglob(file.name)
    )


def _spoil_changed(site: Path) -> None:
    (site / "tinydep.py").write_text('END = "?"\n')


def _spoil_quietly(site: Path) -> None:
    file = site / "tinydep.py"
    before = file.stat()
    file.write_text('END = "?"\n')
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _spoil_removed(site: Path) -> None:
    (site / "tinymark" / "__init__.py").unlink()


def _spoil_added(site: Path) -> None:
    (site / "tinymark" / "more.py").write_text("raise SystemExit\n")


def _spoil_linked(site: Path) -> None:
    (site / "tinydep.py").unlink()
    (site / "tinydep.py").symlink_to(site / "tinymark" / "__init__.py")


def _spoil_manifest(site: Path) -> None:
    site.with_name("manifest.json").write_text('{"lock": [')


def _spoil_all(site: Path) -> None:
    shutil.rmtree(site.parent)


SPOILED = [
    _spoil_changed,
    _spoil_quietly,
    _spoil_removed,
    _spoil_added,
    _spoil_linked,
    _spoil_manifest,
    _spoil_all,
]


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda spoil: spoil.__name__.removeprefix("_spoil_"))
def test_packages_that_are_gone_or_changed_are_made_again_from_the_lock_also_without_the_index(
    closed: Closed, packages: Packages, spoil: Callable[[Path], None]
) -> None:
    there = packages.ensure(closed.lock, closed.run)
    spoil(there.folder)
    assert packages.ensure(there.lock, closed.run) == there, "the process that had them there notices"
    packages = Packages(packages.root)
    assert packages.ensure(there.lock, closed.run) == there, "and so does another"
    assert json.loads(there.folder.with_name("manifest.json").read_text())["lock"] == list(there.lock.lines)
    assert (there.folder / "tinydep.py").read_text() == 'END = "!"\n'
    assert packages.ensure(there.lock, never_called) == there
    assert sorted(path.name for path in packages.root.iterdir()) == [".locks", there.folder.parent.name]


def test_failed_reinstall_names_reason_and_remedy(shop: Shop, packages: Packages, tmp_path: Path) -> None:
    there = packages.ensure(packages.resolve(["tinymark"], shop.run), shop.run)
    _spoil_changed(there.folder)
    gone = wheels.run_here(wheels.environment(tmp_path, UV_DEFAULT_INDEX="http://127.0.0.1:9/simple"))
    with pytest.raises(PackagesUnavailable) as refused:
        packages.ensure(there.lock, gone)
    reason = str(refused.value)
    assert reason.startswith(
        "its packages (tinydep 1.0, tinymark 1.2) cannot be installed (the file tinydep.py was"
    )
    assert reason.endswith("make the package index reachable, or have the tool built again")
    assert [path.name for path in packages.root.glob(".*-*")] == []


def test_a_file_of_the_index_that_is_another_than_the_locked_one_is_not_installed(tmp_path: Path) -> None:
    packages, files = Packages(tmp_path / ".packages"), wheels.tiny(tmp_path / "files")
    with wheels.serving(files) as address:
        lock = packages.resolve(
            ["tinymark"], wheels.run_here(wheels.environment(tmp_path / "one", UV_DEFAULT_INDEX=address))
        )
        wheels.wheel(files, "tinydep", "1.0", {"tinydep.py": "END = 'evil'\n"})
        other = wheels.run_here(wheels.environment(tmp_path / "two", UV_DEFAULT_INDEX=address))
        with pytest.raises(PackagesUnavailable, match=r"(?i)hash mismatch"):
            packages.ensure(lock, other)
    assert not list(packages.root.glob("[0-9a-f]*"))


def test_a_file_that_is_not_the_packed_one_is_found_out_though_uvs_cache_has_it(
    shop: Shop, packages: Packages, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(shop.home / "uv", own / "uv", symlinks=True)
    lock = packages.resolve(["tinymark"], shop.run)
    with wheels.serving(shop.folder) as address:
        run = wheels.run_here(wheels.environment(own, UV_DEFAULT_INDEX=address))
        Packages(tmp_path / "first").ensure(lock, run)
        spoiled = [file for file in (own / "uv").rglob("tinydep.py") if not file.is_symlink()]
        for file in spoiled:
            file.write_text("END = 'evil'\n")
        assert spoiled
        with pytest.raises(
            PackagesUnavailable, match=r"tinydep\.py of tinydep is not the one that was packed"
        ):
            packages.ensure(lock, run)


def test_a_record_without_proper_hashes_refuses_the_package(packages: Packages, tmp_path: Path) -> None:
    record = "tinybad.py,sha256=no hash \u00e9,6\n"
    wheels.wheel(tmp_path / "files", "tinybad", "1.0", {"tinybad.py": "x = 1\n"}, record=record)
    with wheels.serving(tmp_path / "files") as address:
        run = wheels.run_here(wheels.environment(tmp_path, UV_DEFAULT_INDEX=address))
        with pytest.raises(PackagesUnavailable, match=r"tinybad\.py of tinybad"):
            packages.ensure(packages.resolve(["tinybad"], run), run)


KILLED = """
import subprocess, sys
from pathlib import Path
from toolsmith.packages import Packages
from toolsmith.permissions import PackageLock
lines, root, environment = eval(sys.argv[1])
def run(argv, given):
    ended = subprocess.run(argv, input=given, env=environment, text=True)
    print(ended.returncode, flush=True)
    sys.stdin.read()
Packages(Path(root)).ensure(PackageLock(lines=lines), run)
"""


def test_what_a_killed_installation_leaves_is_not_taken_for_whole(closed: Closed, packages: Packages) -> None:
    given = repr((closed.lock.lines, str(packages.root), {**closed.environment, "UV_OFFLINE": "1"}))
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, given], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n", "all is installed, and nothing of it is in its place"
        process.send_signal(signal.SIGKILL)
    (left,) = packages.root.glob(".*-*")
    assert (left / "site" / "tinydep.py").exists()
    assert packages.ensure(closed.lock, closed.run).modules == {"tinymark", "tinydep"}
    assert not left.exists()


def test_two_that_want_the_same_packages_at_once_install_them_once(shop: Shop, packages: Packages) -> None:
    lock, ran, made = packages.resolve(["tinymark"], shop.run), list[float](), list[Installation]()

    def run(argv: Sequence[str], text: str) -> ProgramResult:
        ran.append(time.monotonic())
        return shop.run(argv, text)

    threads = [threading.Thread(target=lambda: made.append(packages.ensure(lock, run))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ran) == 1
    assert made == [made[0]] * 4


# --- in the sandbox


@pytest.fixture(params=["bubblewrap", "landlock"])
def backend(request: pytest.FixtureRequest) -> Backend:
    try:
        return choose_backend(request.param)
    except SandboxUnavailable as error:
        pytest.skip(f"{request.param} does not work on this machine: {error}")


TRIES = """
def tried(call):
    try:
        return call()
    except Exception as exc:
        return type(exc).__name__
import os, tinydep, tinymark, json, jinja2
[tinymark.shout("a"), tinymark.__file__, json.dumps(1), jinja2.__doc__,
 tried(lambda: open(tinymark.__file__, "a")), tried(lambda: os.remove(tinydep.__file__)),
 sorted(tried(lambda: os.listdir(os.path.dirname(os.path.dirname(os.path.dirname(tinymark.__file__))))))]
"""


def test_a_sandbox_can_read_and_import_its_packages_and_cannot_change_them(
    shop: Shop, packages: Packages, backend: Backend, tmp_path: Path
) -> None:
    shadows = {"json.py": "raise RuntimeError\n", "jinja2/__init__.py": '"""not the host\'s"""\n'}
    wheels.wheel(shop.folder, "tinyshadow", "1.0", shadows)
    there = packages.ensure(packages.resolve(["tinymark", "tinyshadow"], shop.run), shop.run)
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    with SandboxExecutor(workspace, backend=backend, packages=there.folder) as run:
        shout, file, json_, jinja, opened, removed, above = run(TRIES).output
    assert (shout, json_) == ("A!", "1"), "no package takes the place of the standard library"
    assert jinja == "not the host's", "its own packages come before those of the host"
    assert file == "<packages>/tinymark/__init__.py"
    assert {opened, removed} <= {"OSError", "PermissionError"}
    assert "manifest.json" not in above
    assert packages.ensure(there.lock, never_called) == there


def test_other_sandboxes_do_not_see_them(made: Installation, backend: Backend, tmp_path: Path) -> None:
    with SandboxExecutor(tmp_path, backend=backend, writable=False) as run:
        with pytest.raises(SandboxError, match="ModuleNotFoundError: No module named 'tinymark'"):
            run("import tinymark")
        with pytest.raises(SandboxError, match=r"FileNotFoundError|PermissionError"):
            run(f"open({str(made.folder / 'tinydep.py')!r})")


def test_macos_backend_shows_packages_read_only(made: Installation, tmp_path: Path) -> None:
    spec = SandboxSpec(tmp_path, writable=True, limits=Limits(), packages=made.folder)
    words = Seatbelt().arguments(spec, tmp_path, 5, 6)
    assert any(word.startswith("READ") and word.endswith(f"={made.folder}") for word in words)
    writable = [line for line in words[words.index("-p") + 1].splitlines() if "file-write*" in line]
    assert "READ" not in "".join(writable)


# --- building


def replies(code: str = CODE) -> tuple[str, str, str]:
    return (
        f"```json\n{json.dumps(RAW)}\n```",
        f"```json\n{json.dumps(wheels.SHOUTING_CASES)}\n```",
        f"```python\n{code}```",
    )


NEED = Need(name="shout_text", purpose="shouts a text with tinymark")


def test_a_tool_is_written_for_tried_with_and_kept_with_its_packages(
    shop: Shop, library: Library, packages: Packages, model: Callable[..., Any]
) -> None:
    def permit(spec: ToolSpec) -> Permissions:
        return Permissions(packages=packages.ensure(packages.resolve(spec.packages, shop.run), shop.run))

    complete = model(*replies())
    built = build_tool(NEED, complete=complete, library=library, permit=permit)
    assert built.lock.versions == ("tinydep 1.0", "tinymark 1.2")
    assert "Packages: tinydep 1.0, tinymark 1.2, imported as `tinydep`, `tinymark`." in complete.prompts[2]
    found = library.get("shout_text")
    assert found == built
    assert "://" not in (library.root / "shout_text" / "v1" / "tool.json").read_text()
    assert packages.ensure(found.lock, never_called).lock == built.lock


def test_a_tool_whose_packages_cannot_be_had_is_refused_before_any_code_is_written(
    library: Library, model: Callable[..., Any]
) -> None:
    def permit(_: ToolSpec) -> Permissions:
        raise PackagesUnavailable("the packages tinymark>=1.0 cannot be had: no index has them")

    complete = model(*replies())
    with pytest.raises(ToolNotBuilt, match="no index has them"):
        build_tool(NEED, complete=complete, library=library, permit=permit)
    assert len(complete.prompts) == 1


def test_without_a_permit_packages_are_refused(library: Library, model: Callable[..., Any]) -> None:
    with pytest.raises(ToolNotBuilt, match=r"packages: tinymark>=1\.0"):
        build_tool(NEED, complete=model(*replies()), library=library)
