"""Repairs slips in a plan without asking its author again, and reports each repair. Pure.

A repair never chooses between two meanings. It corrects the spelling of names to those of the plan or the
catalogue, renames what nothing refers to, and adds the dependency that a reference implies, which can only
delay a subtask. `reshaped` does the same for the shape of a reply: an object within another one, null for a
field that is left out, a list given as a text, a word in another case.

The rest is left for `validation.faults`, because a guess could change the plan's meaning: a dependency on an
unknown subtask or on itself (without it the subtask might start too early), a name that fits two, an id that
two subtasks share and others refer to, an unknown role, and an implied dependency that would close a circle.
"""

import ast
import keyword
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import JsonValue
from pydantic.fields import FieldInfo

from orchestrator_cli.durable.expressions import FUNCTION_NAMES, ExpressionFailed, names_in
from orchestrator_cli.plan import (
    ID,
    RESERVED,
    Catalogue,
    FrozenModel,
    Patch,
    Plan,
    Subtask,
    as_name,
    texts,
)
from orchestrator_cli.planning.reference_forms import as_reference, letters_of, with_texts
from toolsmith.names import OF_EVERY_AGENT

ID_CHARS = 40
A_REFERENCE = re.compile(r"\$(.{1,200}?)(\.(?:value|summary|files)(?:\.[A-Za-z0-9_-]++)*+)\Z", re.DOTALL)
"""As `plan.REFERENCE`, with any text for the id."""


class Repair(FrozenModel):
    """One repair: the subtask by its final id, the field, and what was done."""

    subtask: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.subtask}.{self.field}: {self.message}"


Rule = Callable[[Plan, Catalogue], tuple[Plan, list[Repair]]]


def repaired(plan: Plan, catalogue: Catalogue) -> tuple[Plan, tuple[Repair, ...]]:
    """The repaired plan and its repairs; without repairs the plan is unchanged.

    The result can still have faults. Repairing it again changes nothing.
    """
    repairs: list[Repair] = []
    # Spelling comes first: only then is it known which ids are referred to, and which subtasks are the same.
    for rule in (_forms, _spelled, _tools, _roles, _said_once, _unique, _implied):
        plan, found = rule(plan, catalogue)
        repairs += found
    return plan, tuple(repairs)


# --- the shape of the reply

_SUBTASKS = ("subtasks", "add", "replace")


def reshaped(rows: Mapping[str, Any], mark: str) -> tuple[dict[str, Any], tuple[Repair, ...]]:
    """The object of a reply in the shape that was asked for, and the repairs; faults are left as they are.

    `mark` is the key by which an object that is nested in another is known: `subtasks` or `decision`.
    """
    repairs: list[Repair] = []
    nested = [key for key, value in rows.items() if isinstance(value, dict) and mark in value]
    if mark not in rows and len(nested) == 1:
        rows = {key: value for key, value in rows.items() if key != nested[0]} | rows[nested[0]]
        repairs.append(Repair(subtask="plan", field=mark, message=f"was within {nested[0]!r}"))
    # A patch has the fields of a plan, and they have the same types.
    made = _reshaped_fields(rows, {**Plan.model_fields, **Patch.model_fields}, "plan", repairs)
    for key in _SUBTASKS:
        if isinstance(made.get(key), list):
            made[key] = [
                _reshaped_fields(row, Subtask.model_fields, str(row.get("id") or f"{key}[{n}]"), repairs)
                if isinstance(row, dict)
                else row
                for n, row in enumerate(made[key])
            ]
    return made, tuple(repairs)


def _reshaped_fields(
    row: Mapping[str, Any], fields: Mapping[str, FieldInfo], name: str, repairs: list[Repair]
) -> dict[str, Any]:
    made = dict(row)
    for key, value in row.items():
        if key not in fields and key != "decision":
            continue
        field = fields.get(key)
        meant = _in_shape(value, field)
        if meant != value or type(meant) is not type(value):
            made[key] = meant
            was = "null" if value is None else repr(value[:60])
            repairs.append(Repair(subtask=name, field=key, message=f"was {was}"))
    return made


