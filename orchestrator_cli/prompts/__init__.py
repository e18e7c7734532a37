"""The prompts, as files, rendered so that an undefined name is an error.

`subtask_fields.yml` describes the fields of a subtask for both prompts and for docs/plan.md.
"""

from functools import cache
from importlib import resources
from typing import NamedTuple

import jinja2

from orchestrator_cli.durable.foreign import prompt_environment


def render(prompt: str, /, **values: object) -> str:
    """The prompt `prompts/PROMPT.md` with its names filled in. Raises `jinja2.UndefinedError`."""
    return _environment().get_template(f"{prompt}.md").render(**values)


class FieldText(NamedTuple):
    """What is said of one field of a subtask."""

    name: str
    about: str
    short: str


@cache
def subtask_fields(*, processes: bool, attachments: bool = False) -> tuple[FieldText, ...]:
    """The fields of a subtask in the order in which they are explained.

    `processes`: whether any are registered; if not, the field `process` is left out. `attachments`: whether
    the user attached files; likewise.
    """
    from orchestrator_cli.durable.yaml_text import read_yaml

    text = resources.files(__name__).joinpath("subtask_fields.yml").read_text(encoding="utf-8")
    fields: dict[str, dict[str, str]] = read_yaml(text)

    def filled(template: str) -> str:
        # Compiling each costs as much as all else before the planner's request, and two of them need it.
        return (
            _environment().from_string(template).render(processes=processes) if "{" in template else template
        )

    return tuple(
        FieldText(name, filled(field["about"]), filled(field.get("short", "")))
        for name, field in fields.items()
        if (processes or name != "process") and (attachments or name != "attachments")
    )


def compile_all() -> None:
    """Do what the first rendering of each prompt would do."""
    for entry in resources.files(__name__).iterdir():
        # Those of agents are filled in by smolagents.
        if entry.name.endswith(".md") and not entry.name.startswith("agent_"):
            _environment().get_template(entry.name)
    for processes in (False, True):
        subtask_fields(processes=processes)


def source(prompt: str) -> str:
    """The unrendered text of a prompt, for a library that renders it itself."""
    return resources.files(__name__).joinpath(f"{prompt}.md").read_text(encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    return prompt_environment(lambda name: source(name.removesuffix(".md")))
