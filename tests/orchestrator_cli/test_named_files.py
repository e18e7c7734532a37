"""Files that the user names for their content: one rule, for each way to name one."""

import json
from pathlib import Path

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, answered

from orchestrator_cli.durable.files import read_stored
from orchestrator_cli.errors import UsageError
from orchestrator_cli.models.own_keys import known_keys
from orchestrator_cli.recall.named_files import NamedFiles, is_followed
from orchestrator_cli.settings import Settings
from orchestrator_cli.tools.file_rules import machine_keeps


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with a workspace in it, and a private file beside."""
    for name in ("repo/.git", "repo/ws", "private"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "private/tax.txt").write_text("TAX")
    (tmp_path / "repo/README.md").write_text("Read")
    (tmp_path / "repo/ws/own.txt").write_text("own")
    return tmp_path


def rule(clone: Path, workspace: str = "repo/ws") -> NamedFiles:
    return NamedFiles(Settings(home=clone / "orch", workspace=clone / workspace))


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("repo/ws/a.txt", "private/tax.txt"),
        ("repo/ws/a.txt", "repo/README.md"),
        ("repo/ws/folder", "private"),
        ("repo/other.txt", "private/tax.txt"),
    ],
)
def test_a_link_of_the_workspace_or_its_repository_does_not_lead_out(
    clone: Path, name: str, target: str
) -> None:
    (clone / name).symlink_to(clone / target)
    named = clone / name / "tax.txt" if target == "private" else clone / name
    found = rule(clone).refusal(named)
    assert found is not None
    assert str(named.resolve()) in found.remedy
    assert rule(clone).refusal(named.resolve()) is None
    (clone / "alias").symlink_to(clone / "repo")
    assert rule(clone).refusal(clone / "alias" / named.relative_to(clone / "repo")) is not None


def test_a_link_that_stays_in_its_folder_is_followed(clone: Path) -> None:
    (clone / "repo/ws/in.txt").symlink_to("own.txt")
    (clone / "private/mine.txt").symlink_to("tax.txt")
    (clone / "mine").symlink_to("private")
    names = ("repo/ws/in.txt", "private/mine.txt", "mine/tax.txt")
    assert [rule(clone).refusal(clone / one) for one in names] == [None] * 3
    settings = Settings(home=clone / "orch", workspace=clone / "repo/ws")
    followed = [one for one in ("repo/ws/own.txt", "mine/tax.txt") if is_followed(clone / one, settings)]
    assert followed == ["mine/tax.txt"]


@pytest.mark.parametrize("name", ["pack/readme.txt", "pack/docs/tax.txt", "pack/docs/../tax.txt", "pack/in"])
def test_a_link_elsewhere_does_not_lead_out(clone: Path, name: str) -> None:
    (clone / "pack").mkdir()
    (clone / "pack/readme.txt").symlink_to("../private/tax.txt")
    (clone / "pack/docs").symlink_to("../private/more")
    (clone / "pack/in").symlink_to("readme.txt")
    (clone / "private/more").mkdir()
    (clone / "private/more/tax.txt").write_text("TAX")
    found = rule(clone).refusal(clone / name)
    assert found is not None
    assert str((clone / name).resolve()) in found.remedy
    assert rule(clone).refusal((clone / name).resolve()) is None


def test_the_way_to_where_the_user_is_may_be_a_link(
    orch: Orch, endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    for name in ("home", "here", "ws"):
        (tmp_path / "disk" / name).mkdir()
        (tmp_path / "disk" / name / "a.txt").write_text("seven geese")
        (tmp_path / "away").mkdir(exist_ok=True)
        (tmp_path / "away" / name).symlink_to(tmp_path / "disk" / name)
    endpoint.reply = Cast(planner=[answered("Ok.")] * 3)
    away = tmp_path / "away"
    done = orch("ask", "What?", "--attach", str(away / "home/a.txt"), HOME=str(away / "home"))
    assert done.code == 0, done.err
    done = orch("ask", "What?", "-C", str(away / "ws"), "--attach", str(away / "ws/a.txt"))
    assert done.code == 0, done.err
    monkeypatch.chdir(tmp_path / "disk/here")
    monkeypatch.setenv("PWD", str(away / "here"))
    assert rule_at(tmp_path).refusal(away / "here/a.txt") is None
    monkeypatch.setenv("PWD", str(away / "ws"))
    assert rule_at(tmp_path).refusal(away / "ws/a.txt") is not None


def rule_at(folder: Path) -> NamedFiles:
    (folder / "own").mkdir(exist_ok=True)
    return NamedFiles(Settings(home=folder / "orch", workspace=folder / "own"))


@pytest.mark.parametrize("how", ["attach", "mention", "file", "folder"])
def test_what_was_unpacked_gives_no_private_file_away(
    orch: Orch, endpoint: Endpoint, tmp_path: Path, how: str
) -> None:
    for name in ("private", "pack"):
        (tmp_path / name).mkdir()
    (tmp_path / "private/tax.md").write_text("TAX")
    (tmp_path / "pack/readme.md").symlink_to("../private/tax.md")
    (tmp_path / "pack/docs").symlink_to("../private")
    given = str(tmp_path / "pack" / ("docs" if how == "folder" else "readme.md"))
    endpoint.reply = Cast(planner=[answered("Ok.")])
    if how == "mention":
        done = orch.at_terminal("ask", f"What is in @{given}?", typed="n\n")
        assert (done.code, endpoint.arrived) == (2, 0)
    elif how == "attach":
        done = orch("ask", "What?", "--attach", given)
        assert (done.code, endpoint.arrived) == (2, 0)
        assert str(tmp_path / "private/tax.md") in done.error.replace(" ", "")
    else:
        done = orch("kb", "add", given, "--json")
        assert [str(tmp_path / "private") in row["reason"] for row in done.envelope["faults"]] == [True]


def test_a_folder_of_keys_is_one_by_any_name(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A hard link of a file of logins has its identity, as a mount of a folder of keys has.
    monkeypatch.setenv("HOME", str(clone / "home"))
    (clone / "home").mkdir()
    (clone / "home/.netrc").write_text("machine")
    (clone / "plain.txt").hardlink_to(clone / "home/.netrc")
    assert rule(clone).protection(clone / "plain.txt")
    assert not rule(clone).protection(clone / "private/tax.txt")


@pytest.mark.parametrize(
    "path",
    [
        *("/proc/self/environ", "/sys/kernel/notes", "/dev/shm/x", "/run/secrets/db", "/etc/shadow-"),
        *("/run/user/1000/keyring/x", "/etc/ssl/private/a.key", "/etc/ssh/ssh_host_rsa_key", "/tmp/krb5cc_0"),
    ],
)
def test_what_the_machine_keeps_is_nobodys_to_give(path: str) -> None:
    assert machine_keeps(path)


def test_what_only_looks_like_it_is_given() -> None:
    found = ("/home/u/proc/environ", "/run/media/u/usb/a.txt", "/run/user/1/gvfs/smb/a.txt", "/etc/hosts")
    assert [one for one in found if machine_keeps(one)] == []


def test_a_file_that_is_made_up_as_it_is_read_is_none(tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("there is no /proc")
    with pytest.raises(OSError, match="made up"):
        read_stored(Path("/proc/self/status"), 1 << 20)
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").touch()
    assert [read_stored(tmp_path / one, 2) for one in "ab"] == [b"ab", b""]


def test_values_of_keys_are_masked() -> None:
    found = {
        "OPENAI_API_KEY": "sk-abcdef-1234567",
        "TOKEN": "none",
        "HOME": "/home/someone",
        "DB": "pass-word-1",
    }
    keys = known_keys({**found, "SSH_KEY": "/home/someone/key"}, ["DB"])
    assert set(keys.values) == {"OPENAI_API_KEY", "DB"}
    # No sandbox has variables of such names, but the user may.
    found = {"LDAP_PASSWORD": "pass-word-2", "SSL_KEY": "pass-word-3", "my-token": "pass-word-4"}
    assert set(known_keys(found, ()).values) == {"LDAP_PASSWORD", "SSL_KEY", "my_token"}


def environment_link(folder: Path, name: str) -> Path:
    path = folder / name
    path.symlink_to("/proc/self/environ")
    return path


@pytest.mark.parametrize(
    "command",
    [
        ("ask", "What is in @a.json?"),
        ("ask", "What?", "--attach", "a.json"),
        ("ask", "What?", "--schema", "a.json"),
        ("plan", "What is in @a.json?"),
        ("tools", "import", "a.json"),
        ("memory", "import", "a.json"),
    ],
    ids=" ".join,
)
def test_no_way_gives_the_environment_away(orch: Orch, endpoint: Endpoint, command: tuple[str, ...]) -> None:
    environment_link(orch.workspace, "a.json")
    done = orch(*command)
    assert (done.code, endpoint.arrived) == (2, 0)
    assert "/proc" in done.error or "machine" in done.error


def test_a_document_and_a_folder_of_scripts_do_not_lead_out(orch: Orch, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private/tax.txt").write_text("TAX")
    (orch.workspace / "a.txt").symlink_to(tmp_path / "private/tax.txt")
    (orch.workspace / "docs").symlink_to(tmp_path / "private")
    environment_link(orch.workspace, "b.html")
    done = orch("kb", "add", "a.txt", "docs", "b.html", "--json")
    assert [str(tmp_path) in row["reason"] for row in json.loads(done.out)["faults"]] == [True, True, False]
    assert orch("kb", "list", "--json").envelope["documents"] == []
    assert orch("scripts", "add", "docs").code == 2


def test_keys_of_the_environment_stay_here(orch: Orch, endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine: sk-abcdef-1234567.")
    endpoint.reply = Cast(planner=[answered("Ok.")])
    done = orch("ask", "What?", "--attach", str(tmp_path / "a.txt"), MY_API_KEY="sk-abcdef-1234567")
    assert done.code == 0, done.err
    assert "mine: [secret MY_API_KEY]." in endpoint.exchanges[0].text
    kept = b"".join(path.read_bytes() for path in (orch.journal().parent / "blobs").glob("*"))
    assert b"sk-abcdef" not in kept


@pytest.mark.parametrize("how", ["plan", "--detach", "-q"])
def test_what_is_attached_is_shown(orch: Orch, endpoint: Endpoint, tmp_path: Path, how: str) -> None:
    (tmp_path / "real.txt").write_text("seven geese")
    link = tmp_path / "link.txt"
    link.symlink_to("real.txt")
    endpoint.reply = Cast(planner=[answered("Seven.")])
    command = ("plan",) if how == "plan" else ("ask", how)
    done = orch(*command, "How many?", "--attach", str(link))
    assert done.code == 0, done.err
    assert str(tmp_path / "real.txt") in done.err.replace("\n", "")
    if how == "--detach":
        assert orch("attach", "last").code == 0


def test_the_rule_names_what_may_not_be(clone: Path) -> None:
    (clone / "repo/ws/loop").symlink_to("loop")
    with pytest.raises(UsageError):
        rule(clone).check(clone / "repo/ws/.env")
    assert rule(clone).check(clone / "repo/ws/loop").name == "loop"