def _in_shape(value: Any, field: FieldInfo | None) -> Any:
    """The value as the field has it: a default for null, a list for a text, a word in its own spelling."""
    annotation: Any = field.annotation if field is not None else Literal["patch", "keep", "stop"]
    if value is None and field is not None and type(None) not in get_args(annotation):
        return value if field.is_required() else field.get_default(call_default_factory=True)
    if not isinstance(value, str):
        return value
    if get_origin(annotation) is tuple and get_args(annotation)[0] is str:
        return [part.strip() for part in value.split(",") if part.strip()]
    if get_origin(annotation) is Literal and value.strip().lower() in get_args(annotation):
        return value.strip().lower()
    return value


# --- the form of references


def _forms(plan: Plan, _: Catalogue) -> tuple[Plan, list[Repair]]:
    """Write references as references, such as `{{a.value}}` and `$a.result`."""
    rows, repairs = [], []
    for subtask in plan.subtasks:
        each = subtask.for_each is not None
        written: dict[str, str] = {}

        def right(text: str, each: bool = each, written: dict[str, str] = written) -> str:
            found = as_reference(text, plan.ids, each=each)
            return written.setdefault(text, found) if found else text

        inputs = with_texts(subtask.inputs, right)
        for_each = subtask.for_each and right(subtask.for_each)
        rows.append(_changed(subtask, inputs=inputs, for_each=for_each) if written else subtask)
        repairs += [_repair(subtask, "inputs", f"{old!r} is {new!r}") for old, new in written.items()]
    return _with(plan, rows), repairs


# --- ids


def _said_once(plan: Plan, _: Catalogue) -> tuple[Plan, list[Repair]]:
    """Remove exact duplicates of a subtask."""
    kept: list[Subtask] = []
    known: dict[str, list[Subtask]] = {}
    repairs = []
    for subtask in plan.subtasks:
        if subtask in known.setdefault(subtask.id, []):
            repairs.append(_repair(subtask, "id", "was given twice, word for word; it is done once"))
        else:
            known[subtask.id].append(subtask)
            kept.append(subtask)
    return _with(plan, kept), repairs


def _spelled(plan: Plan, _: Catalogue) -> tuple[Plan, list[Repair]]:
    """Make ids valid, and correct references to them if only one id fits."""
    slugs = _slugs([s.id for s in plan.subtasks])
    repairs = [
        Repair(
            subtask=new,
            field="id",
            message=f"was {old!r}, which is {'reserved' if old in RESERVED else 'no id'}",
        )
        for old, new in slugs.items()
        if old != new
    ]
    letters = _by_unique(slugs, letters_of)
    valid = {*slugs.values(), *map(as_name, slugs.values()), *FUNCTION_NAMES}
    known = valid - (slugs.keys() - slugs.values())
    rows = []
    for subtask in plan.subtasks:
        own = _changed(subtask, id=slugs[subtask.id])
        meant = _meant(_named(subtask) - known, slugs, letters)
        rows.append(_renamed(own, meant))
        if rows[-1] != own:
            said = ", ".join(f"{name!r} is {found!r}" for name, found in meant.items())
            repairs.append(_repair(own, "depends_on", f"in what it refers to, {said}"))
    made = _with(plan, rows)
    if plan.check and (meant := _meant(_names_read(plan.check) - known, slugs, letters)):
        check = _reworded(plan.check, {as_name(old): as_name(new) for old, new in meant.items()})
        repairs += [Repair(subtask="plan", field="check", message=f"reads {check}")] * (check != plan.check)
        made = made.model_copy(update={"check": check})
    return made, repairs


def _meant(unknown: Iterable[str], slugs: Mapping[str, str], letters: Mapping[str, str]) -> dict[str, str]:
    """The misspelled names, each with the id it means."""
    found = {}
    for name in sorted(unknown):
        old = name if name in slugs else letters.get(letters_of(name))
        if old is not None and slugs[old] != name:
            found[name] = slugs[old]
    return found


def _slugs(names: Iterable[str]) -> dict[str, str]:
    """A valid id for each name; most are valid already."""
    slugs = {name: name for name in names if ID.match(name) and name not in RESERVED}
    taken = set(slugs)
    for name in names:
        if name not in slugs:
            slugs[name] = _free(_slug(name), taken)
            taken.add(slugs[name])
    return slugs


