"""Thirty needs as users have them: a planted fault is caught by the cases, and right tools are not refused.

Each folder of needs/ has what a model would reply: the specification (spec.json), the cases written from it
by somebody who had read the prompt and seen no code (cases.json), a right tool (tool.py), often a second one
in another style (tool_other.py), and two with a fault that two people planted who had not seen the cases
(bug.py, bug_other.py).

In every run a few of them are built, which have files, errors of libraries and all kinds of properties, and
the others are read and checked by the rules. `-m "thorough or not thorough"` builds all. Run alone, this file
ends with the figures.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from toolsmith.build import BuildStep, CodeFaulty, TrialRan, build_tool
from toolsmith.built import BuiltTool
from toolsmith.library import Library
from toolsmith.proof.checker import check
from toolsmith.spec import Need
from toolsmith.writer import write_cases, write_spec

ALWAYS = ("normalise_url", "replace_in_files")
NEEDS = sorted(file.parent for file in Path(__file__).with_name("needs").glob("*/need.json"))
RIGHT = [file for folder in NEEDS for file in sorted(folder.glob("tool*.py"))]
BUGS = [file for folder in NEEDS for file in sorted(folder.glob("bug*.py"))]


MISSED = {"polygon_measures-bug", "summarise_access_log-bug_other"}
"""Planted faults that no case of theirs is near enough to notice."""


def is_other(file: Path) -> bool:
    """Whether it is the second tool, or the second fault, of its need."""
    return file.stem.endswith("_other")


def named(files: list[Path]) -> list[Any]:
    """Parameters of a test, `thorough` where the need is not among those of every run."""
    ids = {file: "-".join(file.relative_to(NEEDS[0].parent).with_suffix("").parts) for file in files}
    return [
        pytest.param(
            file,
            id=ids[file],
            marks=[
                *([] if file.parent.name in ALWAYS and not is_other(file) else [pytest.mark.thorough]),
                *(
                    [pytest.mark.xfail(reason="no case notices it", strict=True)]
                    if ids[file] in MISSED
                    else []
                ),
            ],
        )
        for file in files
    ]


@dataclass
class Model:
    """Gives the prepared replies to each kind of call, which it knows by the first line of the prompt."""

    replies: dict[str, list[str]]
    asked: list[str] = field(default_factory=list)

    def __call__(self, prompt: str, _schema: object = None) -> str:
        kinds = {_opening(kind): kind for kind in ("spec", "cases", "code", "challenge")}
        kind = kinds[prompt.splitlines()[0]]
        assert self.replies.get(kind), f"a further {kind} call:\n{prompt}"
        self.asked.append(kind)
        return self.replies[kind].pop(0)


def _opening(kind: str) -> str:
    prompt = files("toolsmith").joinpath("prompts", f"{kind}.md")
    return prompt.read_text(encoding="utf-8").splitlines()[0] if prompt.is_file() else kind


def model_for(folder: Path, *modules: Path) -> Model:
    return Model(
        {
            "spec": [f"```json\n{(folder / 'spec.json').read_text(encoding='utf-8')}```"],
            "cases": [f"```json\n{(folder / 'cases.json').read_text(encoding='utf-8')}```"],
            "code": [f"```python\n{module.read_text(encoding='utf-8')}```" for module in modules],
        }
    )


def build(folder: Path, model: Model, library: Library, steps: list[BuildStep]) -> BuiltTool:
    need = Need.model_validate_json((folder / "need.json").read_text(encoding="utf-8"))
    return build_tool(need, complete=model, library=library, emit=steps.append)


def refused(steps: list[BuildStep]) -> dict[int, tuple[str, ...]]:
    """Round → why its module was not taken."""
    by_round = {step.round: step.faults for step in steps if isinstance(step, CodeFaulty)}
    return by_round | {
        step.round: step.report.failures
        for step in steps
        if isinstance(step, TrialRan) and not step.report.passed
    }


@dataclass
class Figures:
    planted: int = 0
    caught: int = 0
    right: int = 0
    kept: int = 0

    def __str__(self) -> str:
        wrongly = f"wrongly refused: {self.right - self.kept} of {self.right} right tools"
        return f"caught: {self.caught} of {self.planted} planted faults; {wrongly}"


@pytest.fixture(scope="module")
def figures(request: pytest.FixtureRequest) -> Iterator[Figures]:
    counted = Figures()
    yield counted
    # Processes that share the tests have no terminal, and each counts its own share only.
    plugins = request.config.pluginmanager
    terminal, capturing = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")
    if terminal and capturing:
        with capturing.global_and_fixture_disabled():
            terminal.write_line(f"\n{counted}")


@pytest.mark.parametrize("bug", named(BUGS))
def test_a_planted_fault_is_caught_and_the_right_tool_is_kept_in_the_next_round(
    bug: Path, library: Library, figures: Figures
) -> None:
    right = bug.with_name("tool.py")
    model, steps = model_for(bug.parent, bug, right), list[BuildStep]()
    figures.planted += 1
    built = build(bug.parent, model, library, steps)
    assert not [step for step in steps if isinstance(step, CodeFaulty)], "refused by rules, not by cases"
    assert built.source == right.read_text(encoding="utf-8")
    assert list(refused(steps)) == [1]
    assert model.asked == ["spec", "cases", "code", "code"]
    figures.caught += 1


@pytest.mark.parametrize("right", named(RIGHT))
def test_a_right_tool_is_kept_as_it_was_first_written(
    right: Path, library: Library, figures: Figures
) -> None:
    model, steps = model_for(right.parent, right), list[BuildStep]()
    figures.right += 1
    built = build(right.parent, model, library, steps)
    assert refused(steps) == {}
    assert built.source == right.read_text(encoding="utf-8")
    assert model.asked == ["spec", "cases", "code"]
    figures.kept += 1


@pytest.mark.parametrize("folder", NEEDS, ids=lambda folder: folder.name)
def test_specification_and_cases_are_sound_and_no_rule_is_against_a_right_tool(folder: Path) -> None:
    need = Need.model_validate_json((folder / "need.json").read_text(encoding="utf-8"))
    model = model_for(folder)
    spec = write_spec(need, model)
    suite = write_cases(spec, model)
    assert 5 <= len(suite.cases) <= 20
    for right in folder.glob("tool*.py"):
        assert check(right.read_text(encoding="utf-8"), spec, suite=suite) == ()


def test_there_are_thirty_needs_and_a_third_of_them_have_a_second_right_tool() -> None:
    assert len(NEEDS) == 30
    assert len([folder for folder in NEEDS if (folder / "tool_other.py").exists()]) >= 10
