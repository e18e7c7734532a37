"""Specifications, cases and rulings read out of a model's reply, or all that is wrong at once. Pure.

Faults go back to the model, and every round costs a call. So the rules between the fields are applied to
whatever parts are sound even when other parts are not, instead of waiting for the next round."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from orchestrator_cli.durable.json_text import in_words_of_json
from toolsmith.errors import ReplyFaulty
from toolsmith.parsing import challenge_object, json_object
from toolsmith.proof.cases import (
    MAX_CASES,
    MAX_PROPERTIES,
    MIN_CASES,
    Objection,
    Property,
    Ruling,
    Suite,
    apply_ruling,
    suite_faults,
)
from toolsmith.spec import (
    MAX_EXAMPLES,
    Case,
    Contract,
    ErrorSpec,
    Input,
    Need,
    Parameter,
    ToolSpec,
    Workspace,
)
from toolsmith.values import TypeName

_T = TypeVar("_T")
_INPUTS = TypeAdapter[dict[str, Input]](dict[Parameter, Input])
_ERRORS = TypeAdapter[tuple[ErrorSpec, ...]](tuple[ErrorSpec, ...])
_CASE = TypeAdapter[Case](Case)
_PROPERTY = TypeAdapter[Property](Property)
_TYPE = TypeAdapter[TypeName](TypeName)
_WORKSPACE = TypeAdapter[Workspace](Workspace)
_SHAPELESS_ERRORS = ("Exception", "RuntimeWarning", "Warning", "UserWarning")


def read_spec(reply: str, need: Need) -> ToolSpec:
    """The specification in a model's reply.

    Raises:
        ReplyFaulty: with every fault of it, each naming its field; or with the reason why there is no JSON.
    """
    raw = json_object(reply, "inputs", "output_type")
    try:
        spec = ToolSpec.model_validate(raw)
    except ValidationError as exc:
        raise ReplyFaulty(
            [*validation_faults(exc), *_rest_faults(raw, exc), *_new_faults(raw, need)], reply
        ) from exc
    if faults := _new_faults(raw, need):
        raise ReplyFaulty(faults, reply)
    return spec


def read_suite(reply: str, spec: ToolSpec, known: Suite | None = None) -> Suite:
    """The cases and properties in a model's reply; with `known`, those that it adds to them.

    Raises:
        ReplyFaulty: with every fault of them, each naming its place; or with why there is no JSON.
    """
    raw = json_object(reply, "cases", "properties")
    cases, case_faults = _listed(raw, "cases", _CASE)
    properties, property_faults = _listed(raw, "properties", _PROPERTY)
    faults = [*case_faults, *property_faults]
    faults += suite_faults(spec, cases, properties, known=known, whole=not faults)
    faults += _count_faults(raw, known)
    if unknown := sorted(raw.keys() - {"cases", "properties"}):
        faults.append(f"{', '.join(unknown)}: is neither cases nor properties")
    if faults:
        raise ReplyFaulty(faults, reply)
    return Suite(cases=tuple(cases.values()), properties=tuple(properties.values()))


def read_ruling(reply: str, spec: ToolSpec, suite: Suite, old: Case | Property) -> Ruling:
    """The ruling on a challenged case or property in a model's reply.

    Raises:
        ReplyFaulty: with every fault, including rules that the suite would then break.
    """
    raw = json_object(reply, "verdict")
    try:
        ruling = Ruling.model_validate(raw)
    except ValidationError as exc:
        raise ReplyFaulty([*validation_faults(exc)], reply) from exc
    new = ruling.case or ruling.property
    if new is not None and (type(new) is not type(old) or new.title != old.title):
        raise ReplyFaulty([f"give a {type(old).__name__.lower()} of the same title, {old.title!r}"], reply)
    after = apply_ruling(suite, old, ruling)
    cases, properties = dict(enumerate(after.cases)), dict(enumerate(after.properties))
    faults = [*suite_faults(spec, cases, properties)]
    if faults and faults != [*suite_faults(spec, dict(enumerate(suite.cases)), properties)]:
        raise ReplyFaulty([f"then the rest is no proof any more; {fault}" for fault in faults], reply)
    return ruling


def read_objection(reply: str) -> Objection | None:
    """What the writer of the code says against a case; None when it says nothing.

    Raises:
        ReplyFaulty: it says something that cannot be understood.
    """
    raw = challenge_object(reply)
    if raw is None:
        return None
    try:
        return Objection.model_validate(raw)
    except ValidationError as exc:
        raise ReplyFaulty([*validation_faults(exc, "challenge")], reply) from exc


def validation_faults(exc: ValidationError, where: str = "") -> Iterator[str]:
    """Every fault that pydantic found, as `place: what is wrong`."""
    for error in exc.errors(include_url=False):
        place = where + "".join(
            f"[{at}]" if isinstance(at, int) else f".{at}" for at in error["loc"] if at != "[key]"
        )
        lines = in_words_of_json(error).splitlines()
        yield from (f"{place.lstrip('.')}: {line}" if place else line for line in lines)


def _listed(raw: Mapping[str, Any], name: str, kind: TypeAdapter[_T]) -> tuple[dict[int, _T], list[str]]:
    """The sound members of a list by their places, and the faults of the others."""
    given = raw.get(name, [])
    if not isinstance(given, list):
        return {}, [f"{name}: must be a list"]
    sound, faults = dict[int, _T](), list[str]()
    for at, part in enumerate(given):
        try:
            sound[at] = kind.validate_python(part)
        except ValidationError as exc:
            faults += validation_faults(exc, f"{name}[{at}]")
    return sound, faults


def _count_faults(raw: Mapping[str, Any], known: Suite | None) -> Iterator[str]:
    cases, properties = raw.get("cases", []), raw.get("properties", [])
    if isinstance(cases, list) and known is None and not MIN_CASES <= len(cases) <= MAX_CASES:
        yield f"cases: has {len(cases)}; give {MIN_CASES} to {MAX_CASES}"
    if isinstance(cases, list) and known is not None and len(cases) > MAX_CASES:
        yield f"cases: has {len(cases)}; give at most {MAX_CASES}"
    if isinstance(properties, list) and len(properties) > MAX_PROPERTIES:
        yield f"properties: has {len(properties)}; give at most {MAX_PROPERTIES}"
    if known is not None and not cases and not properties:
        yield "cases: none is added; give cases or properties that are not there yet"


def _rest_faults(raw: Mapping[str, Any], exc: ValidationError) -> Iterator[str]:
    if any(not error["loc"] for error in exc.errors()):
        return  # every field was sound, so the rules between them are among the faults already
    sound, _ = _listed(raw, "examples", _CASE)
    yield from Contract(
        inputs=_made(_INPUTS, raw.get("inputs")),
        errors=_made(_ERRORS, raw.get("errors", ())),
        output_type=_made(_TYPE, raw.get("output_type")),
        workspace=_made(_WORKSPACE, raw.get("workspace", "none")),
    ).example_faults(sound)


def _made(kind: TypeAdapter[_T], part: object) -> _T | None:
    try:
        return kind.validate_python(part)
    except ValidationError:
        return None


def _new_faults(raw: Mapping[str, Any], need: Need) -> list[str]:
    """What is wrong with a new specification, though one that the library has may be so."""
    name, inputs, errors = raw.get("name"), raw.get("inputs"), raw.get("errors")
    faults = []
    if isinstance(name, str) and name != need.tool_name:
        faults.append(f"name: must be {need.tool_name!r}, not {name!r}: the plan calls it so")
    given = dict.fromkeys(key for call in need.calls for key in call)
    if isinstance(inputs, dict) and (lacking := [key for key in given if key not in inputs]):
        faults.append(f"inputs: the plan will also give {', '.join(lacking)}; declare what it gives")
    if not raw.get("examples"):
        faults.append(f"examples: has none; give 1 to {MAX_EXAMPLES}")
    for at, error in enumerate(errors if isinstance(errors, list) else ()):
        if isinstance(error, dict) and error.get("type") in _SHAPELESS_ERRORS:
            faults.append(f"errors[{at}].type: {error['type']} means any failure; name a more exact one")
    return faults
