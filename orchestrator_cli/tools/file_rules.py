"""Which files of a folder a run never sees, and which it may change only if a person agrees. Pure.

`HIDDEN` and `CREDENTIALS` are neither shown to a run nor committed. `EXECUTES` is what the host or another
program executes or obeys later: a run may read it, and the rule `executes` asks before a commit changes it.

Not covered: what a program obeys under names of its own.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

from orchestrator_cli.tools.file_names import FileRule, FileRules, canonical

OURS = FileRule(
    "fileLog.md orch.toml .config/orch .local/share/orch",
    "`orch` itself writes and trusts them",
)
"""What the user cannot allow."""

VERSION_CONTROL = FileRule(
    ".git git~1 .hg .svn .bzr .jj",
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

PROGRAMS = "you are used to running the programs in it"
INSTALLED = FileRule(".venv venv .virtualenv virtualenv node_modules __pypackages__", PROGRAMS)
"""Folders of installed programs. What they lead to by links is often the user's own source."""
_PYTHON = "*.py src test tests requirements*.txt pyproject.toml setup.cfg tox.ini"

EXECUTES = (
    FileRule(
        ".vscode *.code-workspace *.sublime-project .idea .fleet .zed .vs .devcontainer .devcontainer.json "
        ".gitpod.yml .idx .exrc _exrc .nvim.lua .nvimrc .lvimrc .vim .vimrc _vimrc .gvimrc _gvimrc "
        ".config/nvim .helix .config/helix .kakrc .config/kak .config/Code* .emacs .emacs.d .dir-locals*.el "
        ".ycm_extra_conf.py .bsp .metals .project.vim .lvim .spacemacs .doom.d .config/emacs .config/doom "
        ".config/zed .config/sublime-text",
        "editors load it and run its tasks when they open the folder",
    ),
    FileRule(
        ".claude .cursor .cursorrules .codex .gemini .qwen .windsurf .windsurfrules .clinerules .roo "
        ".roorules* .roomodes .kilocode .kilocodemodes .continue .aider* .kiro .junie .opencode .agents "
        ".amazonq .trae .augment .openhands .goosehints .rules crush.json .crush.json opencode.json* "
        ".config/opencode .mcp.json mcp.json AGENTS.md AGENTS.override.md AGENT.md CLAUDE.md "
        "CLAUDE.local.md GEMINI.md QWEN.md WARP.md SKILL.md .github/copilot-instructions.md "
        ".github/copilot-setup-steps.yml .github/instructions .github/prompts .github/agents "
        ".github/chatmodes .github/skills .github/hooks",
        "other agents obey it",
    ),
    FileRule(
        ".husky .huskyrc* .githooks .git-hooks lefthook.y*ml lefthook.json* lefthook.toml lefthook-local.* "
        ".lefthook* .pre-commit-config.y*ml .pre-commit-hooks.yaml .overcommit.yml .lintstagedrc* "
        "lint-staged.config.* .simple-git-hooks.* simple-git-hooks.*",
        "its commands run when someone commits",
    ),
    FileRule(
        ".gitattributes .gitmodules .gitconfig .config/git .lfsconfig",
        "git obeys it, and may run programs for it",
    ),
    FileRule(
        ".bashrc .bashrc.d .bash_profile .bash_login .bash_logout .bash_aliases .bash_completion .profile "
        ".zshrc .zshenv .zprofile .zlogin .zlogout .kshrc .cshrc .tcshrc .inputrc .xprofile .xsession "
        ".xsessionrc .xinitrc .forward .config/fish .config/autostart .config/systemd .config/environment.d "
        ".config/sway .config/i3 .config/hypr .config/direnv .config/plasma-workspace .config/openbox "
        ".config/awesome .config/bspwm .config/zsh .config/nushell .config/powershell .oh-my-zsh .zplug "
        ".zinit .pam_environment .rhosts .shosts .cargo/bin .local/bin .local/lib/python* "
        ".local/share/applications .local/share/systemd .local/share/dbus-1 .tmux.conf .config/tmux "
        ".screenrc .direnvrc .mise* mise.toml mise.*.toml .config/mise* .tool-versions",
        "shells and desktops run it",
    ),
    FileRule(
        ".login .logout",
        "the C shell runs it",
        only="existing",
        beside=".cshrc .tcshrc .bashrc .profile .zshrc",
    ),
    FileRule(
        "prefect.toml conftest.py pytest.ini .pytest.ini pytest.toml .pytest.toml tox.toml uv.toml "
        "sitecustomize* usercustomize* site-packages/*.pth dist-packages/*.pth *.pyc *.pyo .pdbrc .ipython "
        ".jupyter .pythonrc* .gdbinit .gdbearlyinit .config/gdb .lldbinit .curlrc .wgetrc .yarnrc* .pnp.cjs "
        ".pnp.loader.mjs .pnpmfile.* bunfig.toml .cargo/config .cargo/config.toml rust-toolchain* .mvn "
        ".bazelrc tools/bazel .rspec .proverc .latexmkrc latexmkrc .Rprofile .RData .octaverc .irbrc .pryrc "
        ".iex.exs .formatter.exs .ocamlinit .ghci .psqlrc .sqliterc ansible.cfg .bundle .condarc "
        ".juliarc.jl .julia/config .config/uv gunicorn.conf.py .direnv *.dist-info entry_points.txt",
        "programs load it by themselves",
    ),
    FileRule(
        ".github/workflows .github/actions .gitlab-ci.yml .gitlab/ci .circleci .travis.yml appveyor.yml "
        ".appveyor.yml .cirrus.* .semaphore .build.yml .builds cloudbuild.y*ml buildspec.y*ml Jenkinsfile "
        "azure-pipelines* .azure-pipelines .drone.* bitbucket-pipelines.yml .buildkite .readthedocs.y*ml "
        ".forgejo/workflows .gitea/workflows .woodpecker*",
        "build servers run it, with their secrets",
    ),
    FileRule("action.yml action.yaml", "build servers run it, with their secrets", only="existing"),
    FileRule(
        "package.json",
        "package managers and hooks run its commands, and install what it names",
        only="keys",
        keys="scripts husky lint-staged simple-git-hooks gitHooks pre-commit pre-push packageManager "
        "dependencies@ devDependencies@ optionalDependencies@ peerDependencies@ overrides@ "
        "resolutions@ pnpm@ prettier.plugins babel eslintConfig jest mocha ava nyc stylelint postcss "
        "commitlint",
    ),
    FileRule("binding.gyp", "npm builds it when it installs", only="existing", beside="package.json"),
    FileRule(
        "pyproject.toml",
        "installers, test runners and task runners execute parts of it",
        only="keys",
        beside=_PYTHON,
        keys="build-system tool.pytest tool.tox tool.hatch tool.pdm tool.poe tool.taskipy tool.uv "
        "tool.poetry.build* tool.poetry.requires-plugins tool.poetry.source tool.setuptools.cmdclass "
        "tool.mypy.plugins tool.mypy.python_executable tool.pylint*.load-plugins tool.pylint*.init-hook "
        "tool.coverage.run.plugins project.entry-points project.dependencies@ "
        "project.optional-dependencies@ dependency-groups@ tool.poetry.*dependencies@ tool.poetry.plugins",
    ),
    FileRule(
        "requirements*.txt constraints*.txt requirements*.in requirements/*.txt",
        "installers fetch and build what it names",
        only="project",
        beside=_PYTHON,
        lines=r"\s*[-.]|(?!\s*#)((?!\s#).)*[@/\\$]|\s*\S+\.(whl|zip|tgz|tar)\b",
        lines_are="options, files, folders or sites",
    ),
    FileRule(
        "Cargo.toml",
        "cargo builds and runs what it names",
        only="keys",
        keys="package.build lib.proc-macro lib.proc_macro patch replace dependencies@ build-dependencies@ "
        "dev-dependencies@ target.*dependencies@ workspace.dependencies@",
    ),
    FileRule(
        "pip.py pip/__init__.py pytest.py pytest/__init__.py _pytest setuptools.py wheel.py uv.py tox.py "
        "nox.py mypy.py ruff.py black.py flake8.py pylint.py coverage.py isort.py virtualenv.py ipykernel.py",
        "`python -m` runs it instead of the tool",
        only="project",
        beside=_PYTHON,
    ),
    FileRule(
        "setup.cfg tox.ini .flake8 mypy.ini .mypy.ini .pylintrc pylintrc .coveragerc",
        "test runners and linters execute parts of it",
        only="keys",
        beside=_PYTHON,
        keys="pytest tool:pytest tox tox:* testenv* aliases DEFAULT flake8:local-plugins *.plugins "
        "*.load-plugins *.init-hook *.python_executable",
    ),
    FileRule(
        "composer.json",
        "composer runs its commands, and installs what it names",
        only="keys",
        keys="scripts repositories config.allow-plugins config.vendor-dir config.bin-dir",
    ),
    FileRule("Gemfile gems.rb *.gemspec", "bundler runs it", only="existing"),
    FileRule(
        "package-lock.json npm-shrinkwrap.json yarn.lock pnpm-lock.yaml bun.lock deno.lock uv.lock "
        "poetry.lock pdm.lock pylock*.toml Pipfile Pipfile.lock "
        "Cargo.lock composer.lock Gemfile.lock flake.lock mix.lock pubspec.lock",
        "what it names is fetched from there and run",
        only="hosts",
        beside="package.json deno.json* pyproject.toml setup.py setup.cfg requirements*.txt Cargo.toml "
        "composer.json Gemfile flake.nix mix.exs pubspec.yaml",
    ),
    FileRule(
        ".*rc .*rc.json .*rc.json5 .*rc.y*ml .*rc.toml .*rc.js .*rc.cjs .*rc.mjs .*rc.ts .*rc.py *.config.js "
        "*.config.cjs *.config.mjs *.config.ts *.config.mts *.config.cts",
        "a tool loads it, with the plugins that it names",
        only="project",
        beside="package.json deno.json* pyproject.toml setup.py Cargo.toml go.mod Gemfile composer.json .git",
    ),
    FileRule(
        "setup.py",
        "installers run it",
        only="existing",
        beside="pyproject.toml setup.cfg requirements*.txt",
    ),
    FileRule("build.rs", "cargo runs it", only="existing", beside="Cargo.toml"),
    FileRule("Makefile GNUmakefile BSDmakefile", "you are used to running it", only="existing"),
    FileRule("*.mk", "make runs it", only="project", beside="Makefile GNUmakefile BSDmakefile"),
    FileRule("CMakeLists.txt CMakePresets.json", "you are used to running it", only="existing"),
    FileRule(
        "compose.override.y*ml docker-compose.override.y*ml",
        "it changes what your containers run",
        only="existing",
        beside="compose.y*ml docker-compose.y*ml",
    ),
    FileRule("pnpm-workspace.yaml", "pnpm obeys it", only="project", beside="package.json"),
    FileRule(
        "Directory.Build.* Directory.Packages.props nuget.config",
        "builds load it",
        only="project",
        beside="*.csproj *.fsproj *.vbproj *.sln *.slnx global.json",
    ),
    FileRule("justfile .justfile", "you are used to running it", only="existing"),
    FileRule("Taskfile.y*ml Taskfile.dist.y*ml", "you are used to running it", only="existing"),
    FileRule("Rakefile Rakefile.rb", "you are used to running it", only="existing"),
    FileRule("noxfile.py", "you are used to running it", only="existing"),
    FileRule("gradlew* gradle/wrapper", "you are used to running it", only="existing"),
    FileRule("mvnw*", "you are used to running it", only="existing"),
    INSTALLED,
    FileRule("pyvenv.cfg conda-meta", "it makes a folder one of Python and its programs"),
    FileRule(
        ".python-version .python-versions",
        "tools run the Python that it names",
        lines=r".*[/\\]",
        lines_are="a path",
    ),
    FileRule(".yarn/releases .yarn/plugins", "yarn runs it", only="existing"),
)

GIT_FOLDER = FileRule("", "it is a git repository by another name: git runs what its settings name")
"""For a folder that git takes for its own whatever its name, see `is_git_folder`."""

executes = FileRules(EXECUTES)
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


HOME_FOLDERS = dict.fromkeys(("", *sorted(executes.folders | _hidden.folders)))
"""What rules are about, as paths in a home folder, and that itself."""
_SHOWN_AT_HOME = FileRules(
    (FileRule(".*ignore .editorconfig", "harmless"), *(rule for rule in EXECUTES if rule.only != "project"))
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
