"""Results in words: the answer of a run, and one line for each value."""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence

from pydantic import JsonValue

from orchestrator_cli.durable.foreign import excerpt
from orchestrator_cli.durable.text import truncate
from orchestrator_cli.errors import ReplyUnusable
from orchestrator_cli.models.endings import reply_fault
from orchestrator_cli.models.model import Message, Model, ModelRequest
from orchestrator_cli.plan import Plan, Result, State, order
from orchestrator_cli.planning.data_answer import ask_for_data, value_of_plan
from orchestrator_cli.prompts import render

OUTCOME_CHARS = 6_000
SUMMARY_CHARS = 300
INNER_CHARS, INNER_ITEMS = 80, 12
"""Of a value within another, as far as a summary shows it."""
TRIES = 2
LIST_ITEMS = 10
UNWRITTEN = "The answer could not be written."
WANTS_DATA = re.compile(r"(?<![.\w/])json\b|\b(?:raw|as) data\b", re.IGNORECASE)
"""Whether a prompt asks for data rather than words; the `json` of a file's name does not count."""


def write_answer(
    prompt: str,
    plan: Plan,
    *,
    states: Mapping[str, State],
    results: Mapping[str, Result],
    failures: Mapping[str, str],
    answered: Collection[str],
    made: Sequence[str],
    reused: Sequence[str],
    lessons: Sequence[str],
    stopped: str = "",
    facts: Sequence[str] = (),
    remarks: Sequence[str] = (),
    schema: Mapping[str, JsonValue] | None = None,
    model: Model,
    on_delta: Callable[[str], None],
) -> str:
    """The answer, in Markdown. No model is asked if `plain_answer` has one, or if nothing was done.

    After a remark a model is asked even then: it may be about the answer itself.

    With a `schema`, the answer is a JSON value that satisfies it, on one line.

    Args:
        answered: the failed subtasks after which the plan was changed.
        made: names of tools that were built, `reused`: of tools that existed.
        lessons: the reasons of the patches.
        stopped: why the work ended before its end.
        facts: what is remembered of the user.
        remarks: what the user said while the run went on.

    Raises `ReplyUnusable`, `AnswerMisfit` with a schema, and what `Model.complete` raises.
    """
    plain: str | None = None
    if schema is None and stopped and not results:
        plain = list_results(plan, states=states, results=results, failures=failures, why=stopped)
    elif schema is not None and not remarks:
        value = value_of_plan(plan, results, schema)
        plain = json.dumps(value[0], ensure_ascii=False) if value is not None else None
    elif schema is None and not stopped and not remarks:
        plain = plain_answer(prompt, plan, results)
    if plain is not None:
        on_delta(plain)
        return plain
    changed = {name: "failed; the plan was then changed" for name in answered if states.get(name) == "failed"}
    rows = [
        {
            "id": name,
            "title": plan[name].title,
            "state": changed.get(name) or states.get(name, "pending"),
            "outcome": _outcome(name, results, failures),
            "files": results[name].files if name in results else (),
        }
        for name in order(plan)
    ]
    system = render("answer") if schema is None else render("answer_data", schema=schema)
    messages = (
        {"role": "system", "content": system},
        {
            "role": "user",
            "content": render(
                "answer_request",
                prompt=prompt,
                facts=facts,
                remarks=remarks,
                results=rows,
                made=made,
                reused=reused,
                lessons=lessons,
                stopped=stopped,
            ),
        },
    )
    if schema is None:
        return _whole_answer(list(messages), model, on_delta)
    data = json.dumps(ask_for_data(list(messages), schema, model), ensure_ascii=False)
    on_delta(data)
    return data


