"""What no checkout shows: credentials and the data folder of orch, whatever the workspace and the case."""

from pathlib import Path

import pytest

from orchestrator_cli.errors import UsageError
from orchestrator_cli.tools.file_rules import CREDENTIALS, HIDDEN, hiding_rule
from orchestrator_cli.tools.files import file_tools
from orchestrator_cli.workspace import Workspace

SECRET = [
    ".ssh/id_ed25519",
    ".SSH/config",
    ".gnupg/private-keys-v1.d/key",
    ".aws/credentials",
    ".config/gcloud/token",
    ".Config/GCloud/token",
    ".kube/config",
    ".docker/config.json",
    ".netrc",
    ".mozilla/firefox/x/logins.json",
    ".config/chromium/Default/Cookies",
    ".password-store/mail.gpg",
    ".local/share/keyrings/login.keyring",
    "deep/down/.ssh/id_rsa",
    ".authinfo.gpg",
    ".m2/settings.xml",
    ".config/containers/auth.json",
    ".config/sops/age/keys.txt",
    ".vault_pass.txt",
    "keys/id_ed25519_sk",
    "keys/a.ppk",
    "infra/terraform.tfstate.backup",
    ".mysql_history",
    ".dev.vars",
    ".codex/sessions/a.jsonl",
    ".config/Signal/config.json",
    ".var/app/org.mozilla.firefox/.mozilla/x",
    "snap/code/common/x",
    ".cache/huggingface/stored_tokens",
    ".docker/contexts/meta/x",
    ".ngrok2/ngrok.yml",
    ".op/config",
    ".zhistory",
    ".local/state/nvim/shada/main.shada",
    ".ipython/profile_default/history.sqlite",
    ".local/share/uv/credentials/x",
    ".local/share/powershell/PSReadLine/ConsoleHost_history.txt",
    ".yarnrc.yml",
    ".cargo/credentials.toml",
    ".cursor/mcp.json",
    ".continue/config.json",
    ".config/age/keys.txt",
    ".config/msmtp/config",
    ".prefect/profiles.toml",
    ".electrum/wallets/x",
    "keys/a.p12",
    "keys/a.PFX",
    "app/release.keystore",
    "app/release.jks",
    ".Renviron",
    ".config/orch/orch.toml",
    ".local/share/orch/trust/x.json",
    "prod.env",
    "kubeconfig",
    "infra/live.tfvars",
    "infra/live.auto.tfvars.json",
    "app/.streamlit/secrets.toml",
    "client_secret_1.apps.json",
    "config/master.key",
    "deep/.git\u200c/config",
    "deep/\uff0egit/config",
    "deep/.git./config",
    "deep/.git\ufe0f/config",
    "deep/.g\u034fit/config",
    "deep/\u3164.git\u180b/config",
    "deep/.s\u115fsh/id",
]
SHOWN = [
    "certs/server.pem",
    "keys/a.key",
    ".docker/notes",
    ".config/app/settings",
    "gcloud/notes",
    "keyrings/notes",
    "ssh/config",
    "environment.py",
    ".streamlit/config.toml",
    "infra/main.tf",
]


