"""What the comments of a script say: what it does, and how it is called. Pure.

A line such as `Usage: backup.sh [-n] [-d DAY] SOURCE [TARGET...]` gives the parameters, and `getopts` of a
shell those that the line leaves out. Not covered: alternatives (`A | B`), which no schema of ours says.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from pydantic import JsonValue

from orchestrator_cli.admin.scripts.calls import ScriptCall, ScriptParameter, input_name, list_of, schema_with

MOST_LINES = 400
_SIGNS = {".js": ("//",), ".mjs": ("//",), ".cjs": ("//",), ".php": ("//", "#"), ".lua": ("--",)}
_GETOPTS = re.compile(r"\bgetopts[ \t]{1,9}['\"]?:?([a-zA-Z:]{1,104})['\"]?[ \t]")
_ARM = re.compile(r"^[ \t]{0,40}([a-zA-Z])\)[ \t]{0,40}(?:([A-Za-z_]\w{0,60})=)?(.{0,80})", re.MULTILINE)
_DESCRIBED = re.compile(
    r"^#?[ \t]{1,20}(-\w|--[\w-]{1,60})(?:[ =]\S{1,60})?[ \t]{2,40}(\S.{0,200})$", re.MULTILINE
)
_USAGE_WORD = re.compile(r"\busage:[ \t]{0,20}(\S.{0,500})", re.IGNORECASE)
_TAKES = re.compile(r"\$(?:[1-9@*]|\{[1-9@*])")
_PLACE = re.compile(r"<[\w -]{1,40}>|[A-Za-z][\w-]{0,40}")
_OPTION = re.compile(r"(?:--[A-Za-z][\w-]{0,40}|-[A-Za-z0-9])(?:[ =](?:<[\w -]{1,40}>|[\w:/-]{1,40}))?")
_ANY_OPTION = ("option", "options", "flag", "flags", "-h", "--help")
_TOKEN = re.compile(r"<[^<>]{1,80}>(?:\.\.\.)?|\[[^\[\]]{1,80}\](?:\.\.\.)?|[^\s\[\]]{1,80}")


def text_calls(source: str, ending: str, name: str) -> list[ScriptCall]:
    """The way to call a script that is not Python. `name`: of its file."""
    about, is_shell = leading_comment(source, ending), ending in (".sh", ".bash", ".zsh")
    letters = _GETOPTS.search(source) if is_shell else None
    usage = _usage_of(source, name)
    parameters = list(_of_usage(usage, letters[1] if letters else "", source))
    if letters is not None:
        needed = {one.option for one in parameters if one.is_required}
        options = [replace(one, is_required=one.option in needed) for one in _of_getopts(letters[1], source)]
        known = {one.option for one in options}
        parameters = [*options, *(one for one in parameters if one.option not in known)]
    notes = ("it takes arguments; say which in a line `# Usage: NAME [-d DAY] TARGET`",)
    takes = is_shell and _TAKES.search(_without_functions(source)) is not None
    is_silent = takes and not usage and letters is None
    return [
        ScriptCall(
            about=about,
            parameters=tuple(parameters),
            ends_options=letters is not None,
            notes=notes if is_silent else (),
        )
    ]


def leading_comment(source: str, ending: str) -> str:
    """The first comment of a script that says something, without its signs."""
    signs = _SIGNS.get(ending, ("#",))
    found: list[str] = []
    is_block = False
    for line in source.splitlines()[:MOST_LINES]:
        text = line.strip()
        if text.startswith("#!") or (not text and not found):
            continue
        if text.startswith(("/*", "=begin", "--[[")):
            is_block = True
            text = text.removeprefix("/*").removeprefix("=begin").removeprefix("--[[").lstrip("*")
        if is_block:
            ends = next((sign for sign in ("*/", "=end", "]]") if sign in text), "")
            found.append(text.partition(ends)[0].strip(" *") if ends else text.strip(" *"))
            if ends:
                break
        elif text.startswith(signs):
            words = text.lstrip("#/-").strip()
            if not words.startswith(("shellcheck", "vim:", "-*-")):
                found.append(words)
        else:
            break
    return "\n".join(found)


def _usage_of(source: str, name: str) -> str:
    """What follows the name of the script in its first line of usage that is no prose."""
    for line in source.splitlines()[:MOST_LINES]:
        if (found := _USAGE_WORD.search(line)) is not None:
            text = re.split(r"[\"'`;]|\\n|\s[12]?>", found[1].strip(" \"'"))[0]
            command, _, rest = text.partition(" ")
            tokens = _TOKEN.findall(rest)
            is_call = _is_name(command, name) or all(map(_is_marked, tokens))
            if rest and "|" not in rest and is_call and all(map(_is_plain, tokens)):
                return rest.strip()
    return ""


def _is_name(command: str, name: str) -> bool:
    """Whether the first word after `Usage:` is the name of a script, or code that gives it."""
    last = command.rpartition("/")[2]
    return last in (name, name.rpartition(".")[0]) or not last.replace("-", "").replace("_", "").isalnum()


def _is_marked(token: str) -> bool:
    """Whether a word is an option or a place also without the name of a script before it."""
    return token.startswith(("-", "[", "<")) or token.strip(".") == token.strip(".").upper()


def _is_plain(token: str) -> bool:
    """Whether a word of a usage line is an option or a place, and no prose or code."""
    text = token.replace("...", "").strip("[] .")
    one, _, more = text.partition(" ")
    repeats = more.strip(" .<>[]") == one.strip("<>")
    return not text or bool(_OPTION.fullmatch(text) or _PLACE.fullmatch(one if repeats else text))


def _of_usage(usage: str, letters: str, source: str) -> Iterator[ScriptParameter]:
    tokens = _TOKEN.findall(usage)
    described = dict(_DESCRIBED.findall(source))
    while tokens:
        token = tokens.pop(0)
        is_optional = token.startswith("[")
        is_many = "..." in token
        text = token.replace("...", "").strip("[] .")
        option, _, value = text.replace("=", " ").partition(" ")
        if option.strip("<>").lower() in (*_ANY_OPTION, ""):
            continue
        if not option.startswith("-"):
            schema: dict[str, JsonValue] = {"type": "string"}
            is_many = is_many or value.strip(" .<>[]") == option
            place = text if text.startswith("<") else option
            yield ScriptParameter(
                input_name(place),
                list_of(schema) if is_many else schema,
                is_required=not is_optional,
            )
            continue
        takes = f"{option[1]}:" in letters if letters and len(option) == 2 else False
        if not value and not is_optional and tokens and (takes or _is_value(tokens[0])):
            value = tokens.pop(0)
        about = described.get(option, "")
        yield _option(option, value.strip("<>[] "), about, is_required=not is_optional, is_many=is_many)


def _is_value(token: str) -> bool:
    return token.startswith("<") or (token.isupper() and token.isalnum())


def _option(
    option: str, value: str, about: str, *, is_required: bool, is_many: bool = False
) -> ScriptParameter:
    long = option.startswith("--")
    name = input_name(option if long or not value else value)
    if not value:
        return ScriptParameter(name, schema_with({"type": "boolean"}, about=about), option)
    schema: dict[str, JsonValue] = {"type": "string"}
    return ScriptParameter(
        name,
        schema_with(list_of(schema) if is_many else schema, about=about),
        option,
        is_required=is_required,
    )


def _of_getopts(letters: str, source: str) -> Iterator[ScriptParameter]:
    """The options that the shell's own parser takes, named after the variables that they set."""
    described = dict(_DESCRIBED.findall(source))
    arms = {letter: (variable, rest) for letter, variable, rest in _ARM.findall(source)}
    for found in re.finditer(r"([a-zA-Z])(:?)", letters):
        letter, takes = found[1], bool(found[2])
        variable, rest = arms.get(letter, ("", ""))
        if letter == "h" and not takes:
            continue
        name = input_name(variable) if variable and (not takes or "OPTARG" in rest) else letter.lower()
        schema: dict[str, JsonValue] = {"type": "string" if takes else "boolean"}
        yield ScriptParameter(name, schema_with(schema, about=described.get(f"-{letter}", "")), f"-{letter}")


def _without_functions(source: str) -> str:
    """A shell script without the bodies of its functions, whose `$1` are their own."""
    kept, depth = [], 0
    for line in source.splitlines()[:MOST_LINES]:
        text = line.strip()
        starts = re.match(r"(?:function\s)?[\w-]{1,80}\s?\(\)\s?\{|function\s[\w-]{1,80}\s?\{", text)
        if starts or depth:
            depth += text.count("{") - text.count("}")
        elif not text.startswith("#"):
            kept.append(line)
    return "\n".join(kept)
