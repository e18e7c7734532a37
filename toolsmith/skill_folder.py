"""A built tool as a skill, for agents of other programs and for `orch` itself:

    FOLDER/count-words/SKILL.md           what it does, its arguments, how to run it
                      /scripts/tool.py    the module as it was proved
                      /scripts/run.py     calls it with JSON, and prints its value as JSON

The scripts need Python and the packages that the tool names, and nothing of `orch`. **They run with the
rights of the user who runs them**, outside of the sandbox unless that program has one.
"""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import yaml

from orchestrator_cli.durable.foreign import on_one_line
from orchestrator_cli.durable.text import truncate
from toolsmith.built import BuiltTool
from toolsmith.folders import write_new_folder
from toolsmith.spec import Input, ToolSpec

DESCRIPTION_CHARS = 1_024
"""The most that a description may have, as other programs read it."""
_FILES = {"read": "It reads files of the current folder.", "write": "It changes files of the current folder."}
_RUN = '''"""Call {name} with a JSON object of arguments, given as the argument or on standard input.

Prints the value as JSON. An error goes to standard error, and the exit code is 1.
"""

import json
import sys
import types

# The module asks smolagents for a decorator, without which it works as well.
sys.modules["smolagents"] = types.SimpleNamespace(tool=lambda function: function)

from tool import {name}  # noqa: E402


def main() -> int:
    text = sys.argv[1] if len(sys.argv) > 1 else sys.stdin.read()
    try:
        value = {name}(**json.loads(text))
    except Exception as exc:
        print(f"{{type(exc).__name__}}: {{exc}}", file=sys.stderr)
        return 1
    print(json.dumps(value, ensure_ascii=False))
    return 0


sys.exit(main())
'''


def export_skill(tool: BuiltTool, folder: Path) -> Path:
    """Write the tool into a folder of its name below `folder`. Raises `LibraryError`."""
    return write_new_folder(folder / skill_name(tool.name), skill_files(tool))


def skill_name(name: str) -> str:
    """The name of a tool as skills are named: `count-words`."""
    return "-".join(filter(None, name.lower().split("_")))


def skill_files(tool: BuiltTool) -> dict[str, str]:
    """What the folder holds: text by path. Pure."""
    return {
        "SKILL.md": _page(tool),
        "scripts/tool.py": tool.source,
        "scripts/run.py": _RUN.format(name=tool.name),
    }


def _page(tool: BuiltTool) -> str:
    spec = tool.spec
    purpose = on_one_line(spec.purpose)
    head = {"name": skill_name(tool.name), "description": truncate(purpose, DESCRIPTION_CHARS)}
    front = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=10_000)
    return "\n".join(
        [
            f"---\n{front}---",
            f"# {tool.name}",
            "",
            purpose,
            "",
            "Run the script of this folder with the arguments as one JSON object:",
            "",
            f"    python scripts/run.py {shlex.quote(_example(tool))}",
            "",
            "The object may be on standard input instead. The script prints the value as JSON. An error goes",
            "to standard error, and the exit code is then 1.",
            "",
            "## Arguments",
            "",
            *([_argument(name, given) for name, given in spec.inputs.items()] or ["None."]),
            "",
            "## Value",
            "",
            f"{spec.output_type}: {on_one_line(spec.output_description)}",
            *_notes(spec),
            "",
            "## Origin",
            "",
            f"Built by orch as version {tool.version}, and proved by {len(tool.trial.results)} cases. The "
            f"SHA-256 of scripts/tool.py is {tool.sha256}.",
            "",
        ]
    )


def _argument(name: str, given: Input) -> str:
    if given.default is not None:
        optional = f", default {json.dumps(given.default, ensure_ascii=False)}"
    else:
        optional = "" if given.required else ", may be left out"
    return f"- `{name}` ({given.type}{optional}): {on_one_line(given.description)}"


def _notes(spec: ToolSpec) -> Iterator[str]:
    if spec.errors:
        yield from ("", "## Errors", "")
        yield from (f"- {error.type}: {on_one_line(error.when)}" for error in spec.errors)
    needs = [_FILES[spec.workspace]] if spec.workspace in _FILES else []
    for what, names in (
        ("Packages to install", spec.packages),
        ("Addresses that it reaches", spec.network),
        ("Environment variables that it reads", spec.secrets),
    ):
        needs += [f"{what}: {', '.join(names)}."] if names else []
    if needs:
        yield from ("", "## Needs", "", *(f"- {one}" for one in needs))


def _example(tool: BuiltTool) -> str:
    """The arguments of the shortest case that returns something."""
    cases = [case for case in (*tool.spec.examples, *tool.suite.cases) if case.outcome != "error"]
    texts = [json.dumps(case.arguments, ensure_ascii=False) for case in cases if not case.edge]
    return on_one_line(min(texts, key=len, default=json.dumps(dict.fromkeys(tool.spec.inputs, "…"))))
