"""Writes the parts of README.md and docs/*.md that say what the code says: python docs/generate.py [--check]

A part is between `<!-- generated: NAME -->` and `<!-- end -->`; the pages of docs/commands/ are made whole.
With `--check`, nothing is written and the exit code is 1 if a part differs from the code; the tests run it
that way.
"""

import ast
import dataclasses
import difflib
import inspect
import itertools
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from command_pages import FOLDER, command_links, command_pages
from pydantic import BaseModel

from orchestrator_cli import (
    errors,
    event_settings,
    mcp_settings,
    model_settings,
    notify_settings,
    process_settings,
    prompts,
    settings,
    trust_rules,
)
from orchestrator_cli.cli.app import app
from orchestrator_cli.cli.chat import repl
from orchestrator_cli.events import KINDS
from orchestrator_cli.models.default_models import FAMILIES
from orchestrator_cli.plan import Subtask
from orchestrator_cli.roles import load_roles
from orchestrator_cli.tools.executed_files import EXECUTES, FOLLOWED
from orchestrator_cli.tools.file_names import FileRule
from orchestrator_cli.tools.file_rules import CREDENTIALS, HIDDEN
from toolsmith.sandbox.spec import Limits

ROOT = Path(__file__).parents[1]
PACKAGES = ("orchestrator_cli", "memory", "toolsmith")
COLUMN, WIDTH = 38, 88
PART = re.compile(r"(<!-- generated: ([a-z -]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    parts = {name: function() for name, function in PARTS.items()}
    pages = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    wanted: dict[Path, str] = dict.fromkeys(FOLDER.glob("*.md"), "")
    for path in pages:
        old = path.read_text(encoding="utf-8")
        wanted[path] = PART.sub(lambda match: f"{match[1]}{parts[match[2]]}\n{match[3]}", old)
    wanted |= command_pages(pages)
    stale = [path for path, new in wanted.items() if new != _text(path)]
    for path in stale:
        if "--check" in sys.argv:
            both = _lines(_text(path), wanted[path])
            sys.stdout.writelines(difflib.unified_diff(*both, path.name, "what the code says"))
        elif wanted[path]:
            path.parent.mkdir(exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
    return int("--check" in sys.argv and bool(stale))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _lines(old: str, new: str) -> tuple[list[str], list[str]]:
    return old.splitlines(keepends=True), new.splitlines(keepends=True)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# --- settings


def settings_table() -> str:
    return table(("setting", "flag", "default", "what it is", "a workspace"), _settings(settings.Settings))


def _settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str, str, str]]:
    said, flags = field_docs(model), _flags()
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from _settings(nested, f"{name}.")
            continue
        about = said.get(name) or OTHERWISE[f"{prefix}{name}"]
        if isinstance(field.validation_alias, str):
            about += f" Set by `{field.validation_alias}` in the environment."
        rule = trust_rules.rule_of(settings.Settings, prefix.partition(".")[0] or name).value
        yield f"`{prefix}{name}`", flags.get(f"{prefix}{name}", ""), _default(name, field), about, rule


OTHERWISE = {f"models.{role}": f"The model of the {role}." for role in model_settings.ROLES} | {
    "memory.api_key": "The key of that server."
}
"""Descriptions of settings that have no docstring in the source."""


def _default(name: str, field: Any) -> str:
    if field.default_factory is dict:
        return "none"
    if field.default_factory is not None:
        return "the platform's data folder"
    if name == "workspace":
        return "the current folder"
    if isinstance(field.default, tuple):
        return ", ".join(map(str, field.default)) or "none"
    return "none" if field.default is None else str(field.default)


def _flags() -> dict[str, str]:
    import typer.main

    orch: Any = typer.main.get_command(app)
    orch.load("ask")
    parameters = orch.commands["ask"].params
    return {p.name or "": f"`{p.opts[-1]}`" for p in parameters if p.opts[0].startswith("-")}


