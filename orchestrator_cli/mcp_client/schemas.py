"""What a tool of a server takes: its JSON Schema as parameters with names and schemas for agents. Pure.

Agents get the schema whole: nested objects, choices, and what a `$ref` within it names, in place of the
reference, since not every provider follows one. Each part that leads out of the schema, or that it lacks,
takes any value; nothing is fetched. What refers to itself is shown once, and depth and size are limited.
What a schema says is foreign: texts cannot open or close a mark.

Not covered: `$anchor`, `$dynamicRef` and `dependentSchemas`, and checks of values, which servers make.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard
from urllib.parse import unquote

from orchestrator_cli.durable.foreign import as_data, marked
from orchestrator_cli.durable.names import identifiers

RAW_CHARS = 200_000
"""A longer schema of a tool is not read."""
SCHEMA_CHARS = 20_000
"""A longer one is shown less deeply."""
MOST_PARTS = 1_500
"""What has more parts, with references replaced, is shown less deeply."""
MOST_SHALLOW = 20
LISTED_PARTS = 10_000
"""How many parts of a listing's schemas are looked at. After that, types are all that is shown."""
DEPTHS = (16, 5, 2, 0)
TEXT_CHARS = 2_000
TYPES = ("string", "boolean", "integer", "number", "array", "object", "null")
_NOT_NAMES = ("self", "sanitize_inputs_outputs")
"""Names of parameters that the way to a tool needs for itself."""

