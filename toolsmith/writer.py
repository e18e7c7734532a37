"""The calls to the model: need → specification, specification → cases, specification → code.

They are kept apart on purpose. The call that writes the cases sees the specification alone and never code,
so the cases are no echo of it. The call that writes the code sees the specification with its examples whole,
and of the cases the calls: enough to know what it will be given, too little to copy the answers from. When
a trial fails, the failed cases' expected values are shown: then they are the only thing that says what was
misunderstood.

Prompts are Markdown files in `toolsmith/prompts/`, rendered by jinja2, with undefined names as errors.
The same need or specification always gives the same prompt.

Not covered: a model that learns the expected values from failures and answers from a table in a way that
the rules (`toolsmith.proof.checker`) do not see."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

from orchestrator_cli.durable.expressions import FUNCTION_NAMES, METHOD_NAMES
from orchestrator_cli.durable.foreign import escaped, prompt_environment
from toolsmith.errors import ReplyFaulty
from toolsmith.parsing import python_block
from toolsmith.proof.cases import (
    EXAMPLES,
    MAX_CASES,
    MAX_PROPERTIES,
    MEMORY_MB,
    MIN_CASES,
    TIME_S,
    Objection,
    Property,
    Ruling,
    Suite,
)
from toolsmith.proof.schemas import TYPES
from toolsmith.reader import read_objection, read_ruling, read_spec, read_suite
from toolsmith.reuse import extension_faults
from toolsmith.spec import MAX_EXAMPLES, Case, Need, ToolSpec, Workspace

if TYPE_CHECKING:
    from jinja2 import Environment

    from toolsmith.permissions import Installation


class Complete(Protocol):
    """A model: the prompt in, its text out.

    It raises ReplyFaulty for a reply that is cut, refused or empty; what else it raises passes through.
    """

    def __call__(self, prompt: str, schema: dict[str, Any] | None = None, /) -> str:
        """`schema`: the JSON Schema of the object that the reply should be, for models that take one."""


_WORKSPACE: Mapping[Workspace, str] = {
    "none": "the tool touches no file.",
    "read": "the tool may read files and must not change any.",
    "write": "the tool may read, write and delete files.",
}


_OUTCOME = {"edge", "expected", "check", "error", "files_after"}
"""What the writer of the code does not see of a case."""


@dataclass(frozen=True)
class Code:
    """A module, and what its writer says against a case."""

    source: str
    objection: Objection | None = None


def write_spec(
    need: Need,
    complete: Complete,
    faults: Sequence[str] = (),
    *,
    previous: str = "",
    base: ToolSpec | None = None,
) -> ToolSpec:
    """Ask once for the specification of a needed tool; with `faults`, to mend the reply `previous`.

    With `base`, for one that extends `base` without breaking its callers.

    Raises:
        ReplyFaulty: the reply holds none, or one with faults; the error has all of them, and the reply.
    """
    prompt = render(
        "spec.md",
        need=need,
        base=base and base.model_dump(mode="json"),
        faults=faults,
        previous=previous,
        max_examples=MAX_EXAMPLES,
        functions=FUNCTION_NAMES,
        methods=METHOD_NAMES,
    )
    reply = complete(prompt, _schema(ToolSpec))
    spec = read_spec(reply, need)
    if base is not None and (broken := list(extension_faults(base, spec))):
        raise ReplyFaulty(broken, reply)
    return spec


def write_cases(
    spec: ToolSpec,
    complete: Complete,
    faults: Sequence[str] = (),
    *,
    previous: str = "",
    known: Suite | None = None,
    gaps: Sequence[str] = (),
) -> Suite:
    """Ask once for the cases that prove a tool; with `faults`, to mend the reply `previous`.

    With `known`, ask for more of them, that would notice faults such as `gaps`.

    Raises:
        ReplyFaulty: the reply holds none, or some with faults; the error has all of them, and the reply.
    """
    prompt = render(
        "cases.md",
        spec=spec,
        workspace=_WORKSPACE[spec.workspace],
        known=known and known.model_dump(mode="json"),
        gaps=gaps,
        faults=faults,
        previous=previous,
        min_cases=MIN_CASES,
        max_cases=MAX_CASES,
        max_properties=MAX_PROPERTIES,
        examples=[case.model_dump(mode="json") for case in spec.examples],
        tries=EXAMPLES,
        types=TYPES,
        functions=FUNCTION_NAMES,
        methods=METHOD_NAMES,
    )
    return read_suite(complete(prompt, _schema(Suite)), spec, known)


def write_code(
    spec: ToolSpec,
    suite: Suite,
    complete: Complete,
    *,
    previous: str | None = None,
    failures: Sequence[str] = (),
    installed: "Installation | None" = None,
    may_challenge: bool = False,
) -> Code:
    """Ask once for a module that fulfils `spec`; with `failures`, to mend the module `previous`.

    `installed` are its packages. Where it `may_challenge`, it learns that it can speak against a case.

    Raises:
        ReplyFaulty: the reply holds no whole block of Python, or a challenge that cannot be understood.
    """
    prompt = render(
        "code.md",
        spec=spec,
        workspace=_WORKSPACE[spec.workspace],
        examples=[case.model_dump(mode="json") for case in spec.examples],
        calls=[case.model_dump(mode="json", exclude=_OUTCOME) for case in suite.cases],
        previous=(previous or "").rstrip(),
        failures=failures,
        installed=installed,
        may_challenge=may_challenge,
        time_s=f"{TIME_S:g}",
        memory_mb=MEMORY_MB,
    )
    reply = complete(prompt)
    return Code(python_block(reply, spec.name), read_objection(reply) if may_challenge else None)


def write_ruling(
    spec: ToolSpec,
    suite: Suite,
    old: Case | Property,
    objection: Objection,
    complete: Complete,
    faults: Sequence[str] = (),
    *,
    previous: str = "",
) -> Ruling:
    """Ask once for a ruling on a challenged case; with `faults`, to mend the reply `previous`.

    Raises:
        ReplyFaulty: the reply holds none that can be used.
    """
    prompt = render(
        "challenge.md",
        spec=spec,
        workspace=_WORKSPACE[spec.workspace],
        examples=[case.model_dump(mode="json") for case in spec.examples],
        what="case" if isinstance(old, Case) else "property",
        disputed=old.model_dump(mode="json"),
        objection=objection,
        faults=faults,
        previous=previous,
    )
    return read_ruling(complete(prompt, _schema(Ruling)), spec, suite, old)


@cache
def _schema(kind: type[BaseModel]) -> dict[str, Any]:
    return kind.model_json_schema()


def render(name: str, **values: object) -> str:
    """A prompt of this package. Raises jinja2's UndefinedError for a name that is not given."""
    return _environment().get_template(name).render(**values).strip() + "\n"


@cache
def _environment() -> "Environment":
    environment = prompt_environment(
        lambda name: files("toolsmith").joinpath("prompts", name).read_text(encoding="utf-8")
    )
    environment.filters["json"] = lambda value: escaped(
        json.dumps(value, ensure_ascii=False, indent=2, default=str)
    )
    environment.filters["literal"] = repr
    return environment
