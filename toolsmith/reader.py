"""A specification read out of a model's reply, or all that is wrong with it at once. Pure.

Faults go back to the model, and every round costs a call. So the rules between the fields are applied to
whatever parts are sound even when other parts are not, instead of waiting for the next round."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from toolsmith.errors import SpecFaulty
from toolsmith.replies import json_object
from toolsmith.spec import Case, ErrorSpec, Input, Need, Parameter, Parts, ToolSpec, Workspace
from toolsmith.values import TypeName

_T = TypeVar("_T")
_INPUTS = TypeAdapter[dict[str, Input]](dict[Parameter, Input])
_ERRORS = TypeAdapter[tuple[ErrorSpec, ...]](tuple[ErrorSpec, ...])
_CASE = TypeAdapter[Case](Case)
_TYPE = TypeAdapter[TypeName](TypeName)
_WORKSPACE = TypeAdapter[Workspace](Workspace)


def read_spec(reply: str, need: Need) -> ToolSpec:
    """The specification in a model's reply.

    Raises:
        SpecFaulty: with every fault of it, each naming its field; or with the reason why there is no JSON.
    """
    raw = json_object(reply)
    try:
        spec = ToolSpec.model_validate(raw)
    except ValidationError as exc:
        raise SpecFaulty(
            [*_told(exc), *_faults_of_the_rest(raw, exc), *_need_faults(raw, need)], reply
        ) from exc
    if faults := _need_faults(raw, need):
        raise SpecFaulty(faults, reply)
    return spec


def _told(exc: ValidationError) -> Iterator[str]:
    for error in exc.errors(include_url=False, include_context=False):
        place = "".join(
            f"[{at}]" if isinstance(at, int) else f".{at}" for at in error["loc"] if at != "[key]"
        )
        message = error["msg"].removeprefix("Value error, ")
        yield from [f"{place.lstrip('.')}: {message}"] if place else message.splitlines()


def _faults_of_the_rest(raw: Mapping[str, Any], exc: ValidationError) -> Iterator[str]:
    if any(not error["loc"] for error in exc.errors()):
        return  # every field was sound, so the rules between them are among the faults already
    listed = raw["cases"] if isinstance(raw.get("cases"), list) else []
    sound = {at: _made(_CASE, part) for at, part in enumerate(listed)}
    yield from Parts(
        total=len(listed),
        cases={at: case for at, case in sound.items() if case is not None},
        inputs=_made(_INPUTS, raw.get("inputs")),
        errors=_made(_ERRORS, raw.get("errors", ())),
        output_type=_made(_TYPE, raw.get("output_type")),
        workspace=_made(_WORKSPACE, raw.get("workspace", "none")),
    ).faults()


def _made(kind: TypeAdapter[_T], part: object) -> _T | None:
    try:
        return kind.validate_python(part)
    except ValidationError:
        return None


def _need_faults(raw: Mapping[str, Any], need: Need) -> list[str]:
    name, inputs = raw.get("name"), raw.get("inputs")
    faults = []
    if isinstance(name, str) and name != need.tool_name:
        faults.append(f"name: must be {need.tool_name!r}, not {name!r}: the plan calls it so")
    if isinstance(inputs, dict) and (lacking := [key for key in need.arguments or {} if key not in inputs]):
        faults.append(f"inputs: the plan will also give {', '.join(lacking)}; declare what it gives")
    return faults
