"""Which links are followed: the pure rule, and the walk that finds the links on a way."""

import os
from pathlib import Path

import pytest

from orchestrator_cli.durable.followed_links import Link, links_on, links_to, only_root_writes, stray_link


def link(place: str, target: str) -> Link:
    return Link(Path(place), Path(target))


@pytest.mark.parametrize(
    ("place", "target", "is_stray"),
    [
        ("/home/u/pack/a", "/home/u/pack/sub/b", False),
        ("/home/u/pack/a", "/home/u/private/b", True),
        ("/home/u/pack/a", "/home/u/pack-2/b", True),
        ("/home/u/pack/a", "/home/u", True),
        ("/repo/ws/sub/a", "/repo/ws/b", False),
        ("/repo/ws/sub/a", "/repo/b", True),
        ("/repo/sub/a", "/repo/ws/b", False),
        ("/home", "/usr/home", False),
        ("/usr/bin/vi", "/etc/alternatives/vi", False),
        ("/repo/ws/system/a", "/etc/passwd", True),
    ],
)
def test_links_that_lead_out(place: str, target: str, is_stray: bool) -> None:
    found = stray_link(
        [link("/x/fine", "/x/y"), link(place, target)],
        known={Path("/home")},
        bounds=[Path("/repo/ws"), Path("/repo")],
        is_closed=lambda folder: folder in (Path("/usr/bin"), Path("/repo/ws/system")),
    )
    assert (found is not None) == is_stray


def test_the_links_on_a_way_are_found_one_after_the_other(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/file").touch()
    (root / "one").symlink_to("two")
    (root / "two").symlink_to(root / "a")
    (root / "a/up").symlink_to("../one/b")
    found = list(links_on(root / "one/../a/up/file"))
    names = [one.place.relative_to(root).as_posix() for one in found]
    assert names == ["one", "two", "a/up", "one", "two"]
    assert [one.target.relative_to(root).as_posix() for one in found] == ["a", "a", "a/b", "a", "a"]
    (root / "loop").symlink_to("loop")
    assert {one.place for one in links_on(root / "loop/x")} == {root / "loop"}
    assert links_to([root / "two", root]) == {root / "two"}


def test_a_folder_of_the_user_is_not_the_machines(tmp_path: Path) -> None:
    assert not only_root_writes(tmp_path)
    assert not only_root_writes(Path("/tmp"))
    assert not only_root_writes(tmp_path / "gone")


def test_what_only_root_writes_is_the_machines_unless_we_are_root() -> None:
    was = os.geteuid()
    assert only_root_writes(Path("/")) == (was != 0)
    if was == 0:
        os.seteuid(65_534)
        try:
            assert [only_root_writes(Path(name)) for name in ("/", "/tmp")] == [True, False]
        finally:
            os.seteuid(was)
