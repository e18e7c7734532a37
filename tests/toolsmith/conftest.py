"""The sample tool of these tests: `count_words`, with the replies that a model gives for it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sample_tool import CASES, CODE, SPEC

from toolsmith.built import CaseResult, Origin, TrialReport
from toolsmith.library import Library
from toolsmith.proof.cases import Suite
from toolsmith.spec import Need, ToolSpec


@dataclass
class Scripted:
    """A model that gives prepared replies in order, and keeps the prompts it was given."""

    replies: list[str]
    prompts: list[str] = field(default_factory=list)

    def __call__(self, prompt: str, _schema: object = None) -> str:
        self.prompts.append(prompt)
        return self.replies.pop(0)


@dataclass(frozen=True)
class Sample:
    need: Need
    raw: dict[str, Any]
    raw_suite: dict[str, Any]
    spec: ToolSpec
    suite: Suite
    code: str

    def spec_reply(self, **changes: Any) -> str:
        return f"Here it is:\n\n```json\n{json.dumps(self.raw | changes, indent=2)}\n```\n"

    def cases_reply(self, **changes: Any) -> str:
        return f"These:\n\n```json\n{json.dumps(self.raw_suite | changes, indent=2)}\n```\n"

    def code_reply(self, old: str = "", new: str = "") -> str:
        assert not old or old in self.code
        return f"```python\n{self.code.replace(old, new) if old else self.code}```"

    @property
    def report(self) -> TrialReport:
        passed = (
            CaseResult(title=case.title, passed=True, detail="", seconds=0.1)
            for case in self.suite.of(self.spec)
        )
        return TrialReport(passed=True, results=tuple(passed))

    @property
    def origin(self) -> Origin:
        return Origin(need=self.need, run="r1")


@pytest.fixture
def sample() -> Sample:
    need = Need(name="Count-Words", purpose="Count the words of a file.", calls=({"path": "$write.value"},))
    raw, suite = json.loads(json.dumps([SPEC, CASES]))
    return Sample(need, raw, suite, ToolSpec.model_validate(raw), Suite.model_validate(suite), CODE)


@pytest.fixture
def model() -> Callable[..., Scripted]:
    return lambda *replies: Scripted(list(replies))


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "tools")