def write(root: Path, path: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("secret")


def shown(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_credentials_are_neither_copied_nor_listed_nor_committed(tmp_path: Path) -> None:
    root = tmp_path / "user"
    for path in (*SECRET, *SHOWN):
        write(root, path)
    workspace = Workspace(root, tmp_path / "state", 10)
    assert sorted(workspace.listing().paths) == sorted(SHOWN)
    with workspace.checkout() as checkout:
        assert shown(checkout.root) == sorted(SHOWN)
        for path in SECRET:
            write(checkout.root, path)
            (checkout.root / path).write_text("planted")
        assert checkout.written_paths() == []
        assert ".ssh/" not in checkout.refused_paths()
        assert ".ssh" in checkout.refused_paths()
        assert checkout.commit() == ()
    assert {(root / path).read_text() for path in SECRET} == {"secret"}


@pytest.mark.parametrize("path", SECRET)
def test_file_tools_do_not_read_credentials(tmp_path: Path, path: str) -> None:
    for one in (path, *SHOWN):
        write(tmp_path, one)
    tools = file_tools(tmp_path)
    with pytest.raises(ValueError, match="protected"):
        tools["read_file"](path)
    assert sorted(line.split(" (")[0] for line in tools["list_files"]()) == sorted(SHOWN)


def test_every_name_of_a_rule_hides_something() -> None:
    names = [name for rule in (*HIDDEN, *CREDENTIALS) for name in rule.names]
    assert [name for name in names if hiding_rule(f"a/{name.replace('*', 'x')}") is None] == []


@pytest.mark.parametrize("place", ["state", ".local/share/orch", "deep/er/State"])
def test_the_data_folder_in_the_workspace_is_hidden(tmp_path: Path, place: str) -> None:
    write(tmp_path, "shown.txt")
    write(tmp_path, f"{place}/runs/a/journal.jsonl")
    workspace = Workspace(tmp_path, tmp_path / place, 10)
    assert list(workspace.listing().paths) == ["shown.txt"]
    with workspace.checkout() as checkout:
        assert shown(checkout.root) == ["shown.txt"]
        write(checkout.root, f"{place}/roles/mine.md")
        assert checkout.commit() == ()
    assert not (tmp_path / place / "roles").exists()


def test_a_folder_in_a_half_named_one_is_known_by_what_is_above(tmp_path: Path) -> None:
    for path in ("gcloud/token", "app/settings"):
        write(tmp_path / ".config", path)
    workspace = Workspace(tmp_path / ".config", tmp_path / "state", 10)
    assert list(workspace.listing().paths) == ["app/settings"]


@pytest.mark.parametrize("name", [".ssh", ".aws/sso", ".config/gcloud"])
def test_no_run_works_in_a_folder_of_credentials(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(UsageError, match="no run works there"):
        Workspace(tmp_path / name, tmp_path / "state", 10)


def test_a_credential_that_the_user_allows_by_name_is_shown(tmp_path: Path) -> None:
    for path in (".npmrc", ".config/gcloud/x", ".aws/credentials"):
        write(tmp_path / "work", path)
    workspace = Workspace(tmp_path / "work", tmp_path / "state", 10, allowed=(".npmrc", ".config/gcloud"))
    assert sorted(workspace.listing().paths) == [".config/gcloud/x", ".npmrc"]


def test_a_private_key_is_hidden_for_what_it_holds_unless_the_run_made_it(tmp_path: Path) -> None:
    key = "-----BEGIN EC PARAMETERS-----\n-----BEGIN EC PRIVATE KEY-----\nx"
    for path, text in {"a.pem": key, "deep/b.KEY": key, "c.pem": "-----BEGIN CERTIFICATE-----"}.items():
        write(tmp_path / "work", path)
        (tmp_path / "work" / path).write_text(text)
    workspace = Workspace(tmp_path / "work", tmp_path / "state", 10, run="one")
    with workspace.checkout() as checkout:
        assert shown(checkout.root) == ["c.pem"]
        (checkout.root / "new.key").write_text(key)
        (checkout.root / "a.pem").write_text("planted")
        assert [change.path for change in checkout.commit()] == ["new.key"]
    with workspace.checkout() as checkout:
        assert shown(checkout.root) == ["c.pem", "new.key"]
    allowed = Workspace(tmp_path / "work", tmp_path / "state", 10, allowed=("a.pem",))
    with allowed.checkout() as checkout:
        assert shown(checkout.root) == ["a.pem", "c.pem"]


PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\nx"
HELD = [
    ("deploy_key", PEM, True),
    ("ops/deploy.rsa", PEM, True),
    (
        "service-account.json",
        '{"type": "service_account", "private_key": "-----BEGIN PRIVATE KEY-----"}',
        True,
    ),
    ("office.ovpn", f"client\n<key>\n{PEM}", True),
    ("backup.asc", "-----BEGIN PGP PRIVATE KEY BLOCK-----", True),
    ("putty-key", "PuTTY-User-Key-File-3: ssh-rsa", True),
    ("keys.txt", "# created\nAGE-SECRET-KEY-1QQ", True),
    ("cluster.yaml", "users:\n- user:\n    client-key-data: LS0t", True),
    ("deploy_key.pub", "ssh-ed25519 AAAA", False),
    ("service-account.json", '{"private_key_id": "none"}', False),
    ("tests/data/deploy_key", PEM, False),
    ("src/parse.py", f"HEAD = {PEM!r}", False),
    ("docs/keys.md", PEM, False),
    ("notes", "x" * (64 << 10) + PEM, False),
]


@pytest.mark.parametrize(("path", "text", "is_hidden"), HELD)
def test_a_key_by_any_name_of_its_kind_is_hidden(
    tmp_path: Path, path: str, text: str, is_hidden: bool
) -> None:
    write(tmp_path / "work", path)
    (tmp_path / "work" / path).write_text(text)
    with Workspace(tmp_path / "work", tmp_path / "state", 10).checkout() as checkout:
        assert shown(checkout.root) == [path] * (not is_hidden)
