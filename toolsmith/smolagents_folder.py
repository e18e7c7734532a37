"""A built tool as the folder in which smolagents shares tools, for programs that have no `orch`.

    FOLDER/count_words/tool.py            the module as it was proved, and beneath it a Tool that calls it
                      /app.py             a page to try it on, as smolagents' own `save` writes it
                      /requirements.txt   what has to be installed
                      /README.md          where it comes from, what proved it, and how it is loaded

smolagents loads such a module by executing it: `Tool.from_code` without a question, `load_tool` from the
Hub only with `trust_remote_code=True`. **There it runs with all the rights of its user**, and no longer in
the sandbox; the README of the folder says so. Errors come out as the module raises them.

Not covered: sharing such a tool further from smolagents (`save`, `push_to_hub`), which takes only classes
whose methods hold everything themselves; upload the folder instead. A network or a secret that the tool was
granted here is nobody's to grant there: it has the network, and reads secrets from the environment.
"""

import ast
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from pprint import pformat

from toolsmith.built import BuiltTool
from toolsmith.errors import LibraryError
from toolsmith.permissions import asked_for
from toolsmith.sandboxed import describe, smolagents_inputs
from toolsmith.spec import Input, ToolSpec
from toolsmith.syntax import parse_module

_PYTHON = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "array": "list",
    "object": "dict",
    "any": "object",
    "null": "None",
}
_WIDTH = 100
_FINDABLE = """

import sys as _sys
import types as _types

# dataclasses look the module up that they stand in, and smolagents loads this one under no name.
_sys.modules.setdefault(__name__, _types.ModuleType(__name__))
"""


def export(tool: BuiltTool, folder: Path) -> Path:
    """Write the tool into a folder of its name below `folder`: whole, or not at all.

    Raises:
        LibraryError: something is there already, or it cannot be written.
    """
    place = folder / tool.name
    taken = f"{place} is there already.\nMove it away, or name another folder."
    scratch = folder / f".{tool.name}-{secrets.token_hex(4)}"
    try:
        if os.path.lexists(place):
            raise LibraryError(taken)
        scratch.mkdir(parents=True)
        for name, text in files(tool).items():
            (scratch / name).write_text(text, encoding="utf-8", newline="")
        scratch.rename(place)
    except OSError as exc:
        if os.path.lexists(place):
            raise LibraryError(taken) from exc
        raise LibraryError(f"{place} cannot be written: {exc.strerror}.\nName another folder.") from exc
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return place


def files(tool: BuiltTool) -> dict[str, str]:
    """What the folder holds: text by name. Pure."""
    class_name = _unused(_class_name(tool.name), _names(tool.source))
    return {
        "tool.py": module(tool),
        "app.py": (
            "from smolagents import launch_gradio_demo\n"
            f"from tool import {class_name}\n\n"
            f"tool = {class_name}()\nlaunch_gradio_demo(tool)\n"
        ),
        "requirements.txt": "\n".join(_requirements(tool.spec)) + "\n",
        "README.md": _readme(tool),
    }


def module(tool: BuiltTool) -> str:
    """The tool's module with a subclass of smolagents' Tool at its end. Pure."""
    spec, taken = tool.spec, _names(tool.source)
    base = _unused("Tool", taken)
    imported = "Tool" if base == "Tool" else f"Tool as {base}"
    lines = [
        _adapted(tool.source).rstrip(),
        "",
        "",
        f"from smolagents import {imported}  # noqa: E402",
        "",
        "",
        f"class {_unused(_class_name(tool.name), taken)}({base}):",
        f"    name = {tool.name!r}",
        f"    description = {_literal(describe(spec))}",
        f"    inputs = {_literal(smolagents_inputs(spec))}",
        f"    output_type = {spec.output_type!r}",
        "",
        f"    def forward({', '.join(['self', *_parameters(spec)])}) -> {_PYTHON[spec.output_type]}:",
        *_body(spec),
    ]
    return "\n".join(lines) + "\n"


def _literal(value: object) -> str:
    """A value as Python, in lines that can be read."""
    told = pformat(value, width=_WIDTH, sort_dicts=False)
    told = f"({told})" if isinstance(value, str) and "\n" in told and not told.startswith("(") else told
    return told.replace("\n", "\n    ")


def _parameters(spec: ToolSpec) -> Iterator[str]:
    # smolagents gives all by name; what a call needs comes first because Python wants it so.
    for name, given in sorted(spec.inputs.items(), key=lambda item: not item[1].required):
        yield f"{name}: {_annotation(given)}" + ("" if given.required else f" = {given.default!r}")


def _annotation(given: Input) -> str:
    plain = _PYTHON[given.type]
    return plain if given.required or plain in ("object", "None") else f"{plain} | None"


def _body(spec: ToolSpec) -> Iterator[str]:
    for name, given in spec.inputs.items():
        if given.default is not None and not given.nullable:
            # An agent may write null for whatever it could leave out.
            yield f"        if {name} is None:"
            yield f"            {name} = {given.default!r}"
    yield f"        return {spec.name}({', '.join(f'{name}={name}' for name in spec.inputs)})"


def _adapted(source: str) -> str:
    """The module without `@tool`, which smolagents can only apply to what stands in a file of its own."""
    tree, _ = parse_module(source)
    drop = {
        decorator.lineno
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Name) and decorator.id == "tool"
    }
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    drop |= {
        node.lineno
        for node in imports
        if node.module == "smolagents" and [alias.name for alias in node.names] == ["tool"]
    }
    future = [node.end_lineno for node in imports if node.module == "__future__"]
    # Lines as Python counts them, which knows fewer ends of a line than `splitlines`.
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    kept = (
        f"{line}{_FINDABLE}" if future and number == future[-1] else line
        for number, line in enumerate(lines, 1)
        if number not in drop
    )
    return "\n".join(kept)


def _names(source: str) -> set[str]:
    """Every name that the module uses for anything."""
    tree, _ = parse_module(source)
    found = {getattr(node, "id", "") or getattr(node, "name", "") or "" for node in ast.walk(tree)}
    aliases = (node for node in ast.walk(tree) if isinstance(node, ast.alias))
    return found | {(alias.asname or alias.name).partition(".")[0] for alias in aliases}


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_")) + "Tool"


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name = f"Exported{name}"
    return name


def _requirements(spec: ToolSpec) -> list[str]:
    return ["smolagents", *spec.packages]


def _readme(tool: BuiltTool) -> str:
    spec = tool.spec
    reach = {
        "none": "touches no files",
        "read": "reads files below the current folder",
        "write": "reads and changes files below the current folder",
    }[spec.workspace]
    asked = asked_for(spec)
    rows = [
        f"# {tool.name}",
        "",
        spec.purpose,
        "",
        f"`{spec.signature}`",
        "",
        f"Version {tool.version}, built and proved by orch: it passed all {len(tool.trial.results)} of its "
        "cases in a sandbox. The module without the class at its end has the SHA-256",
        f"`{tool.sha256}`.",
        "",
        "## Use",
        "",
        "```python",
        "from pathlib import Path",
        "",
        "from smolagents import Tool",
        "",
        f'{tool.name} = Tool.from_code(Path("tool.py").read_text(encoding="utf-8"))',
        "```",
        "",
        "Uploaded to the Hugging Face Hub as a Space, "
        f'`load_tool("you/{tool.name}", trust_remote_code=True)` loads it from there.',
        "",
        "**To load it is to run it, with all your rights and outside of any sandbox: read `tool.py` first.** "
        f"By its specification it {reach}" + (f", and has {asked}." if asked else ", without network."),
    ]
    return "\n".join(rows) + "\n"