def field_docs(cls: type) -> dict[str, str]:
    """The docstrings under the fields of a class, each as one line."""
    tree = ast.parse(inspect.getsource(cls))
    body = tree.body[0].body  # type: ignore[attr-defined]
    found = {}
    for field, after in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr):
            found[ast.unparse(field.target)] = " ".join(ast.literal_eval(after.value).split())
    return found


# --- the rest


def folder_table() -> str:
    rows = [(name, case, *outcome) for name, case, outcome in trust_rules.folder_table(settings.Settings)]
    return table(
        ("what the folder brings", "case", "at a terminal", "without one", "without one, with `-y`"), rows
    )


def modules() -> str:
    return "\n".join(["```", *_modules(), "```"])


def _modules() -> Iterator[str]:
    for package in PACKAGES:
        folders = [path.parent for path in (ROOT / package).rglob("__init__.py")]
        for folder in sorted(folders):
            about = first_sentence(folder / "__init__.py")
            yield f"{folder.relative_to(ROOT).as_posix() + '/':<{COLUMN}}{about}".rstrip()
            for path in sorted(folder.glob("*.py")):
                if path.name != "__init__.py":
                    yield f"  {path.name:<{COLUMN - 2}}{first_sentence(path)}"


def first_sentence(path: Path) -> str:
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = re.split(r"(?<=[.]) ", " ".join(said.split("\n\n")[0].split()))[0].rstrip(".:")
    # A long sentence usually says before its colon what the module is.
    head = re.split(r"[:;] ", sentence)[0]
    if len(sentence) <= WIDTH or len(head) < WIDTH // 3:
        return textwrap.shorten(sentence, WIDTH, placeholder=" …")
    return textwrap.shorten(head, WIDTH, placeholder=" …")


def help_text() -> str:
    command = [Path(sys.executable).with_name("orch"), "--help"]
    env = os.environ | {"COLUMNS": "80", "NO_COLOR": "1"}
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    return f"```\n$ orch --help\n{said.strip()}\n```"


def slash_commands() -> str:
    own = [(f"`{command.usage}`", f"{command.help}") for command in repl.COMMANDS]
    others = [
        (f"`/{name} …`", f"{what}; [as on the command line](commands/{name}.md)")
        for name, what in repl.OF_THE_COMMAND_LINE.items()
    ]
    return table(("type", "to"), [*own, *others])


def exit_codes() -> str:
    rows = [("0", "done", "")]
    found = sorted(_tree(errors.OrchError), key=lambda cls: cls.exit_code)
    for code in sorted({cls.exit_code for cls in found}):
        names = ", ".join(f"`{cls.__name__}`" for cls in found if cls.exit_code == code)
        rows.append((str(code), MEANINGS[code], names))
    return table(("exit code", "means", "error"), rows)


MEANINGS = {
    1: "the run failed",
    2: "the command line, the prompt or the workspace is wrong",
    3: "the configuration is wrong: no model, a broken file, no sandbox; or the disk is full or read-only",
    4: "the model's provider failed",
    5: "a limit was reached",
    6: "an approval is missing",
    7: "the answer does not fit the schema of `--schema`",
    124: "the run took longer than it may",
    130: "interrupted",
}


def _tree(cls: type[errors.OrchError]) -> Iterator[type[errors.OrchError]]:
    yield cls
    for below in cls.__subclasses__():
        yield from _tree(below)


def limits() -> str:
    said = field_docs(Limits)
    rows = [(f"`{f.name}`", str(f.default), said[f.name]) for f in dataclasses.fields(Limits)]
    return table(("limit", "default", "how it is kept"), rows)


def roles() -> str:
    found = load_roles(ROOT / "nowhere").values()
    return table(("role", "agent", "when it is chosen"), [(f"`{r.name}`", r.agent, r.when) for r in found])


def keys() -> str:
    families = FAMILIES.items()
    return table(("variable", "model"), [(f"`{key}`", f"`{f.provider}/{f.pattern}`") for key, f in families])


