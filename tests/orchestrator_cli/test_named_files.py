"""Files that the user names for their content: one rule, for each way to name one."""

import json
from pathlib import Path

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, answered

from orchestrator_cli.durable.files import read_stored
from orchestrator_cli.errors import UsageError
from orchestrator_cli.execution.attaching import known_keys
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


def test_other_links_are_followed(clone: Path) -> None:
    (clone / "repo/ws/in.txt").symlink_to("own.txt")
    (clone / "mine.txt").symlink_to(clone / "private/tax.txt")
    assert [rule(clone).refusal(clone / one) for one in ("repo/ws/in.txt", "mine.txt")] == [None, None]
    settings = Settings(home=clone / "orch", workspace=clone / "repo/ws")
    followed = [one for one in ("repo/ws/own.txt", "mine.txt") if is_followed(clone / one, settings)]
    assert followed == ["mine.txt"]


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