def _unique(plan: Plan, _: Catalogue) -> tuple[Plan, list[Repair]]:
    """Rename the later ones of subtasks that share an id, if nothing refers to it."""
    counts = Counter(s.id for s in plan.subtasks)
    named = set[str]().union(_names_read(plan.check), *(_named(s) for s in plan.subtasks))
    free = {name for name, n in counts.items() if n > 1 and not named & {name, as_name(name)}}
    seen: set[str] = set()
    rows, repairs = [], []
    for subtask in plan.subtasks:
        name = subtask.id
        if name in free and name in seen:
            own = _changed(subtask, id=_free(name, counts.keys() | seen))
            repairs.append(_repair(own, "id", f"was {name!r}, as another's, and nothing refers to either"))
        else:
            own = subtask
        seen.add(own.id)
        rows.append(own)
    return _with(plan, rows), repairs


def _slug(name: str) -> str:
    slug = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-_")
    return (slug if slug[:1].isalpha() else f"s-{slug}".rstrip("-"))[:ID_CHARS]


def _free(name: str, taken: Collection[str]) -> str:
    """The name, with the first free number after it if it is taken."""
    number, free = 2, name
    while free in taken or free in RESERVED:
        free = f"{name[: ID_CHARS - len(str(number)) - 1]}-{number}"
        number += 1
    return free


# --- names of tools and roles


def _tools(plan: Plan, catalogue: Catalogue) -> tuple[Plan, list[Repair]]:
    """Correct the names of tools to existing or announced ones, and make them valid function names."""
    known = _by_unique(catalogue.tools, letters_of)
    ours = [tool.name for tool in plan.new_tools if tool.name in OF_EVERY_AGENT]
    plan = plan.model_copy(
        update={"new_tools": tuple(tool for tool in plan.new_tools if tool.name not in ours)}
    )
    announced = {
        tool.name: known.get(letters_of(tool.name)) or _as_function(tool.name) for tool in plan.new_tools
    }
    new = _by_unique(set(announced.values()), letters_of)
    rows, repairs = [], []
    for name in ours:
        repairs.append(Repair(subtask="plan", field="new_tools", message=f"every agent has {name!r}"))
    for subtask in plan.subtasks:
        given = [name for name in subtask.tools if subtask.kind == "agent" and name in OF_EVERY_AGENT]
        if given:
            repairs.append(_repair(subtask, "tools", f"every agent has {', '.join(map(repr, given))}"))
            rest = tuple(name for name in subtask.tools if name not in given)
            subtask = _changed(subtask, tools=rest)  # noqa: PLW2901
        tools = tuple(
            name
            if name in catalogue.tools
            else known.get(letters_of(name))
            or announced.get(name)
            or new.get(letters_of(name))
            or _as_function(name)
            for name in subtask.tools
        )
        for name, meant in zip(subtask.tools, tools, strict=True):
            if name != meant:
                repairs.append(_repair(subtask, "tools", f"{name!r} is {meant!r}"))
        rows.append(_changed(subtask, tools=tools) if tools != subtask.tools else subtask)
    for old, meant in announced.items():
        if old != meant:
            repairs.append(Repair(subtask="plan", field="new_tools", message=f"{old!r} is {meant!r}"))
    tools_made = tuple(tool.model_copy(update={"name": announced[tool.name]}) for tool in plan.new_tools)
    return _with(plan, rows).model_copy(update={"new_tools": tools_made}), repairs


def _as_function(name: str) -> str:
    """The name as a valid function name; unchanged if that is impossible."""
    made = name if name.isidentifier() else re.sub(r"\W+", "_", name).strip("_").lower()
    return made if made.isidentifier() and not keyword.iskeyword(made) else name


def _roles(plan: Plan, catalogue: Catalogue) -> tuple[Plan, list[Repair]]:
    known = _by_unique(catalogue.roles, letters_of)
    rows, repairs = [], []
    for subtask in plan.subtasks:
        role = subtask.role
        meant = known.get(letters_of(role)) if role and role not in catalogue.roles else None
        rows.append(_changed(subtask, role=meant) if meant else subtask)
        if meant:
            repairs.append(_repair(subtask, "role", f"{role!r} is {meant!r}"))
    return _with(plan, rows), repairs


# --- edges


