"""Built tools for smolagents: as a Tool whose code runs in a sandbox, and as a folder to give away.

Whoever calls the object, be it a ToolCallingAgent, a subtask that is one call or an agent's code, the call
goes through `executor.call_tool`: next to an agent's code the tool would have what that code has. What the
tool raises comes out as the executor's SandboxError, which begins with `Type: message`; an executor that runs
an agent's code in a sandbox sees `own_sandbox`, and the code gets an error of the same built-in type.

The folder is the layout in which smolagents shares tools, for programs without `orch`:

    FOLDER/count_words/tool.py            the module as it was proved, and below it a Tool that calls it
                      /app.py             a page to try it on, as smolagents' own `save` writes it
                      /requirements.txt   what has to be installed
                      /README.md          where it comes from, what proved it, and how to load it

smolagents loads such a module by executing it: `Tool.from_code` without a question, `load_tool` from the Hub
only with `trust_remote_code=True`. **There it runs with all the rights of its user**, outside the sandbox;
the folder's README says so. Errors come out as the module raises them.

Not covered: smolagents' own export (`to_dict`, `save`, `push_to_hub`), which needs classes whose methods
contain everything themselves; upload the folder instead. In the folder a tool has the user's network, and
reads secrets from the environment.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from pprint import pformat
from typing import Any, NoReturn, Protocol

from smolagents import Tool

from orchestrator_cli.durable.foreign import as_data
from orchestrator_cli.durable.python_text import parse_module
from toolsmith.built import BuiltTool
from toolsmith.errors import ToolsmithError
from toolsmith.folders import write_new_folder
from toolsmith.spec import ToolSpec, requested_grants

_FILES = {"read": "Reads files of the workspace.", "write": "Reads and changes files of the workspace."}


class Executor(Protocol):
    """What runs a call, such as `toolsmith.sandbox.executor.SandboxExecutor`."""

    def call_tool(self, source: str, function: str, arguments: dict[str, Any]) -> Any:
        """Run `function` of the module `source` with named arguments, away from this process."""


class SandboxedTool(Tool):  # type: ignore[misc]  # smolagents has no types
    """A Tool whose calls run in a sandbox. It does not own the executor: who made that one ends it."""

    own_sandbox = True
    # The parameters are known from the specification only, so `forward` takes any and binds them itself.
    skip_forward_signature_validation = True

    def __init__(self, tool: BuiltTool, executor: Executor) -> None:
        spec = tool.spec
        self.name = spec.name
        self.description = describe(spec)
        self.inputs = smolagents_inputs(spec)
        self.output_type = spec.output_type
        self.built = tool
        self._executor = executor
        super().__init__()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the tool with arguments by place or by name.

        Raises:
            TypeError: an argument is unknown or lacking. Types are left to the tool and its own errors.
            SandboxError: the tool raised, or its sandbox ended it.
        """
        spec = self.built.spec
        arguments = _bound(spec, args, kwargs)
        if faults := spec.argument_faults(arguments, typed=False):
            raise TypeError(f"{spec.signature} cannot be called so: {'; '.join(faults)}")
        return self._executor.call_tool(self.built.source, self.name, arguments)

    def to_dict(self) -> NoReturn:
        """Refuse: what smolagents makes of this would need `orch` and its sandbox to be loaded."""
        raise ToolsmithError(
            f"The tool '{self.name}' runs in the sandbox only and is not exported from here.\n"
            f"Write it as a folder that smolagents loads: orch tools export --smolagents {self.name} FOLDER"
        )


def describe(spec: ToolSpec) -> str:
    """What an agent needs to call a tool: purpose, signature, result, errors, grants; as data."""
    errors = [f"Raises {error.type} when {error.when.rstrip('.')}." for error in spec.errors]
    files = [_FILES[spec.workspace]] if spec.workspace in _FILES else []
    given = [f"It alone has {asked}." for asked in [requested_grants(spec)] if asked]
    notes = [*errors, *files, *given]
    parts = [spec.purpose, f"Call: {spec.signature}", f"Returns: {spec.output_description}", *notes]
    return as_data("\n".join(parts))


