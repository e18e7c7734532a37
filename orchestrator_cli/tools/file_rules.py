"""Which files of a folder a run never sees, and which it may change only if a person agrees. Pure.

`HIDDEN` and `CREDENTIALS` are neither shown to a run nor committed. `EXECUTES` is what the host or another
program executes or obeys later: a run may read it, and the rule `executes` asks before a commit changes it.

Names are compared as file systems do that ignore case, composition, invisible characters, and trailing dots
and spaces, so that a name which is harmless here is not another one elsewhere.

Not covered: short names of Windows other than `git~1`, and what a program obeys under names of its own.
"""

import fnmatch
import functools
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator_cli.durable.foreign import UNSEEN


@dataclass(frozen=True)
class FileRule:
    """Names that a rule is about, and why.

    A name with `/`, of at most three parts, is the end of a path; the last part may hold `*`. Everything
    below is meant as well.
    """

    text: str
    """The names, with spaces between them."""
    why: str
    only: Literal["", "existing", "scripts"] = ""
    """Only a file that was there before the run, or only a change of the `SCRIPTS` in a JSON file."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.text.split())


SCRIPTS = ("scripts", "husky", "lint-staged", "simple-git-hooks")
"""Keys of `package.json` whose commands run by themselves."""

OURS = ("fileLog.md", "orch.toml")
"""Written and trusted by `orch` itself, so that the user cannot allow them."""

VERSION_CONTROL = FileRule(
    ".git git~1 .hg .svn .bzr .jj",
    "the hooks and settings of version control run programs",
)

HIDDEN = (
    VERSION_CONTROL,
    FileRule(
        ".env*",
        "environment files hold secrets, and programs load them",
    ),
    FileRule(
        " ".join(OURS),
        "`orch` itself writes and trusts them",
    ),
)

CREDENTIALS = (
    FileRule(
        ".ssh .gnupg .password-store .pki *.kdbx .local/share/keyrings .local/share/kwalletd id_rsa id_dsa "
        "id_ecdsa id_ed25519",
        "keys and passwords",
    ),
    FileRule(
        ".aws .azure .oci .config/gcloud .config/doctl .config/rclone .config/op .kube .docker/config.json "
        ".vault-token .s3cfg .boto .terraform.d/credentials.tfrc.json",
        "access to clouds and clusters",
    ),
    FileRule(
        ".netrc _netrc .git-credentials .config/git/credentials .config/gh .config/hub .config/glab-cli "
        ".npmrc .pypirc .config/pypoetry/auth.toml .cargo/credentials* .gem/credentials .pgpass "
        ".my.cnf .cache/huggingface/token",
        "logins and tokens of programs",
    ),
    FileRule(
        ".claude.json .claude/.credentials.json .codex/auth.json .gemini/oauth_creds.json "
        ".config/github-copilot",
        "logins of other agents",
    ),
    FileRule(
        ".mozilla .thunderbird .config/google-chrome* .config/chromium .config/BraveSoftware "
        ".config/microsoft-edge* .config/opera .config/vivaldi snap/firefox snap/chromium",
        "profiles of browsers and mail, with passwords and cookies",
    ),
    FileRule(
        ".bash_history .zsh_history .python_history .psql_history fish/fish_history",
        "what was typed, which may hold passwords",
    ),
)

EXECUTES = (
    FileRule(
        ".vscode *.code-workspace .idea .fleet .zed .vs .devcontainer .devcontainer.json .exrc .nvim.lua "
        ".nvimrc .vim .vimrc .config/nvim .emacs .emacs.d .dir-locals.el",
        "editors load it and run its tasks when they open the folder",
    ),
    FileRule(
        ".claude .cursor .cursorrules .codex .gemini .windsurf .windsurfrules .clinerules .roo .continue "
        ".aider* .kiro .junie .opencode .agents opencode.json .mcp.json mcp.json AGENTS.md "
        "AGENTS.override.md AGENT.md CLAUDE.md CLAUDE.local.md GEMINI.md SKILL.md "
        ".github/copilot-instructions.md .github/instructions .github/prompts .github/agents",
        "other agents obey it",
    ),
    FileRule(
        ".husky .githooks lefthook.* .lefthook* .pre-commit-config.yaml .pre-commit-hooks.yaml "
        ".overcommit.yml .lintstagedrc*",
        "its commands run when someone commits",
    ),
    FileRule(
        ".gitattributes .gitmodules .gitconfig .config/git",
        "git obeys it, and may run programs for it",
    ),
    FileRule(
        ".bashrc .bash_profile .bash_login .bash_logout .bash_aliases .profile .zshrc .zshenv .zprofile "
        ".zlogin .zlogout .kshrc .cshrc .tcshrc .login .inputrc .xprofile .xsessionrc .xinitrc .config/fish "
        ".config/autostart .config/systemd .local/bin .local/share/applications .tmux.conf .screenrc "
        ".direnvrc .mise.toml mise.toml .tool-versions",
        "shells and desktops run it",
    ),
    FileRule(
        "prefect.toml conftest.py pytest.ini sitecustomize.py usercustomize.py *.pth .pdbrc .ipython "
        ".pythonrc* .gdbinit .lldbinit .curlrc .wgetrc .yarnrc* .pnpmfile.cjs .cargo/config "
        ".cargo/config.toml .Rprofile .irbrc .psqlrc",
        "programs load it by themselves",
    ),
    FileRule(
        ".github/workflows .github/actions .gitlab-ci.yml .circleci .travis.yml Jenkinsfile "
        "azure-pipelines.yml .drone.yml bitbucket-pipelines.yml .buildkite .forgejo/workflows "
        ".gitea/workflows .woodpecker*",
        "build servers run it, with their secrets",
    ),
    FileRule(
        "package.json",
        "npm and hooks run its scripts",
        only="scripts",
    ),
    FileRule(
        "Makefile GNUmakefile justfile Taskfile.y*ml Rakefile noxfile.py tox.ini setup.py build.rs",
        "you are used to running it",
        only="existing",
    ),
)

GIT_FOLDER = FileRule("", "it is a git repository by another name: git runs what its settings name")
"""For a folder that git takes for its own whatever its name, see `is_git_folder`."""


_IGNORED = re.compile(f"[{UNSEEN}]")


@functools.lru_cache(1 << 16)
def canonical(name: str) -> str:
    """A name as the most forgiving file system compares it."""
    if name.isascii():
        plain = name.lower()
    else:
        composed = _IGNORED.sub("", unicodedata.normalize("NFKC", name))
        visible = "".join(sign for sign in composed if unicodedata.category(sign) != "Cf")
        plain = unicodedata.normalize("NFKC", visible.casefold())
    # A colon begins the name of a stream of NTFS.
    return plain.partition(":")[0].rstrip(". ") or plain


class FileRules:
    """Rules, prepared to be asked about many paths."""

    def __init__(self, rules: Iterable[FileRule]) -> None:
        self._by_name: dict[str, list[tuple[tuple[str, ...], FileRule]]] = {}
        self._patterns: list[tuple[re.Pattern[str], tuple[str, ...], FileRule]] = []
        self._parents: set[tuple[str, ...]] = set()
        for rule in rules:
            for name in rule.names:
                *before, last = (part.lower() for part in name.split("/"))
                self._parents |= {tuple(before[:end]) for end in range(1, len(before) + 1)}
                if "*" in last:
                    self._patterns.append((re.compile(fnmatch.translate(last)), tuple(before), rule))
                else:
                    self._by_name.setdefault(last, []).append((tuple(before), rule))

    def at(self, parts: Sequence[str]) -> FileRule | None:
        """The rule whose name is the end of a path."""
        *above, last = map(canonical, parts[-3:])
        for before, rule in self._by_name.get(last, ()):
            if not before or tuple(above[-len(before) :]) == before:
                return rule
        for pattern, before, rule in self._patterns:
            if pattern.match(last) and (not before or tuple(above[-len(before) :]) == before):
                return rule
        return None

    def within(self, path: str, above: Sequence[str] = ()) -> tuple[str, FileRule] | None:
        """The first rule on the way to a path, and the path up to its name.

        `above`: the folders that the path is in; a name of several parts may begin in the last two.
        """
        parts = path.split("/")
        for end in range(1, len(parts) + 1):
            if (rule := self.at([*above[-2:], *parts[:end]])) is not None:
                return "/".join(parts[:end]), rule
        return None

    def begun_by(self, path: str, above: Sequence[str] = ()) -> str:
        """The part of a longer name that a path ends with; empty if no rule goes on below it."""
        parts = [canonical(part) for part in [*above[-1:], *path.split("/")][-2:]]
        return next(("/".join(end) for end in (parts, parts[-1:]) if tuple(end) in self._parents), "")


executes = FileRules(EXECUTES)
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
    if not allowed or names[-1] in map(canonical, OURS):
        return False
    wanted = ([canonical(part) for part in name.strip("/").split("/")] for name in allowed)
    return any(names[-len(one) :] == one for one in wanted)


def hidden_at(path: str) -> FileRule | None:
    """The rule on the way to an absolute path, of version control or of `CREDENTIALS`."""
    found = _closed.within(path.strip("/"))
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