def subtask_fields() -> str:
    fields = Subtask.model_fields
    rows = [
        (f"`{row.name}`", _plain(fields[row.name]), row.about)
        for row in prompts.subtask_fields(processes=True, attachments=True)
    ]
    assert {row.name for row in prompts.subtask_fields(processes=True, attachments=True)} == fields.keys()
    return table(("field", "default", "what the planner is told"), rows)


def process_fields() -> str:
    return _fields(process_settings.Process)


def mcp_fields() -> str:
    return _fields(mcp_settings.McpServer)


def notify_fields() -> str:
    return _fields(notify_settings.NotifySettings)


def hook_fields() -> str:
    return _fields(event_settings.Hook)


def otel_fields() -> str:
    return _fields(event_settings.OtelSettings)


def kinds() -> str:
    return ", ".join(f"`{name}`" for name in sorted(KINDS))


def _fields(model: type[BaseModel]) -> str:
    said, fields = field_docs(model), model.model_fields.items()
    return table(("field", "default", "what it is"), [(f"`{n}`", _plain(f), said[n]) for n, f in fields])


def _plain(field: Any) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if value is None or value == () or value == {} or value == "":
        return "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return {False: "no", True: "yes"}[value] if isinstance(value, bool) else f"`{value}`"


def protected() -> str:
    return _rules("hidden", (*HIDDEN, *CREDENTIALS))


def executes() -> str:
    return _rules("asked about", EXECUTES)


def _rules(what: str, rules: Iterable[FileRule]) -> str:
    rows = ((", ".join(f"`{n}`" for n in rule.names), f"{rule.why}{_only(rule)}") for rule in rules)
    return table((what, "because"), rows)


def followed() -> str:
    rows = (
        (
            ", ".join(f"`{name}`" for name in rule.names),
            rule.why,
            f"only {keys}" if (keys := _keys(rule)) else "",
        )
        for rule in FOLLOWED
    )
    return table(("what names a script", "so that", "what of it"), rows)


def _keys(rule: FileRule) -> str:
    """The keys, of which those that are names of tools are not listed."""
    tools = "*.*scripts."
    listed = [key for key in rule.keys.split() if not key.endswith("@") and not key.startswith(tools)]
    programs = ["scripts with the name of a known program"] if tools in rule.keys else []
    return ", ".join([f"`{key}`" for key in listed] + programs)


def _only(rule: FileRule) -> str:
    """In which cases a rule holds."""
    if rule.only == "hosts":
        beside = ", ".join(f"`{name}`" for name in rule.beside.split())
        return (
            f" (if it or one of {beside} was there before the run, and it names a site or folder that it did "
            "not name; of a new one, the usual registries do not count)"
        )
    beside = "".join(f", `{name}`" for name in rule.beside.split())
    subject = f"one of them{beside}" if beside or len(rule.names) > 1 else "it"
    keys = _keys(rule)
    addresses = " or an address in its dependencies" if "@" in rule.keys else ""
    if rule.harmless:
        harmless = ", ".join(f"`{key}`" for key in rule.harmless.split())
        which = f"any key but {harmless}" + (f", or of these {keys}{addresses}" if keys else "")
    else:
        which = f"{keys}{addresses}"
    changed = f"if {which} changes, and " if which else ""
    where = ", in its folder or one above" if rule.only == "project" else ""
    there = f"{changed}if {subject} was there before the run{where}" if rule.only else ""
    gains = f"if it gains lines with {rule.lines_are}" if rule.lines else ""
    case = ", and ".join(filter(None, (gains, there)))
    return f" ({case})" if case else ""


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "folder table": folder_table,
    "modules": modules,
    "help": help_text,
    "command pages": command_links,
    "slash commands": slash_commands,
    "exit codes": exit_codes,
    "limits": limits,
    "roles": roles,
    "keys": keys,
    "protected": protected,
    "executes": executes,
    "followed": followed,
    "subtask fields": subtask_fields,
    "process fields": process_fields,
    "mcp fields": mcp_fields,
    "notify fields": notify_fields,
    "hook fields": hook_fields,
    "otel fields": otel_fields,
    "kinds": kinds,
}

if __name__ == "__main__":
    sys.exit(main())
