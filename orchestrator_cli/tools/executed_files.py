"""Tables of the files that the host or another program executes or obeys later. Data, for `file_rules`.

Not covered: what a program obeys under names of its own.
"""

import sys

from orchestrator_cli.tools.file_names import FileRule

PROGRAMS = "you are used to running the programs in it"
INSTALLED = FileRule(".venv venv .virtualenv virtualenv node_modules __pypackages__", PROGRAMS)
"""Folders of installed programs. What they lead to by links is often the user's own source."""
_PYTHON = "*.py src test tests requirements*.txt pyproject.toml setup.cfg tox.ini"
_PROJECT = (
    "*.cabal stack.yaml lakefile.lean pom.xml build.gradle* settings.gradle* mix.exs build.sbt *.csproj "
    "*.fsproj *.vbproj *.sln *.slnx Package.swift pubspec.yaml package.json pyproject.toml setup.py "
    "setup.cfg requirements*.txt Gemfile composer.json dune-project deps.edn project.clj Cargo.toml go.mod "
    ".git"
)
_TOOLS = (
    "python python3 pip pip3 pytest py.test tox nox mypy ruff black flake8 pylint coverage isort uv uvx "
    "poetry pdm hatch pipx twine pyright pre-commit virtualenv ipython jupyter sphinx-build mkdocs gunicorn "
    "uvicorn celery flask django-admin alembic ansible aws az gcloud git gh ls cat cp mv rm sh bash zsh make "
    "cmake node npm npx cargo go docker kubectl helm ssh sudo curl wget grep sed find env which"
)
"""Names of programs, which a script of a project would replace."""

LOGINS = FileRule(
    ".pi .grok .amp .ampcode .sourcegraph .copilot .rovodev .devin .warp .kilo .zencoder .openclaw .hermes "
    ".firebender .tabnine .qodo .cody .lingma .serena .forge .cline .mcp .antigravity .droid .crush",
    "other agents obey it",
)
"""Folders of agents that in a home folder hold their logins."""