_SCHEMA = ("items", "additionalItems", "additionalProperties", "contains", "propertyNames", "not")
_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "patternProperties")
_ABOUT = ("description", "default", "examples")
_VALUES = (
    *("enum", "const", "format", "pattern", "contentEncoding", "contentMediaType", "nullable"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength"),
    *("minItems", "maxItems", "uniqueItems", "minContains", "maxContains", "minProperties", "maxProperties"),
    *("dependentRequired", *_ABOUT),
)

Schema = Mapping[str, Any]


class SchemaUnusable(ValueError):
    """A tool cannot be called by what its schema says; the message says why."""


@dataclass(frozen=True)
class ToolParameter:
    """An argument of a tool."""

    name: str
    """Its name for planners and agents: an identifier."""
    own: str
    """Its name on the server."""
    schema: Schema
    """Its JSON Schema without references."""
    is_required: bool

    @property
    def kinds(self) -> tuple[str, ...]:
        """The JSON types that it takes; empty for any."""
        return tuple(kind for kind in TYPES if kind in _kinds(self.schema))

    @property
    def may_be_left_out(self) -> bool:
        """Whether null means that it is not given."""
        return not self.is_required and "null" not in self.kinds

    @property
    def is_plain(self) -> bool:
        """Whether its type says all of it that a caller has to know."""
        return not self.schema.keys() - {"type", "description", "default"} and bool(self.kinds)


@dataclass(frozen=True)
class Inputs:
    parameters: tuple[ToolParameter, ...] = ()
    is_open: bool = True
    """Whether it takes other arguments too."""


@dataclass
class SchemaBudget:
    """How many parts of schemas may still be looked at."""

    left: int = LISTED_PARTS


def read_inputs(schema: object, budget: SchemaBudget) -> Inputs:
    """The parameters of a tool by its input schema. Raises `SchemaUnusable`."""
    if schema is None:
        return Inputs()
    if not is_map(schema):
        raise SchemaUnusable("its input schema is not an object")
    try:
        if len(json.dumps(schema)) > RAW_CHARS:
            raise SchemaUnusable(f"its input schema has more than {RAW_CHARS:,} characters")
        return _within_bounds(schema, budget)
    except RecursionError as exc:
        raise SchemaUnusable("its input schema is nested too deeply") from exc


def _within_bounds(root: Schema, budget: SchemaBudget) -> Inputs:
    form = _form_of(root, budget)
    names = identifiers(form.properties, word="arg", taken=_NOT_NAMES.__contains__)
    for depth in DEPTHS if budget.left > 0 else DEPTHS[-1:]:
        expansion = _Expansion(root)
        try:
            parameters = tuple(
                ToolParameter(names[own], own, expansion.of_any(found, depth), own in form.required)
                for own, found in form.properties.items()
            )
        except _TooLarge:
            continue
        finally:
            budget.left -= MOST_PARTS - expansion.left
        if sum(len(json.dumps(one.schema)) for one in parameters) <= SCHEMA_CHARS:
            return Inputs(parameters, form.is_open)
    raise SchemaUnusable("its input schema is too large")


# --- the object that a tool takes


@dataclass
class _Form:
    """What an object has by its schema; of several that it may be, all of them together."""

    properties: dict[str, list[Any]] = field(default_factory=dict)
    """For each name the schemas that it may have."""
    required: set[str] = field(default_factory=set)
    extra: list[Any] = field(default_factory=list)
    """What it says of other properties."""

    @property
    def is_open(self) -> bool:
        if not self.extra:
            return not self.properties
        return any(one is True or is_map(one) for one in self.extra)

    def add(self, other: "_Form") -> None:
        for name, schemas in other.properties.items():
            known = self.properties.setdefault(name, [])
            known += [one for one in schemas if one not in known]
        self.extra += other.extra


def _form_of(root: Schema, budget: SchemaBudget) -> _Form:
    left = iter(range(MOST_PARTS if budget.left > 0 else MOST_SHALLOW))

    def of(schema: Any, through: tuple[str, ...]) -> _Form:
        form = _Form()
        if not is_map(schema):
            return form
        budget.left -= 1
        if next(left, None) is None:
            raise SchemaUnusable("its input schema is too large")
        if (kinds := _kinds(schema)) and "object" not in kinds:
            raise SchemaUnusable("its input is not an object")
        form.properties = {name: [one] for name, one in _properties(schema).items() if one is not False}
        form.required = set(_names(schema.get("required")))
        form.extra = [schema[key] for key in ("additionalProperties", "patternProperties") if key in schema]
        ref = schema.get("$ref")
        together = [_target(root, ref)] if isinstance(ref, str) and ref not in through else []
        through = (*through, ref) if isinstance(ref, str) else through
        for part in (of(one, through) for one in (*together, *_listed(schema, "allOf"))):
            form.add(part)
            form.required |= part.required
        for key in ("anyOf", "oneOf"):
            choices = [of(one, through) for one in _listed(schema, key)]
            for choice in choices:
                form.add(choice)
            form.required |= set.intersection(*(one.required for one in choices)) if choices else set()
        return form

    return of(root, ())


def _properties(schema: Schema) -> Schema:
    found = schema.get("properties", {})
    if not is_map(found):
        raise SchemaUnusable("its properties are not an object")
    for name, one in found.items():
        if not (is_map(one) or isinstance(one, bool)):
            raise SchemaUnusable(f"its parameter {name!r} has no schema")
    return found


def _target(root: Schema, ref: str) -> Any:
    """What a reference within the schema names; None for any other."""
    if not ref.startswith("#"):
        return None
    found: Any = root
    for part in unquote(ref[1:]).split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if is_map(found):
            found = found.get(key)
        elif isinstance(found, list) and key.isdecimal() and len(key) < 6 and int(key) < len(found):
            found = found[int(key)]
        else:
            return None
    return found if ref == "#" or "/" in ref else None


# --- a schema without references


class _TooLarge(Exception):
    """A schema has more parts than it may have."""


@dataclass
class _Expansion:
    """Puts what references name in their place."""

    root: Schema
    left: int = MOST_PARTS

    def of_any(self, schemas: list[Any], depth: int) -> dict[str, Any]:
        """Of the schemas that one property may have."""
        return self.of(schemas[0] if len(schemas) == 1 else {"anyOf": schemas}, depth, ())

    def of(self, schema: Any, depth: int, through: tuple[str, ...]) -> dict[str, Any]:
        self.left -= 1
        if self.left < 0:
            raise _TooLarge
        if schema is False:
            return {"not": {}}
        if not is_map(schema):
            return {}
        ref = schema.get("$ref")
        if isinstance(ref, str):
            return self._named(schema, ref, depth, through)
        if depth == 0:
            return shallow(_clean(schema))
        return within(_clean(schema), lambda part: self.of(part, depth - 1, through))

    def _named(self, schema: Schema, ref: str, depth: int, through: tuple[str, ...]) -> dict[str, Any]:
        target = _target(self.root, ref)
        if ref in through:
            named = shallow(_clean(target)) if is_map(target) else {}
        else:
            named = self.of(target, depth, (*through, ref)) if target is not None else {}
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        beside = self.of(rest, depth, through)
        if beside.keys() <= set(_ABOUT):
            return named | beside
        return {"allOf": [named, beside]} if named else beside


def within(schema: Schema, change: Callable[[Any], Any]) -> dict[str, Any]:
    """A schema with each schema right below it changed."""
    return {
        key: change(value)
        if key in _SCHEMA
        else [change(one) for one in value]
        if key in _SCHEMAS
        else {name: change(one) for name, one in value.items()}
        if key in _NAMED
        else value
        for key, value in schema.items()
    }


def shallow(schema: Schema) -> dict[str, Any]:
    """A schema without what is below it."""
    made = {key: value for key, value in schema.items() if key not in (*_SCHEMA, *_SCHEMAS, *_NAMED)}
    made.pop("required", None)
    kinds = sorted(_kinds(schema))
    return {**({"type": kinds[0] if len(kinds) == 1 else kinds} if kinds else {}), **made}


def outline(schema: Schema, depth: int) -> dict[str, Any]:
    """A schema without texts, and with so many levels below it."""
    plain = {key: value for key, value in schema.items() if key not in _ABOUT}
    return within(plain, lambda part: outline(part, depth - 1)) if depth else shallow(plain)


def with_marks(schema: Schema, source: str) -> dict[str, Any]:
    """A schema whose descriptions are marked as foreign words."""
    made = within(schema, lambda part: with_marks(part, source))
    return made | ({"description": marked(made["description"], source)} if "description" in made else {})


def _clean(schema: Schema) -> dict[str, Any]:
    """The keywords of one level that are known and well-formed, with texts in which nothing is a mark."""
    made: dict[str, Any] = {}
    if kinds := [kind for kind in _stated(schema) if kind in TYPES]:
        made["type"] = kinds[0] if len(kinds) == 1 else kinds
    for key, value in schema.items():
        if key in _VALUES:
            made[key] = _data(value)[:TEXT_CHARS] if isinstance(value, str) else _data(value)
        elif key == "required" and (names := _names(value)):
            made[key] = _data(names)
        elif key == "items" and isinstance(value, list):
            made["prefixItems"] = value
        elif key in _SCHEMA and (is_map(value) or isinstance(value, bool)):
            made["items" if key == "additionalItems" else key] = value
        elif key in _SCHEMAS and isinstance(value, list):
            made[key] = value
        elif key in _NAMED and is_map(value):
            made[key] = {as_data(name): one for name, one in value.items()}
    if not isinstance(made.get("description", ""), str):
        del made["description"]
    return made


def _data(value: Any) -> Any:
    if isinstance(value, str):
        return as_data(value)
    if isinstance(value, list):
        return [_data(one) for one in value]
    return {as_data(key): _data(one) for key, one in value.items()} if is_map(value) else value


# --- what a schema says of types


def _kinds(schema: Schema) -> frozenset[str]:
    """The JSON types that a schema allows, as far as it says so without references; empty for any."""
    found: frozenset[str] = frozenset(kind for kind in _stated(schema) if kind in TYPES)
    if not found and isinstance(choices := schema.get("enum", [schema.get("const", ...)]), list):
        found = frozenset(_kind(one) for one in choices if one is not ...)
    if not found and (choices := _listed(schema, "anyOf") or _listed(schema, "oneOf")):
        each = [_kinds(one) if is_map(one) else frozenset[str]() for one in choices]
        found = frozenset().union(*each) if all(each) else frozenset()
    if not found:
        each = [_kinds(one) for one in _listed(schema, "allOf") if is_map(one)]
        found = next((one for one in each if one), frozenset())
    if not found:
        hints = {"properties": "object", "items": "array", "prefixItems": "array"}
        found = frozenset(kind for key, kind in hints.items() if key in schema)
    return found | {"null"} if found and schema.get("nullable") is True else found


def _stated(schema: Schema) -> Iterator[str]:
    stated = schema.get("type")
    yield from _names([stated] if isinstance(stated, str) else stated)


def _kind(value: Any) -> str:
    kinds: Iterable[tuple[Any, str]] = (
        (bool, "boolean"),
        (str, "string"),
        (int, "integer"),
        (float, "number"),
        (list, "array"),
        (Mapping, "object"),
    )
    return next((name for kind, name in kinds if isinstance(value, kind)), "null")


def _listed(schema: Schema, key: str) -> list[Any]:
    found = schema.get(key)
    return found if isinstance(found, list) else []


def _names(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def is_map(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)
