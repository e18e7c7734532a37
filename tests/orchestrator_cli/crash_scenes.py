"""The runs that are killed at every event: the demo, and plans whose model is scripted."""

import hashlib
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from crash import By, Ended, Mortals, Place, Traces, attempts
from endpoint import Endpoint, texts_of
from scripted_model import MODELS, code, coder, decided, patch, plan, tool_call

KILLED = -9


class Scene:
    """A run that can be begun again and again. A context manager."""

    args: tuple[str, ...]
    again: tuple[str, ...] = ()
    """Options that resuming needs as well."""
    code = 0
    """How it ends."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder)

    def __enter__(self) -> "Scene":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held open."""

    def begin(self, run: Mortals, by: By = "line", at: int | None = None) -> Ended:
        self.place.reset()
        return run(self.args, self.place.folder, self.place.env, by, at)

    def go_on(self, run: Mortals, by: By = "line", at: int | None = None) -> Ended:
        return run(
            ("resume", "last", "-C", "workspace", *self.again), self.place.folder, self.place.env, by, at
        )

    def undisturbed(self, run: Mortals) -> Traces:
        ended = self.begin(run)
        faults = list(self.place.faults())
        assert ended.code == self.code, (self.place.folder / ".stderr").read_text()
        assert not faults, faults
        return self.place.record()

    def disturbed(
        self, run: Mortals, by: By, at: int, counts: Counter[str], whole: Traces, chance: random.Random
    ) -> list[str]:
        """Kill it at an event, go on, and say what is not as it has to be."""
        begun = self.begin(run, by, at)
        counts["runs killed"] += begun.code == KILLED
        counts["ended before they were killed"] += begun.code != KILLED
        before = self.place.journal
        done = [row for row in before if row["data"]["kind"] == "SubtaskFinished"]
        counts["subtasks finished before the kill"] += len(done)
        if chance.random() < 0.25:
            again = self.go_on(run, by, chance.randint(1, 12))
            counts["resumed runs killed again"] += again.code == KILLED
        ended = self.go_on(run)
        counts["resumed"] += 1
        rows = self.place.journal
        counts["attempts begun after the kill"] += attempts(rows) - attempts(before)
        counts["events of the journals"] += len(rows)
        faults = list(self.place.faults())
        counts["faults of journal and log"] += len(faults)
        counts["finished subtasks run twice"] += sum("after it had finished" in fault for fault in faults)
        if ended.code != self.code:
            faults.append(f"exit {ended.code}: {(self.place.folder / '.stderr').read_text()[-2000:]}")
        faults += _differences(whole, self.place.record())
        return faults


def _differences(whole: Traces, record: Traces) -> list[str]:
    return [
        f"another {name}: {str(getattr(record, name))[:600]!r} instead of {str(getattr(whole, name))[:600]!r}"
        for name in ("answer", "files", "results", "states", "remembered")
        if getattr(record, name) != getattr(whole, name)
    ]


class Demo(Scene):
    args = ("demo", "-C", "workspace")


class Scripted(Scene):
    """Its model says the same to the same request, so it does not matter who asks."""

    args = ("ask", "Do the pieces of work.", "-C", "workspace")
    plan: str
    revised: tuple[tuple[str, str], ...] = ()
    """What the reviser replies to a request with this text; the first that fits."""
    broken: frozenset[str] = frozenset()
    """Subtasks whose agents give up."""
    values: ClassVar[Mapping[str, str]] = {}
    """What agents return, as code; by default a sentence."""

    def __enter__(self) -> "Scripted":
        self._endpoint = Endpoint(self._reply).__enter__()
        self.place.env = {"OPENAI_BASE_URL": self._endpoint.url, "OPENAI_API_KEY": "test-key", **MODELS}
        return self

    def __exit__(self, *_: object) -> None:
        self._endpoint.__exit__()

    def _reply(self, request: dict[str, Any], _n: int) -> Any:
        role, text = str(request["model"]), texts_of(request)
        if role == "planner":
            return self.plan
        if role == "reviser":
            return next(reply for sign, reply in self.revised if sign in text)
        if role == "answer":
            return f"All is done: {hashlib.sha256(text.encode()).hexdigest()}"
        name = text.rpartition("Do the work of ")[2].partition(".")[0]
        return code(self._work(name, sum(message["role"] == "assistant" for message in request["messages"])))

    def _work(self, name: str, step: int) -> str:
        if step == 0:
            return f"from pathlib import Path\nPath('{name}.txt').write_text('half')\nprint('begun')"
        if name in self.broken:
            return "give_up('it cannot be done')"
        if name in self.values:
            return f"Path('{name}.txt').unlink()\n{self.values[name]}"
        return f"Path('{name}.txt').write_text('{name} is whole')\nfinal_answer('{name} is done')"


