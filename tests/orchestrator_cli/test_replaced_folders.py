"""Another folder is put in the place of the workspace or the data folder: a run works on its own or stops."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint, Reply, texts_of
from scripted_model import Cast, code, coder, plan

Swap = Callable[[Path, Path], None]
WRITE = "open('{0}.txt', 'w').write('{0}')\nfinal_answer('{0}')"
SECRET = "what is private"


def link(place: Path, other: Path) -> None:
    place.rename(place.with_name("before"))
    place.symlink_to(other)


def folder(place: Path, other: Path) -> None:
    place.rename(place.with_name("before"))
    other.rename(place)


def nothing(place: Path, _: Path) -> None:
    place.rename(place.with_name("before"))


@pytest.fixture
def private(tmp_path: Path) -> Path:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "diary.txt").write_text(SECRET)
    return tmp_path / "private"


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def cast(act: Callable[[], object]) -> Cast:
    """Subtasks `a`, `b`, one after the other; `act` is called before what `a` wrote is committed."""

    def last(_: dict[str, Any]) -> Reply:
        act()
        return code("final_answer('a')")

    read = code("final_answer(open('diary.txt').read())")
    return Cast(
        planner=[plan(coder("a"), coder("b", ["a"]))],
        agents={"Do a": [code("open('a.txt', 'w').write('a')"), last], "Do b": [read, read]},
    )


@pytest.mark.parametrize("swap", [link, folder, nothing])
def test_a_run_stops_if_another_folder_has_its_workspaces_place(
    orch: Orch, endpoint: Endpoint, private: Path, swap: Swap
) -> None:
    endpoint.reply = cast(lambda: swap(orch.workspace, private))
    done = orch("ask", "Write a.")
    assert (done.code, str(orch.workspace) in done.error, "orch resume" in done.error) == (2, True, True)
    before = orch.workspace.with_name("before")
    assert names(before) == ["fileLog.md"]
    if swap is not nothing:
        assert names(orch.workspace) == ["diary.txt"]
    assert SECRET not in "".join(texts_of(one.request) for one in endpoint.exchanges)
    # The log of the run has its end, in the folder that it worked on.
    assert "is not the folder any more" in (before / "fileLog.md").read_text()


def test_a_swap_for_one_checkout_shows_the_model_nothing(
    orch: Orch, endpoint: Endpoint, private: Path
) -> None:
    """The folder is exchanged while the planner thinks, so that the first checkout would be the other one."""

    def planned(_: dict[str, Any]) -> Reply:
        link(orch.workspace, private)
        return plan(coder("b"))

    endpoint.reply = Cast(planner=[planned], agents={"Do b": [code(WRITE.format("b"))]})
    done = orch("ask", "Read.")
    assert (done.code, names(private)) == (2, ["diary.txt"])
    assert SECRET not in "".join(texts_of(one.request) for one in endpoint.exchanges)


def test_a_run_whose_workspace_is_back_goes_on(orch: Orch, endpoint: Endpoint, private: Path) -> None:
    endpoint.reply = cast(lambda: link(orch.workspace, private))
    assert orch("ask", "Write a.").code == 2
    orch.workspace.unlink()
    orch.workspace.with_name("before").rename(orch.workspace)
    write = [code(WRITE.format("a"))], [code(WRITE.format("b"))]
    endpoint.reply = Cast(agents={"Do a": write[0], "Do b": write[1]})
    assert orch("resume", "last").code == 0
    assert orch.files() == ["a.txt", "b.txt"]


@pytest.fixture
def ended(orch: Orch, endpoint: Endpoint) -> str:
    """A run that wrote `a.txt`, and came to a limit before `b`; its id."""
    write = {f"Do {name}": [code(WRITE.format(name))] * 2 for name in "ab"}
    endpoint.reply = Cast(planner=[plan(coder("a"), coder("b", ["a"]))], agents=write)
    done = orch("ask", "Write.", "--max-calls", "2")
    assert done.code == 5, done.err
    return orch.journal().parent.name


@pytest.mark.parametrize("args", [("resume",), ("undo",), ("fork", "--at", "b"), ("resume", "--detach")])
def test_other_commands_know_the_folder_of_a_run(
    orch: Orch, private: Path, ended: str, args: tuple[str, ...]
) -> None:
    shutil.copy(orch.workspace / "a.txt", private)
    link(orch.workspace, private)
    done = orch(args[0], ended, *args[1:])
    assert (done.code, f"-C {orch.workspace}" in done.error) == (2, True), done.error
    assert names(orch.workspace) == ["a.txt", "diary.txt"]


@pytest.mark.parametrize(("args", "left"), [(("undo",), []), (("resume", "--max-calls", "9"), ["a", "b"])])
def test_a_folder_that_the_user_names_is_used(
    orch: Orch, ended: str, args: tuple[str, ...], left: list[str]
) -> None:
    shutil.copytree(orch.workspace, orch.workspace.with_name("copy"))
    folder(orch.workspace, orch.workspace.with_name("copy"))
    assert orch(args[0], ended, *args[1:], "-C", str(orch.workspace)).code == 0
    assert orch.files() == [f"{name}.txt" for name in left]
    # A resumed run knows its new folder.
    assert orch("undo", ended).code == (0 if args[0] == "resume" else 2)


def test_a_restart_may_number_devices_anew(orch: Orch, ended: str) -> None:
    text = orch.journal().read_text()
    mark = orch.events("RunStarted")[0]["mark"]
    device, inode, boot = mark.split(":")
    other = f"{int(device) + 1}:{inode}"
    orch.journal().write_text(text.replace(mark, f"{other}:{boot}"))
    assert orch("undo", ended).code == 2
    orch.journal().write_text(text.replace(mark, f"{other}:an-earlier-one"))
    assert orch("undo", ended).code == 0


@pytest.mark.parametrize("swap", [link, folder, nothing])
def test_a_run_writes_nothing_where_its_data_folder_was(
    orch: Orch, endpoint: Endpoint, private: Path, swap: Swap
) -> None:
    endpoint.reply = cast(lambda: swap(orch.home, private))
    done = orch("ask", "Write a.")
    assert (done.code, str(orch.home) in done.error) == (3, True)
    assert orch.files() == []
    if swap is not nothing:
        assert names(orch.home) == ["diary.txt"]
        orch.home.rename(orch.home.with_name("theirs"))
    orch.home.with_name("before").rename(orch.home)
    write = [code(WRITE.format("a"))], [code(WRITE.format("b"))]
    endpoint.reply = Cast(agents={"Do a": write[0], "Do b": write[1]})
    assert orch("resume", "last").code == 0


STRANGER = 65534
by_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")


def opened(place: Path) -> None:
    place.chmod(0o777)


def given(place: Path) -> None:
    place.chmod(0o755)
    os.chown(place, STRANGER, STRANGER)


def sticky_below(place: Path) -> None:
    place.chmod(0o1777)
    for path in place.iterdir():
        os.chown(path, STRANGER, STRANGER)


WAYS = [opened, pytest.param(given, marks=by_root), pytest.param(sticky_below, marks=by_root)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_link", [False, True])
def test_a_data_folder_that_others_may_exchange_is_refused(
    orch: Orch, endpoint: Endpoint, tmp_path: Path, way: Callable[[Path], None], is_link: bool
) -> None:
    above = tmp_path / "above"
    (above / "data").mkdir(parents=True)
    home = above / "data" / "orch"
    if is_link:
        (tmp_path / "real").mkdir(mode=0o700)
        home.symlink_to(tmp_path / "real")
    way(above)
    for args in (("ask", "Hello?"), ("runs",), ("doctor",), ("trust", "--yes")):
        done = orch(*args, ORCH_HOME=str(home))
        assert (done.code, str(above) in done.error, "ORCH_HOME" in done.error) == (3, True, True), args
    assert endpoint.arrived == 0
    assert is_link or not home.exists()


def test_a_sticky_folder_above_the_data_folder_is_none_of_that(orch: Orch, tmp_path: Path) -> None:
    (tmp_path / "above").mkdir()
    (tmp_path / "above").chmod(0o1777)
    assert orch("runs", ORCH_HOME=str(tmp_path / "above" / "orch")).code == 0


@pytest.mark.parametrize("is_open", [False, True])
def test_a_run_says_once_that_others_may_exchange_its_workspace(
    orch: Orch, endpoint: Endpoint, tmp_path: Path, is_open: bool
) -> None:
    above = tmp_path / "above"
    work = above / "work"
    work.mkdir(parents=True)
    above.chmod(0o777 if is_open else 0o755)
    endpoint.reply = Cast(
        planner=[plan({"id": "say", "title": "Say", "kind": "answer", "instruction": "Hi"})]
    )
    done = orch("ask", "Hello?", "-C", str(work))
    assert done.code == 0, done.err
    said = [row["message"] for row in orch.events("Noticed")]
    assert sum(str(above) in text for text in said) == is_open
    rows = {row["name"]: row for row in json.loads(orch("doctor", "--json", "-C", str(work)).out)}
    assert ("warning: " in rows["workspace"]["detail"]) == is_open