EXECUTES = (
    FileRule(
        ".vscode *.code-workspace *.sublime-project .idea .fleet .zed .vs .devcontainer .devcontainer.json "
        ".gitpod.yml .idx .exrc _exrc .nvim.lua .nvimrc .lvimrc .vim .vimrc _vimrc .gvimrc _gvimrc "
        ".config/nvim .helix .config/helix .kakrc .config/kak .config/Code* .emacs .emacs.d .dir-locals*.el "
        ".ycm_extra_conf.py .bsp .metals .project.vim .lvim .spacemacs .doom.d .config/emacs .config/doom "
        ".config/zed .config/sublime-text .lsp .externalToolBuilders omnisharp.json .merlin .lazy.lua .nova "
        ".lapce .c9 devfile.yaml .devfile.yaml",
        "editors load it and run its tasks when they open the folder",
    ),
    FileRule(
        ".claude .cursor .cursorrules .codex .gemini .qwen .windsurf .windsurfrules .clinerules .roo "
        ".roorules* .roomodes .kilocode .kilocodemodes .continue .aider* .kiro .junie .opencode .agents "
        ".amazonq .trae .augment .openhands .goosehints .rules crush.json .crush.json opencode.json* "
        ".config/opencode .mcp.json mcp.json AGENTS.md AGENTS.override.md AGENT.md CLAUDE.md "
        "CLAUDE.local.md GEMINI.md QWEN.md WARP.md SKILL.md .github/copilot-instructions.md "
        ".github/copilot-setup-steps.yml .github/instructions .github/prompts .github/agents "
        ".github/chatmodes .github/skills .github/hooks .agent .factory .iflow IFLOW.md .codebuddy "
        "CODEBUDDY.md .aiassistant .claude-plugin .vibe .codesandbox .replit replit.md CRUSH.md "
        "CRUSH.local.md GROK.md firebender.json .github/copilot .specify .goose .gptme gptme.toml .plandex "
        ".ruler .jules JULES.md",
        "other agents obey it",
    ),
    LOGINS,
    FileRule(
        ".husky .huskyrc* .githooks .git-hooks lefthook.y*ml lefthook.json* lefthook.toml lefthook-local.* "
        ".lefthook* .pre-commit-config.y*ml .pre-commit-hooks.yaml .overcommit.yml .lintstagedrc* "
        "lint-staged.config.* .simple-git-hooks.* simple-git-hooks.* prek.toml .gitlint captainhook.json "
        ".cargo-husky .rusty-hook.toml hk.pkl grumphp.y*ml grumphp.dist.y*ml grumphp.y*ml.dist",
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
        ".screenrc .direnvrc .mise* mise.toml mise.*.toml .config/mise* .tool-versions "
        "mise/config.toml .autoenv* .flox .shadowenv.d .rtx.toml .rvmrc .tmuxinator.* .tmuxp.*",
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
        ".juliarc.jl .julia/config .config/uv gunicorn.conf.py .direnv *.dist-info entry_points.txt "
        ".jvmopts .sbtopts jupyter_config.* jupyter_*_config.* supervisord.conf .credo.exs matplotlibrc "
        "ipython_config.py ipython_*_config.py startup.m config.nims nim.cfg *.nim.cfg "
        "features/environment.py .erlang .chef Saltfile",
        "programs load it by themselves",
    ),
    FileRule(
        "prefect.yaml invoke.y*ml invoke.json",
        "prefect and invoke load it by themselves, and run what it names",
        only="project",
        beside=_PYTHON,
    ),
    FileRule(
        ".bazelversion",
        "bazelisk fetches and runs the Bazel that it names",
        lines=r".*[/\\]",
        lines_are="a fork or a path",
    ),
    FileRule(
        "user.clj profiles.clj",
        "programs load it by themselves",
        only="project",
        beside="deps.edn project.clj shadow-cljs.edn build.boot",
    ),
    FileRule("scrapy.cfg", "scrapy imports the settings that it names", only="project", beside=_PYTHON),
    FileRule("renv/activate.R", "R runs it when it starts", only="project", beside=".Rprofile renv.lock"),
    FileRule(
        ".github/workflows .github/actions .gitlab-ci.yml .gitlab/ci .circleci .travis.yml appveyor.yml "
        ".appveyor.yml .cirrus.* .semaphore .build.yml .builds cloudbuild.y*ml buildspec.y*ml Jenkinsfile "
        "azure-pipelines* .azure-pipelines .drone.* bitbucket-pipelines.yml .buildkite .readthedocs.y*ml "
        ".forgejo/workflows .gitea/workflows .woodpecker*",
        "build servers run it, with their secrets",
    ),
    FileRule(
        "netlify.toml vercel.json wrangler.toml wrangler.json* render.yaml amplify.yml heroku.yml "
        "railway.toml railway.json bitrise.yml codemagic.yaml wercker.yml screwdriver.yaml renovate.json* "
        ".github/renovate.json* .github/dependabot.y*ml",
        "build servers run it, with their secrets",
        only="project",
        beside=".git",
    ),
    FileRule("action.yml action.yaml", "build servers run it, with their secrets", only="existing"),
    FileRule(
        "package.json",
        "package managers and hooks run its commands, and install what it names",
        only="keys",
        keys="dependencies@ devDependencies@ optionalDependencies@ peerDependencies@ overrides@ "
        "resolutions@ prettier.plugins",
        harmless="name version description keywords homepage bugs license author contributors maintainers "
        "funding files main module browser types typings typesVersions exports imports type private "
        "sideEffects engines os cpu libc repository publishConfig man directories bin browserslist "
        "prettier.* eslintIgnore *ependencies *ependenciesMeta overrides resolutions unpkg jsdelivr source "
        "style displayName publisher icon categories contributes activationEvents",
        members="name bin directories.bin",
    ),
    FileRule("binding.gyp", "npm builds it when it installs", only="project", beside="package.json"),
    FileRule(
        "pyproject.toml",
        "installers, test runners and task runners execute parts of it",
        only="keys",
        beside=_PYTHON,
        keys="tool.pylint*.load-plugins tool.pylint*.init-hook tool.mypy.plugins tool.mypy.python_executable "
        "tool.coverage.run.plugins project.entry-points project.dependencies@ "
        "project.optional-dependencies@ dependency-groups@ tool.poetry.*dependencies@ "
        + " ".join(f"*.*scripts.{tool}" for tool in _TOOLS.split()),
        harmless="project dependency-groups tool.ruff tool.black tool.isort tool.mypy tool.pyright "
        "tool.basedpyright tool.ty tool.pyrefly tool.pylint tool.coverage tool.bandit tool.codespell "
        "tool.typos tool.interrogate tool.vulture tool.pydocstyle tool.docformatter tool.autopep8 tool.yapf "
        "tool.djlint tool.deptry tool.towncrier tool.setuptools.packages tool.setuptools.package-d* "
        "tool.setuptools.py-modules tool.setuptools.*-package-data tool.setuptools.zip-safe "
        "tool.setuptools.license-files tool.setuptools.dynamic.*.file tool.poetry.name tool.poetry.version "
        "tool.poetry.description tool.poetry.authors tool.poetry.maintainers tool.poetry.readme "
        "tool.poetry.license tool.poetry.homepage tool.poetry.repository tool.poetry.documentation "
        "tool.poetry.keywords tool.poetry.classifiers tool.poetry.packages tool.poetry.include "
        "tool.poetry.exclude tool.poetry.urls tool.poetry.extras tool.poetry.package-mode tool.poetry.group "
        "tool.poetry.scripts tool.poetry.*dependencies",
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
        keys="package.build package.workspace lib.proc-macro lib.proc_macro dependencies@ "
        "build-dependencies@ dev-dependencies@ target.*dependencies@ workspace.dependencies@",
        harmless="package lib bin example test bench features *dependencies target profile lints badges "
        "workspace.package workspace.lints workspace.resolver workspace.metadata",
    ),
    FileRule(
        "pip.py pip/__init__.py pytest.py pytest/__init__.py _pytest setuptools.py wheel.py uv.py tox.py "
        "nox.py mypy.py ruff.py black.py flake8.py pylint.py coverage.py isort.py virtualenv.py ipykernel.py",
        "`python -m` runs it instead of the tool",
        only="project",
        beside=_PYTHON,
    ),
    FileRule(
        "setup.cfg tox.ini",
        "installers and test runners execute parts of it",
        only="keys",
        beside=_PYTHON,
        keys="flake8:local-plugins *.plugins *.load-plugins *.init-hook *.python_executable "
        "options.cmdclass options.setup_requires options.entry_points.*.* options.entry_points.*[0-9]",
        harmless="metadata options options.pack* options.data_files options.extras_require "
        "options.entry_points flake8 pycodestyle pep8 "
        "pydocstyle isort yapf mypy mypy-* coverage:* bdist_wheel egg_info sdist upload_docs",
        values=rf"\battr\s*:|^\s*({'|'.join(_TOOLS.split())})\s*=",
    ),
    FileRule(
        ".flake8 mypy.ini .mypy.ini .pylintrc pylintrc .coveragerc",
        "test runners and linters execute parts of it",
        only="keys",
        beside=_PYTHON,
        keys="DEFAULT flake8:local-plugins *.plugins *.load-plugins *.init-hook *.python_executable",
    ),
    FileRule(
        "composer.json",
        "composer runs its commands, and installs what it names",
        only="keys",
        harmless="name description version type keywords homepage license authors support funding readme "
        "time require require-dev conflict replace provide suggest minimum-stability prefer-stable autoload "
        "autoload-dev archive config.sort-packages config.optimize-autoloader config.platform "
        "config.preferred-install",
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
        "*.config.cjs *.config.mjs *.config.ts *.config.mts *.config.cts *.conf.js *.conf.cjs *.conf.mjs "
        "*.conf.ts babel.config.json jest.config.json cspell.config.json cspell.json nodemon.json "
        "tslint.json angular.json truffle-config.js pnpmfile.js typedoc.json",
        "a tool loads it, with the plugins that it names",
        only="project",
        beside="package.json deno.json* pyproject.toml setup.py Cargo.toml go.mod Gemfile composer.json .git",
    ),
    FileRule(
        "setup.py",
        "installers run it",
        only="project",
        beside="pyproject.toml setup.cfg requirements*.txt",
    ),
    FileRule("build.rs", "cargo runs it", only="project", beside="Cargo.toml"),
    FileRule(
        "Setup.hs Setup.lhs *.cabal stack.yaml package.yaml",
        "cabal runs it, or what it names",
        only="project",
        beside="*.cabal stack.yaml cabal.project",
    ),
    FileRule(
        "hatch.toml poetry.toml pdm.toml pixi.toml",
        "installers and shells run what it names",
        only="project",
        beside="pyproject.toml",
    ),
    FileRule(
        "override.tf *_override.tf override.tf.json *_override.tf.json docker-bake.override.*",
        "it changes what your tools for it do",
        only="project",
        beside="*.tf *.tf.json docker-bake.*",
    ),
    FileRule("zuul.y*ml zuul.d", "build servers run it, with their secrets", only="project", beside=".git"),
    FileRule("Makefile GNUmakefile BSDmakefile", "you are used to running it", only="existing"),
    FileRule("*.mk", "make runs it", only="project", beside="Makefile GNUmakefile BSDmakefile"),
    FileRule("CMakeLists.txt CMakePresets.json", "you are used to running it", only="existing"),
    FileRule(
        "compose.override.y*ml docker-compose.override.y*ml",
        "it changes what your containers run",
        only="existing",
        beside="compose.y*ml docker-compose.y*ml",
    ),
    FileRule(
        "package.json5",
        "pnpm runs its commands",
        only="project",
        beside="pnpm-lock.yaml pnpm-workspace.yaml",
    ),
    FileRule(
        "deno.json deno.jsonc",
        "deno and editors run its tasks and plugins",
        only="keys",
        beside="package.json .git",
        keys="imports@ scopes@",
        harmless="name version license exports publish compilerOptions fmt test bench include exclude "
        "lint.rules lint.include lint.exclude unstable nodeModulesDir vendor lock imports scopes",
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
    FileRule(
        "hie.yaml lean-toolchain lakefile.lean lakefile.toml .factorypath .project .classpath build.gradle "
        "build.gradle.kts settings.gradle settings.gradle.kts mix.exs build.sbt project/*.sbt "
        "project/*.scala build.mill* build.sc sgconfig.y*ml Steepfile *.csproj "
        "*.fsproj *.vbproj *.csproj.user obj/*.targets obj/*.props Package.swift analysis_options.yaml "
        "nx.json .rubocop.yml .solargraph.yml pylintrc.toml .markdownlint-cli2.* .php-cs-fixer.* "
        "phpstan.neon* .sqlfluff .scalafix.conf dune-project deps.edn project.clj gradle.properties "
        "rust-analyzer.toml rust-project.json cabal.project cabal.project.local rebar.config "
        "rebar.config.script erlang_ls.config build.zig build.zig.zon *.nimble dub.json dub.sdl *.gradle "
        "*.gradle.kts buildSrc dune dune-workspace shadow-cljs.edn bb.edn phpunit.xml* psalm.xml* rector.php "
        "phpcs.xml* dprint.json MODULE.bazel WORKSPACE.bazel pants.toml foundry.toml Assets/Editor",
        "editors and linters run parts of it when they open the project",
        only="project",
        beside=_PROJECT,
    ),
    FileRule(
        "flake.nix shell.nix devenv.nix devenv.yaml devbox.json",
        "direnv and the like run it when a shell enters the folder",
        only="project",
        beside=".envrc .git",
    ),
    FileRule("hatch_build.py pdm_build.py", "installers run it", only="existing", beside="pyproject.toml"),
    *(
        FileRule(names, "you are used to running it", only="existing")
        for names in (
            *("pom.xml", "build.xml", "meson.build", "SConstruct", "Dockerfile Containerfile", "Vagrantfile"),
            *("compose.y*ml docker-compose.y*ml", "gulpfile.*", "Gruntfile.*", "dodo.py", "fabfile.py"),
            *("docs/conf.py doc/conf.py", "mkdocs.y*ml", "book.toml", "dvc.yaml", "pavement.py"),
            *(
                "Procfile",
                "Tiltfile",
                "skaffold.yaml",
                "Snakefile",
                "Earthfile",
                "cdk.json",
                "serverless.y*ml",
            ),
            *("Podfile", "Dangerfile", "Guardfile", "Capfile", "fastlane/Fastfile", "versioneer.py"),
            *("Thorfile", "Brewfile", "cpanfile", "Makefile.PL", "Build.PL", "wscript", "Makefile.toml"),
            *("default.nix", "Pulumi.y*ml", "helmfile.y*ml", "terragrunt.hcl", "_targets.R", "magefile.go"),
            *("dbt_project.yml", "castor.php", "RoboFile.php", "devspace.yaml", "build.clj", "Trunk.toml"),
        )
    ),
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

UNKNOWN = FileRule(
    "",
    "programs keep settings under names with a dot, and may run what they say",
    only="project",
    beside=_PROJECT,
)
"""For a name with a dot at its beginning, in a project, of which no other rule knows what it is for."""
HARMLESS = FileRule(
    ".*ignore .gitkeep .keep .editorconfig .nojekyll .mailmap .git-blame-ignore-revs .coverage .coverage.* "
    ".DS_Store .clang-format .yamllint .markdownlint.json .markdownlint.y*ml .node-version .ruby-version "
    ".java-version .go-version .terraform-version .well-known",
    "no program runs what it says",
)

_INSTEAD = "programs of Python import it instead of Python's own module"
OWN_MODULES = sys.stdlib_module_names - {"test", "this", "antigravity", "idlelib", "turtle", "turtledemo"}
"""Modules of Python that tools import, such as `logging`."""
IN_PROJECT = FileRule(
    "",
    _INSTEAD,
    only="existing",
    beside="pyproject.toml setup.py setup.cfg tox.ini requirements*.txt Pipfile manage.py",
)
AT_TOP = FileRule("", _INSTEAD, only="existing", beside=_PYTHON)
"""For a new module with a name of Python's own, in a folder from which tools are run: with such files, or
the workspace."""

MACHINE = FileRule(
    "/etc /boot /var/spool",
    "the machine runs or obeys what is there, for all its users",
)
"""Absolute paths. What is there is run at start, by cron, by each shell and the like."""
MACHINE_PROGRAMS = FileRule(
    "/usr /lib /lib32 /lib64 /bin /sbin",
    "the machine runs the programs there, and you can change them",
)
"""As `MACHINE`, but many harmless links lead there, so only what the user can write to counts."""

FOLLOWED = (
    FileRule(
        ".husky/* .githooks/* .git-hooks/* .huskyrc* lefthook.y*ml lefthook.json* lefthook.toml "
        "lefthook-local.* .lefthook.y*ml .pre-commit-config.y*ml .overcommit.yml .lintstagedrc* "
        "lint-staged.config.* .simple-git-hooks.* simple-git-hooks.* prek.toml captainhook.json "
        ".rusty-hook.toml hk.pkl",
        "it runs when someone commits",
    ),
    FileRule(
        ".vscode/tasks.json .vscode/settings.json .devcontainer.json .devcontainer/* .gitpod.yml .nvim.lua "
        ".exrc .nvimrc .dir-locals.el",
        "it runs when an editor opens the folder",
    ),
    FileRule(
        ".claude/settings*.json .mcp.json mcp.json .cursor/hooks.json .gemini/settings.json "
        ".codex/config.toml .codex/hooks.json .qwen/settings.json .kiro/hooks/* opencode.json* crush.json "
        ".crush.json .github/hooks/*",
        "another agent runs it",
    ),
    FileRule(
        ".envrc mise.toml .mise.toml mise.*.toml .bashrc .bash_profile .profile .zshrc "
        ".zshenv .zprofile .tmux.conf",
        "it runs in your shell",
    ),
    FileRule(
        "package.json",
        "it runs on an installation or a commit",
        keys="scripts.preinstall scripts.install scripts.postinstall scripts.prepare scripts.preprepare "
        "scripts.postprepare scripts.prepublish scripts.dependencies husky lint-staged simple-git-hooks "
        "gitHooks pre-commit pre-push",
    ),
    FileRule(
        "composer.json",
        "it runs on an installation",
        keys="scripts.pre-install-cmd scripts.post-install-cmd scripts.pre-update-cmd "
        "scripts.post-update-cmd scripts.pre-autoload-dump scripts.post-autoload-dump",
    ),
    FileRule("Cargo.toml", "cargo builds and runs it", keys="package.build"),
    FileRule(
        "pyproject.toml",
        "it runs on an installation",
        keys="build-system.build-backend build-system.backend-path tool.hatch.build*.hooks.custom.path "
        "tool.hatch.metadata.hooks.custom.path tool.pdm.build.run-setup-script tool.poetry.build* "
        "tool.setuptools.cmdclass",
    ),
)
"""Files that run by themselves what they name, and for which reason; of some only the values of `keys`."""