EACH = "Path(f'each-{item}.txt').write_text(item)\nfinal_answer(item.upper())"


class Twelve(Scripted):
    """`broken` fails and is replaced by the reviser, `forgiven` fails and is skipped, `never` is not done."""

    plan = plan(
        coder("list", result={"type": "array"}),
        tool_call("note", "write_file", path="note.txt", content="noted"),
        coder("left", ["list"], inputs={"items": "$list.value"}),
        coder("right", ["list", "note"]),
        {**coder("each", ["list"]), "for_each": "$list.value", "inputs": {"item": "$item"}},
        coder("broken", ["left"]),
        coder("after_broken", ["broken"]),
        {**coder("never", ["list"]), "when": "list.value[0] == 'nothing'"},
        tool_call("copy", "write_file", ["right"], path="copy.txt", content="$right.value"),
        {**coder("forgiven", ["note"]), "on_failure": "skip"},
        coder("join", ["left", "right", "each", "copy", "forgiven", "never"]),
        coder("last", ["join", "after_broken"]),
    )
    revised = (
        (
            "broken",
            patch(
                "Broken things are done another way.",
                add=[coder("mended", ["left"])],
                replace=[{"id": "after_broken", "depends_on": ["mended"]}],
            ),
        ),
    )
    broken = frozenset({"broken", "forgiven"})
    values: ClassVar = {"list": "final_answer(['a', 'b', 'c'])", "each": EACH}


class Stranded(Scripted):
    """`first` fails for good, and the chain behind it is skipped; beside it, conditions skip what is done."""

    code = 1
    plan = plan(
        coder("first"),
        coder("second", ["first"]),
        coder("third", ["second"]),
        {**coder("fourth", ["third"]), "when": "third.value == 'x'"},
        coder("beside"),
        {**coder("unwanted", ["beside"]), "when": "beside.value == 'nothing'"},
        coder("behind", ["unwanted"]),
        coder("both", ["behind", "third"]),
    )
    revised = (("first", decided("keep", "Nothing else can be done.")),)
    broken = frozenset({"first"})


class Maps(Scripted):
    """A map over a map's values, one with items that fail and are skipped, and one that fails as a whole."""

    code = 1
    plan = plan(
        coder("list", result={"type": "array"}),
        {**coder("each", ["list"]), "for_each": "$list.value", "inputs": {"item": "$item"}},
        {**coder("again", ["each"]), "for_each": "$each.value", "inputs": {"item": "$item"}},
        {
            **coder("some", ["list"]),
            "for_each": "$list.value",
            "inputs": {"item": "$item"},
            "on_failure": "skip",
        },
        {**coder("none", ["list"]), "for_each": "$list.value", "inputs": {"item": "$item"}},
        coder("after_none", ["none"]),
        coder("join", ["again", "some"]),
    )
    revised = (("none", decided("keep", "The rest is enough.")),)
    values: ClassVar = {
        "list": "final_answer(['a', 'b', 'c'])",
        "each": EACH,
        "again": "final_answer(item * 2)",
        "some": "give_up('not b') if item == 'b' else final_answer(item)",
        # The last one, so that all have begun.
        "none": "give_up('not c') if item == 'c' else final_answer(item)",
    }


class Loops(Scripted):
    """The goal is not met: the reviser adds a step, another after that, and then leaves it."""

    code = 1
    plan = plan(coder("step"), coder("beside"), check="step['value'] == 'nothing'")
    revised = (
        ("step_three", decided("keep", "That is all that can be done.")),
        ("step_two", patch("Once more.", add=[coder("step_three", ["step_two"])])),
        ("", patch("Another way.", add=[coder("step_two", ["step"])])),
    )


class Approvals(Scripted):
    """Each subtask is asked about, and so is the plan; the user has said yes to all beforehand."""

    args = (*Scripted.args, "--approve", "plan", "-y")
    again = ("-y",)
    plan = plan(
        {**coder("asked"), "approve": True},
        {**coder("after", ["asked"]), "approve": True},
        coder("beside"),
        tool_call("note", "write_file", ["asked", "beside"], path="note.txt", content="$asked.value"),
    )