def smolagents_inputs(spec: ToolSpec) -> dict[str, dict[str, Any]]:
    """The inputs in smolagents' form, in which `nullable` means that the argument may be left out."""
    return {
        name: {"type": given.type, "description": as_data(given.description)}
        | ({} if given.required else {"nullable": True})
        for name, given in spec.inputs.items()
    }


def _bound(spec: ToolSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    if len(args) > len(spec.inputs):
        raise TypeError(f"{spec.signature} takes {len(spec.inputs)} arguments, not {len(args)}")
    by_place = dict(zip(spec.inputs, args, strict=False))
    if twice := sorted(by_place.keys() & kwargs.keys()):
        raise TypeError(f"{spec.signature} got {', '.join(twice)} by place and by name")
    # smolagents lets a model give null for whatever may be left out; with a default it means left out.
    optional = {n for n, given in spec.inputs.items() if given.default is not None and not given.nullable}
    given = by_place | dict(kwargs)
    return {name: value for name, value in given.items() if value is not None or name not in optional}


# --- the folder


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


def export_folder(tool: BuiltTool, folder: Path) -> Path:
    """Write the tool into a folder of its name below `folder`: whole, or not at all.

    Raises:
        LibraryError: something is there already, or it cannot be written.
    """
    return write_new_folder(folder / tool.name, files(tool))


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
        "requirements.txt": "\n".join(["smolagents", *tool.spec.packages]) + "\n",
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
    text = pformat(value, width=_WIDTH, sort_dicts=False)
    text = f"({text})" if isinstance(value, str) and "\n" in text and not text.startswith("(") else text
    return text.replace("\n", "\n    ")


def _parameters(spec: ToolSpec) -> Iterator[str]:
    # smolagents gives all by name; what a call needs comes first because Python wants it so.
    for name, given in sorted(spec.inputs.items(), key=lambda item: not item[1].required):
        annotation = _PYTHON[given.type]
        if given.required:
            yield f"{name}: {annotation}"
        else:
            optional = "" if annotation in ("object", "None") else " | None"
            yield f"{name}: {annotation}{optional} = {given.default!r}"


def _body(spec: ToolSpec) -> Iterator[str]:
    for name, given in spec.inputs.items():
        if given.default is not None and not given.nullable:
            # An agent may write null for whatever it could leave out.
            yield f"        if {name} is None:"
            yield f"            {name} = {given.default!r}"
    yield f"        return {spec.name}({', '.join(f'{name}={name}' for name in spec.inputs)})"


def _adapted(source: str) -> str:
    """The module without `@tool`, which smolagents can apply only in a file of its own."""
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


def _readme(tool: BuiltTool) -> str:
    spec, asked = tool.spec, requested_grants(tool.spec)
    reach = {
        "none": "touches no files",
        "read": "reads files below the current folder",
        "write": "reads and changes files below the current folder",
    }[spec.workspace]
    return f"""# {tool.name}

{as_data(spec.purpose)}

`{spec.signature}`

Version {tool.version}, built and proved by orch: it passed all {len(tool.trial.results)} of its cases in a
sandbox. The module without the class at its end has the SHA-256
`{tool.sha256}`.

## Use

```python
from pathlib import Path

from smolagents import Tool

{tool.name} = Tool.from_code(Path("tool.py").read_text(encoding="utf-8"))
```

Uploaded to the Hugging Face Hub as a Space,
`load_tool("you/{tool.name}", trust_remote_code=True)` loads it from there.

**To load it is to run it, with all your rights and outside of any sandbox: read `tool.py` first.**
By its specification it {reach}{f", and has {asked}" if asked else ", without network"}.
"""