def _implied(plan: Plan, _: Catalogue) -> tuple[Plan, list[Repair]]:
    """Add dependencies on the subtasks whose results are read."""
    before = {s.id: set(s.depends_on) for s in plan.subtasks}
    if len(before) < len(plan.subtasks):
        return plan, []  # with duplicate ids it is unclear which one is read
    as_read = _by_unique(before, as_name)
    rows, repairs = [], []
    for subtask in plan.subtasks:
        # A condition reads direct dependencies only; inputs also indirect ones.
        conditions = [as_read[n] for n in sorted(_names_read(subtask.when)) if n in as_read]
        wanted = [n for n in conditions if n not in subtask.depends_on]
        read = [n for n in _referred(subtask) if n in before and n not in subtask.depends_on]
        if read:
            above = _above(subtask.id, before)
            wanted += [n for n in read if n not in above]
        added = []
        for name in dict.fromkeys(wanted):
            if name != subtask.id and subtask.id not in _above(name, before):
                before[subtask.id].add(name)
                added.append(name)
                repairs.append(_repair(subtask, "depends_on", f"{name!r} was added: its result is read"))
        rows.append(_changed(subtask, depends_on=(*subtask.depends_on, *added)) if added else subtask)
    return _with(plan, rows), repairs


def _above(subtask: str, before: Mapping[str, Collection[str]]) -> set[str]:
    """Everything that a subtask depends on, directly or not; in a circle, the subtask too."""
    found: set[str] = set()
    frontier = set(before.get(subtask, ()))
    while frontier:
        found |= frontier
        frontier = {name for known in frontier for name in before.get(known, ())} - found
    return found


# --- what a subtask refers to


def _named(subtask: Subtask) -> set[str]:
    """All names of other subtasks in a subtask, as spelled there."""
    return {*subtask.depends_on, *_referred(subtask), *_names_read(subtask.when)}


def _referred(subtask: Subtask) -> list[str]:
    """The ids in the references of a subtask, in order."""
    found_in = [*texts(subtask.inputs), *([subtask.for_each] if subtask.for_each else ())]
    found = [match[1] for text in found_in if (match := A_REFERENCE.match(text))]
    return [name for name in found if not (subtask.for_each and name.split(".")[0] in RESERVED)]


def _names_read(expression: str | None) -> frozenset[str]:
    """The names that an expression reads; none if it is malformed."""
    try:
        return names_in(expression) if expression else frozenset()
    except ExpressionFailed:
        return frozenset()


def _renamed(subtask: Subtask, names: Mapping[str, str]) -> Subtask:
    """The subtask with its references renamed."""
    inputs = _replaced(subtask.inputs, names)
    in_when = {as_name(old): as_name(new) for old, new in names.items()}
    changed = {
        "depends_on": tuple(names.get(name, name) for name in subtask.depends_on),
        "inputs": inputs,
        "for_each": subtask.for_each and _replaced(subtask.for_each, names),
        "when": subtask.when and _reworded(subtask.when, in_when),
    }
    return _changed(subtask, **changed)


def _replaced(value: JsonValue, names: Mapping[str, str]) -> JsonValue:
    def renamed(text: str) -> str:
        match = A_REFERENCE.match(text)
        return f"${names[match[1]]}{match[2]}" if match and match[1] in names else text

    return with_texts(value, renamed)


def _reworded(expression: str, names: Mapping[str, str]) -> str:
    """The expression with these names replaced."""
    if not _names_read(expression) & names.keys():
        return expression

    class Rename(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.Name:
            return ast.Name(id=names.get(node.id, node.id), ctx=node.ctx)

    try:
        return ast.unparse(Rename().visit(ast.parse(expression.strip(), mode="eval")))
    except RecursionError:
        return expression


# --- spelling


def _by_unique(names: Iterable[str], form: Callable[[str], str]) -> dict[str, str]:
    """The names by their normalised form, without those that share one."""
    counts = Counter(map(form, names))
    return {form(name): name for name in names if counts[form(name)] == 1}


def _with(plan: Plan, subtasks: Iterable[Subtask]) -> Plan:
    rows = tuple(subtasks)
    return plan if rows == plan.subtasks else plan.model_copy(update={"subtasks": rows})


def _changed(subtask: Subtask, **fields: object) -> Subtask:
    return subtask.model_copy(update=fields)


def _repair(subtask: Subtask, field: str, message: str) -> Repair:
    return Repair(subtask=subtask.id, field=field, message=message)
