"""The results of a run become the answer to the user."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence

from pydantic import JsonValue

from orchestrator_cli.models.model import Model, Request
from orchestrator_cli.plan import Plan, Result, State, order
from orchestrator_cli.prompts import render

OUTCOME_CHARS = 6_000


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
    facts: Sequence[str] = (),
    model: Model,
    on_delta: Callable[[str], None],
) -> str:
    """The answer, in Markdown; `answered` are the failures after which the plan was changed.

    `made` and `reused` are names of tools, `lessons` the reasons of the patches, `facts` about the user.
    A plan of one subtask that succeeded is its own answer: no model is asked.

    Raises what `Model.complete` raises.
    """
    if len(plan.subtasks) == 1 and (only := results.get(plan.subtasks[0].id)):
        text = as_text(only.value)
        on_delta(text)
        return text
    rows = [
        {
            "id": name,
            "title": plan[name].title,
            "state": _state(states.get(name, "pending"), name in answered),
            "outcome": _outcome(name, results, failures),
            "files": results[name].files if name in results else (),
        }
        for name in order(plan)
    ]
    messages = (
        {"role": "system", "content": render("answer")},
        {
            "role": "user",
            "content": render(
                "answer_request",
                prompt=prompt,
                facts=facts,
                results=rows,
                made=made,
                reused=reused,
                lessons=lessons,
            ),
        },
    )
    return model.complete(Request(role="answer", messages=messages), on_delta).text.strip()


def list_results(
    plan: Plan,
    *,
    states: Mapping[str, State],
    results: Mapping[str, Result],
    failures: Mapping[str, str],
) -> str:
    """The results as they are, for when nobody can word them."""
    lines = ["The answer could not be written; these are the results:", ""]
    for name in order(plan):
        outcome = _outcome(name, results, failures)
        lines += [f"## {plan[name].title} ({states.get(name, 'pending')})", "", outcome, ""]
    return "\n".join(lines).rstrip()


def _state(state: State, answered: bool) -> str:
    return "failed; the plan was then changed" if state == "failed" and answered else state


def as_text(value: JsonValue) -> str:
    """A value as a person reads it: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=2)


def _outcome(subtask: str, results: Mapping[str, Result], failures: Mapping[str, str]) -> str:
    if subtask in results:
        text = as_text(results[subtask].value)
        surprise = results[subtask].surprise
        text += f"\nSurprise: {surprise}" if surprise else ""
    else:
        text = failures.get(subtask, "(not run)")
    return text if len(text) <= OUTCOME_CHARS else f"{text[:OUTCOME_CHARS]}\n… ({len(text)} characters)"
