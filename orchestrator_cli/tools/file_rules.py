"""Which files of a folder a run never sees, and which it may change only if a person agrees. Pure.

`HIDDEN` and `CREDENTIALS` are neither shown to a run nor committed. `executes` is what the host or another
program executes or obeys later, the table of `executed_files`: a run may read it, and is asked about before a
commit changes it.

Not covered: what a program obeys under names of its own.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

from orchestrator_cli.tools.executed_files import (
    EXECUTES,
    HARMLESS,
    LOGINS,
    MACHINE,
    MACHINE_PROGRAMS,
    UNKNOWN,
)
from orchestrator_cli.tools.file_names import FileRule, FileRules, canonical
from orchestrator_cli.tools.own_files import PROGRAMS_OWN

OURS = FileRule(
    "fileLog.md orch.toml .config/orch .local/share/orch",
    "`orch` itself writes and trusts them",
)
"""What the user cannot allow."""

VERSION_CONTROL = FileRule(
    ".git git~1 .hg .svn .bzr .jj .sl _darcs .pijul",
    "the hooks and settings of version control run programs",
)

HIDDEN = (
    VERSION_CONTROL,
    FileRule(
        ".env* *.env .Renviron",
        "environment files hold secrets, and programs load them",
    ),
    OURS,
)

CREDENTIALS = (
    FileRule(
        ".ssh .gnupg .password-store .pki .age .config/sops *.kdbx *.ppk privkey*.pem .local/share/keyrings "
        ".local/share/kwalletd .config/keepassxc .config/Bitwarden .config/1Password id_rsa id_dsa id_ecdsa "
        "id_ed25519 id_*_sk .secrets .vault_pass* .Xauthority .vnc *.p12 *.pfx *.keystore *.jks *.agekey "
        ".config/age .op .gnome2/keyrings .local/share/gnupg .electrum .bitcoin .ethereum .monero "
        ".config/solana wallet.dat .putty .config/putty .step .keychain .local/share/password-store",
        "keys and passwords",
    ),
    FileRule(
        ".aws .azure .oci .config/gcloud .config/doctl .config/op .kube .docker/config.json .dockercfg "
        ".config/containers/auth.json .config/helm .config/argocd .config/hcloud .config/scw .linode-cli "
        ".vault-token .s3cfg .boto .config/rclone .rclone.conf .cloudflared .pulumi *.tfstate* .terraformrc "
        ".terraform.d/credentials.tfrc.json .databrickscfg .snowsql .snowflake .kaggle .docker/contexts "
        ".minikube .config/flyctl .config/vercel .local/share/com.vercel.cli .config/wrangler .aliyun "
        ".tccli .bluemix .config/yandex-cloud .config/exoscale .config/pulumi .talos .config/k9s "
        ".modal.toml kubeconfig *.kubeconfig *.tfvars *.tfvars.json application_default_credentials.json "
        "client_secret*.json gha-creds-*.json",
        "access to clouds and clusters",
    ),
    FileRule(
        ".netrc _netrc .authinfo* .git-credentials .config/git/credentials .config/gh .config/hub "
        ".config/glab-cli .npmrc .pypirc pip.conf .config/pypoetry/auth.toml .cargo/credentials* "
        ".gem/credentials .m2/settings*.xml .gradle/gradle.properties .composer/auth.json .hex .pgpass "
        ".my.cnf .smbcredentials .subversion/auth .sentryclirc .config/ngrok .config/stripe .config/heroku "
        ".local/share/heroku .config/netlify .config/filezilla .config/remmina .local/share/remmina "
        ".config/configstore .cache/huggingface/token .dev.vars .flaskenv .config/msmtp "
        ".prefect/profiles.toml .prefect/.profiles.toml .ngrok2 .ngrok .yarnrc.yml "
        "share/uv/credentials .cache/huggingface/stored_tokens .config/yarn .config/npm .config/pip "
        ".wakatime.cfg .config/tea .jira.d .config/sentry .netlify .config/atuin .dropbox .config/syncthing "
        ".local/state/syncthing .config/nextcloud .config/borg .mcp-auth .config/openai .wandb "
        ".config/wandb .huggingface .streamlit/secrets.toml config/master.key",
        "logins and tokens of programs",
    ),
    FileRule(
        ".claude.json .claude/.credentials.json .claude/projects .claude/history.jsonl .codex/auth.json "
        ".codex/sessions .codex/history.jsonl .gemini/oauth_creds.json .gemini/google_accounts.json "
        ".gemini/tmp .qwen/oauth_creds.json .config/github-copilot .config/goose .config/cursor "
        ".local/share/opencode .cursor/mcp.json .continue .codeium .config/zed/settings.json "
        ".local/share/goose .local/share/crush .config/crush .local/share/amazon-q .aws/amazonq "
        ".aider.*.history* User/globalStorage",
        "logins and sessions of other agents",
    ),
    FileRule(
        ".mozilla .librewolf .config/google-chrome* .config/chromium .config/BraveSoftware "
        ".config/microsoft-edge* .config/opera .config/vivaldi snap/firefox snap/chromium .thunderbird "
        ".config/evolution .local/share/evolution .msmtprc .fetchmailrc .mbsyncrc .offlineimaprc "
        ".config/Slack .config/discord .config/Signal .config/Element .local/share/TelegramDesktop .purple "
        ".weechat .config/weechat .irssi .var/app snap .config/mutt .mutt .muttrc .neomuttrc "
        ".config/neomutt .config/aerc .config/himalaya .zen .waterfox .tor-browser .local/share/torbrowser "
        ".config/vesktop .config/teams* .config/Microsoft .zoom .config/Mattermost .config/Rocket.Chat "
        ".cache/mozilla .cache/google-chrome* .cache/chromium .cache/thunderbird",
        "profiles of browsers, mail and chats, with passwords, cookies and messages",
    ),
    FileRule(
        ".*_history fish/fish_history .local/share/atuin .viminfo .lesshst .histfile .zhistory .histfile* "
        ".local/state/nvim .local/state/bash .local/state/zsh PowerShell/PSReadLine .node_repl_history "
        ".config/nushell/history* fish_history .recently-used* .local/share/recently-used.xbel "
        ".local/share/klipper nvim/shada history.sqlite",
        "what was typed, which may hold passwords",
    ),
)

MACHINE_KEEPS = FileRule(
    "/proc /sys /dev /run/secrets /run/credentials /run/user /etc/shadow* /etc/gshadow* /etc/sudoers* "
    "/etc/wireguard /etc/krb5.keytab etc/ssl/private etc/pki/private etc/ssh/ssh_host_*_key "
    "etc/security/opasswd etc/ppp/*-secrets NetworkManager/system-connections krb5cc_* /var/spool",
    "the machine makes or keeps it, and it may hold secrets",
)
"""Absolute paths. What is there shows processes and their environment, or is for the machine only."""
_SHARED_AT_RUN = ("gvfs", "doc")
"""Folders of `/run/user/ID` in which desktops mount what a user opens."""

GIT_FOLDER = FileRule("", "it is a git repository by another name: git runs what its settings name")
"""For a folder that git takes for its own whatever its name, see `is_git_folder`."""

executes = FileRules(EXECUTES)
machine = FileRules((MACHINE,))
"""Asked about absolute paths, with their first `/`."""
machine_programs = FileRules((MACHINE_PROGRAMS,))
_machine_keeps = FileRules((MACHINE_KEEPS,))
_harmless = FileRules((HARMLESS,))
_ours = FileRules((OURS,))
_hidden = FileRules((*HIDDEN, *CREDENTIALS))
_closed = FileRules((VERSION_CONTROL, *CREDENTIALS))


def hiding_rule(path: str, allowed: Collection[str] = (), above: Sequence[str] = ()) -> FileRule | None:
    """The rule that hides a path for its last name, unless the user has `allowed` that name.

    `above`: the folders that the path is in, of which names of several parts may begin in the last ones.
    """
    parts = path.split("/")
    rule = _hidden.at([*above[-2:], *parts])
    return None if rule is not None and is_allowed(parts, allowed) else rule


def is_allowed(parts: Sequence[str], allowed: Collection[str]) -> bool:
    """Whether the user has allowed the name that a path ends with, or its last parts."""
    names = [canonical(part) for part in parts]
    if not allowed or _ours.at(parts) is not None:
        return False
    wanted = ([canonical(part) for part in name.strip("/").split("/")] for name in allowed)
    return any(names[-len(one) :] == one for one in wanted)


def executing_rule(path: str, above: Sequence[str] = ()) -> tuple[str, FileRule] | None:
    """The rule about what is executed or obeyed later on the way to a path, and the path up to its name.

    `UNKNOWN` if there is none but a name with a dot that is neither harmless nor the beginning of others.
    """
    return executes.within(path, above) or _unknown(path)


def _unknown(path: str) -> tuple[str, FileRule] | None:
    parts = path.split("/")
    for end, part in enumerate(parts, 1):
        if part in PROGRAMS_OWN or part == ".cache":
            return None
        known = _harmless.at([part]) is not None or executes.begun_by(part)
        if canonical(part).startswith(".") and not known:
            return "/".join(parts[:end]), UNKNOWN
    return None


HOME_FOLDERS = dict.fromkeys(("", *sorted(executes.folders | _hidden.folders)))
"""What rules are about, as paths in a home folder, and that itself."""
_SHOWN_AT_HOME = FileRules(
    (
        FileRule(".*ignore .editorconfig", "harmless"),
        *(rule for rule in EXECUTES if rule.only != "project" and rule is not LOGINS),
    )
)


def hidden_at_home(path: str, allowed: Collection[str]) -> bool:
    """Whether a path in a home folder is hidden for its last name.

    A hidden file or folder of a home folder itself may hold secrets of any program, so only those of which
    a rule knows what they are for are shown.
    """
    if hiding_rule(path, allowed) is not None:
        return True
    is_at_top = "/" not in path and canonical(path).startswith(".")
    known = _SHOWN_AT_HOME.at([path]) is not None or _SHOWN_AT_HOME.begun_by(path)
    return is_at_top and not known and not is_allowed([path], allowed)


def hidden_at(path: str) -> FileRule | None:
    """The rule on the way to an absolute path, of version control or of `CREDENTIALS`."""
    found = _closed.within(path.strip("/"))
    return found[1] if found else None


def machine_keeps(path: str) -> FileRule | None:
    """The rule about an absolute path, resolved, that no user's file has."""
    is_shared = path.startswith("/run/user/") and path.split("/")[4:5] in ([one] for one in _SHARED_AT_RUN)
    found = None if is_shared else _machine_keeps.within(path)
    return found[1] if found else None


def is_git_folder(names: Iterable[str]) -> bool:
    """Whether git would take a folder with these names for a repository, or for a part of one."""
    found = {canonical(name) for name in names}
    if {"objects", "refs"} <= found:
        return "head" in found or "config" in found
    return {"head", "commondir"} <= found


def folders_above(path: str) -> Iterator[str]:
    """The folders that a path is in, the outermost first: that is the root, an empty text."""
    yield ""
    parts = path.split("/")
    for end in range(1, len(parts)):
        yield "/".join(parts[:end])