def _whole_answer(messages: list[Message], model: Model, on_delta: Callable[[str], None]) -> str:
    """An answer that is not cut, refused or empty, after asking twice at most. Raises `ReplyUnusable`."""
    fault = ""
    for _ in range(TRIES):
        reply = model.complete(ModelRequest(role="answer", messages=tuple(messages)), on_delta)
        if not (fault := reply_fault(reply)):
            return reply.text.strip()
        # The cut answer is left out: it would be gone on with, at its length.
        messages = [*messages, {"role": "user", "content": render("answer_again", fault=fault)}]
    raise ReplyUnusable(
        f"The answer could not be worded: {fault}.",
        "The results are complete. Ask again with orch resume, or name another model for the answer.",
    )


def plain_answer(prompt: str, plan: Plan, results: Mapping[str, Result]) -> str | None:
    """The answer that the value of a plan's only subtask is; None if a model has to word it.

    Text, a number, a yes or no and a short list are; a larger value only if the prompt asks for JSON.
    """
    only = results.get(plan.subtasks[0].id) if len(plan.subtasks) == 1 else None
    if only is None:
        return None
    value = only.value
    if isinstance(value, str | int | float) or WANTS_DATA.search(prompt):
        return as_text(value)
    if isinstance(value, list) and 0 < len(value) <= LIST_ITEMS and all(map(_is_plain, value)):
        return "\n".join(f"- {as_text(item)}" for item in value)
    return None


def _is_plain(item: JsonValue) -> bool:
    return isinstance(item, int | float) or (isinstance(item, str) and item.count("\n") == 0)


def list_results(
    plan: Plan,
    *,
    states: Mapping[str, State],
    results: Mapping[str, Result],
    failures: Mapping[str, str],
    why: str = UNWRITTEN,
) -> str:
    """The results without a model's words. `why`: the sentence that says why there are none."""
    lines = [why, "", "These are the results:", ""]
    for name in order(plan):
        outcome = _outcome(name, results, failures)
        lines += [f"## {plan[name].title} ({states.get(name, 'pending')})", "", outcome, ""]
    return "\n".join(lines).rstrip()


def as_text(value: JsonValue, *, indent: int | None = 2) -> str:
    """A value for people to read: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _outcome(subtask: str, results: Mapping[str, Result], failures: Mapping[str, str]) -> str:
    if subtask in results:
        text = as_text(results[subtask].value)
        surprise = results[subtask].surprise
        text += f"\nSurprise: {surprise}" if surprise else ""
    else:
        text = failures.get(subtask, "(not run)")
    return excerpt(text, OUTCOME_CHARS)


# --- summaries


def summarise(value: JsonValue) -> str:
    """A value in one short line: its own `summary` if it has one, else a description."""
    if isinstance(value, dict) and isinstance(value.get("summary"), str):
        value = value["summary"]
    return truncate(" ".join(_summary_text(value).split()), SUMMARY_CHARS)


def _summary_text(value: JsonValue) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_label(item)}" for key, item in value.items()) or "{}"
    if isinstance(value, list):
        labels = ", ".join(_label(item) for item in value)
        return f"{len(value)} item{'' if len(value) == 1 else 's'}: {labels}" if value else "[]"
    return _label(value)


def _label(value: JsonValue) -> str:
    """A value within a line: text, a number, the first text of an object, or a count."""
    if isinstance(value, dict):
        return next((item for item in value.values() if isinstance(item, str)), _inner(value))
    if isinstance(value, list):
        return _inner(value)
    return value if value and isinstance(value, str) else json.dumps(value)


def _inner(value: list[JsonValue] | dict[str, JsonValue]) -> str:
    """A value within another: its own values if they are few and flat, else a count."""
    pairs = list(value.items()) if isinstance(value, dict) else [("", item) for item in value]
    flat = len(pairs) <= INNER_ITEMS and not any(isinstance(item, list | dict) for _, item in pairs)
    texts = [(key, item if isinstance(item, str) else json.dumps(item)) for key, item in pairs if flat]
    shown = ", ".join(f"{key} {text}".strip() for key, text in texts)
    if 0 < len(shown) <= INNER_CHARS:
        return shown
    noun = "key" if isinstance(value, dict) else "item"
    return f"{len(value)} {noun}{'' if len(value) == 1 else 's'}"
