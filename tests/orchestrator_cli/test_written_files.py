"""Files that a command writes under a name of the user: one rule, for each way to name one."""

import os
from pathlib import Path

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, answered
from unprivileged import bound_by_modes

from orchestrator_cli.errors import UsageError
from orchestrator_cli.recall.written_files import check_written, write_named
from orchestrator_cli.settings import Settings

WAYS = [
    ("show", "last", "--format", "html", "-o"),
    ("show", "last", "--format", "json", "-o"),
    ("plan", "Do it.", "--format", "svg", "-o"),
    ("ask", "Do it.", "--speak"),
    ("memory", "export"),
]
SPEAKS = {"ORCH_SPEECH_MODEL": "openai/tts-1"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "ws").mkdir()
    (tmp_path / "private").mkdir()
    return Settings(home=tmp_path / "orch", workspace=tmp_path / "ws")


def test_no_way_writes_through_a_link_or_into_a_pipe(orch: Orch, endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.reply = Cast(planner=[answered("Ok.")])
    assert orch("ask", "Do it.").code == 0
    asked = endpoint.arrived
    private = tmp_path / "private"
    private.mkdir()
    (private / "notes.mp3").write_text("mine")
    (orch.workspace / "file.mp3").symlink_to(private / "notes.mp3")
    (orch.workspace / "gone.mp3").symlink_to(private / "new.mp3")
    (orch.workspace / "folder").symlink_to(private)
    os.mkfifo(orch.workspace / "pipe.mp3")
    for way in WAYS:
        for name in ("file.mp3", "gone.mp3", "folder/new.mp3", "pipe.mp3", "/dev/x.mp3", "/proc/x.mp3"):
            done = orch(*way, name, timeout=30, **SPEAKS)
            assert done.code == 2, (way, name, done.err)
            assert Path(name).name in done.error.replace(" ", "")
    assert [path.name for path in private.iterdir()] == ["notes.mp3"]
    assert (private / "notes.mp3").read_text() == "mine"
    assert endpoint.arrived == asked
    # What the remedy names is written.
    assert orch("memory", "export", str(private / "new.mp3")).code == 0


def test_a_folder_of_tools_is_not_written_through_a_link(orch: Orch, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (orch.workspace / "out").symlink_to(tmp_path / "private")
    for target in ("out", "out/new", "out/new.zip"):
        assert orch("tools", "export", "count_words", target).code == 2
        assert orch("tools", "export", "count_words", target, "--skill").code == 2
        assert "link" in orch("tools", "export", "count_words", target).error


def test_a_file_is_replaced_and_keeps_its_mode(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[answered("Ok.")])
    assert orch("ask", "Do it.").code == 0
    page, other = orch.workspace / "page.html", orch.workspace / "other"
    page.write_text("old")
    page.chmod(0o640)
    other.hardlink_to(page)
    assert orch("show", "last", "--format", "html", "-o", "page.html").code == 0
    assert page.read_text().startswith("<!")
    assert (page.stat().st_mode & 0o777, other.read_text()) == (0o640, "old")
    assert {path.name for path in orch.workspace.iterdir()} == {"page.html", "other", "fileLog.md"}


def test_the_rule_is_that_of_what_is_read(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "ws/sub").mkdir()
    (tmp_path / "ws/in").symlink_to("sub")
    assert check_written(tmp_path / "ws/in/a", settings) == tmp_path.resolve() / "ws/sub/a"
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/docs").symlink_to("../private")
    with pytest.raises(UsageError) as caught:
        check_written(tmp_path / "pack/docs/a", settings)
    assert str(tmp_path / "private/a") in caught.value.remedy
    for name in ("ws/sub", "ws/sub/..", "."):
        with pytest.raises(UsageError):
            check_written(tmp_path / name, settings)


def test_a_new_file_is_new_and_whole(settings: Settings, tmp_path: Path) -> None:
    name = "a" * 250
    write_named(tmp_path / "ws" / name, "text", settings, mode=0o600, is_new=True)
    assert (tmp_path / "ws" / name).stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError):
        write_named(tmp_path / "ws" / name, "other", settings, is_new=True)
    with pytest.raises(UsageError):
        write_named(tmp_path / "ws/none/a", "text", settings)
    assert [path.name for path in (tmp_path / "ws").iterdir()] == [name]
    assert (tmp_path / "ws" / name).read_text() == "text"


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_a_stream_is_no_file_and_the_remedy_fits(orch: Orch, endpoint: Endpoint, name: str) -> None:
    shown = orch("plan", "Do it.", "-o", name)
    assert (shown.code, "-o out" in shown.error, endpoint.arrived) == (2, True, 0)
    assert orch.files() == []
    if name != "-":
        exported = orch("memory", "export", name)
        assert (exported.code, "another file" in exported.error) == (2, True)


def test_a_file_in_a_folder_that_takes_no_new_one_is_named_with_what_helps(
    settings: Settings, tmp_path: Path
) -> None:
    place = tmp_path / "ws" / "page.html"
    place.write_text("old")
    place.parent.chmod(0o500)
    try:
        with bound_by_modes(), pytest.raises(UsageError) as raised:
            write_named(place, "new", settings)
    finally:
        place.parent.chmod(0o700)
    assert f"chmod u+w {place.parent}" in raised.value.remedy
    assert place.read_text() == "old"
