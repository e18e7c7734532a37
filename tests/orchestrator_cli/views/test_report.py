"""The page of a run: what is on it, that nothing in it is followed, and how it looks in a browser."""

import functools
import http.server
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from orchestrator_cli import events
from orchestrator_cli.events import Event, Fact
from orchestrator_cli.journal.journal import read_journal
from orchestrator_cli.plan import Patch, Plan, Result, Subtask
from orchestrator_cli.state import RunState, fold
from orchestrator_cli.values import Attachment, FunctionDoc, Usage
from orchestrator_cli.views.diagram import nodes_of
from orchestrator_cli.views.history import Summary
from orchestrator_cli.views.layout import Grid, drawing_of
from orchestrator_cli.views.report import PageImages, report_of
from orchestrator_cli.views.report_page import NO_IMAGES, graph_picture, report_page
from orchestrator_cli.views.timeline import timeline_of

START = datetime(2026, 1, 1, tzinfo=UTC)
STARTED = events.RunStarted(prompt="p", workspace="/w", models={}, sandbox="s", version="1")
DEMO = Path(__file__).parents[2] / "data/before/home/demo/runs/20261129-001105-e69afa/journal.jsonl"
HOSTILE = (
    '<script>alert(1)</script>"\'><img src="https://evil.example/x.png" onerror="alert(2)">'
    "\x1b[31m\u202egnp.exe\n</pre></svg></style><style>@import 'https://evil.example/'</style>"
)
MARKDOWN = (
    f"# Head\n\n{HOSTILE}\n\n![pixel](https://evil.example/p.png) [a link](https://evil.example/l) "
    "<https://evil.example/auto> [j](javascript:alert(3))\n\n| a |\n|:-:|\n| 1 |\n\n```html\n<b>\n```\n"
)
PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJ"
    "RU5ErkJggg=="
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def at(*facts: tuple[float, Fact]) -> list[Event]:
    """Events at seconds from the start."""
    return [
        Event(run="20260101-000000-abcdef", seq=n, time=START + timedelta(seconds=seconds), data=fact)  # type: ignore[arg-type]
        for n, (seconds, fact) in enumerate(facts, 1)
    ]


def subtask(id_: str, *depends_on: str, **fields: object) -> Subtask:
    return Subtask.model_validate(
        {"id": id_, "title": id_, "kind": "agent", "depends_on": depends_on, **fields}
    )


def started(name: str, attempt: int = 1) -> Fact:
    return events.SubtaskStarted(subtask=name, title=name, attempt=attempt, plan_version=1)


def finished(name: str, value: str = "v") -> Fact:
    result = Result(subtask=name, attempt=1, plan_version=1, value=value, summary=value)
    return events.SubtaskFinished(subtask=name, result=result, seconds=1.0)


def failed(name: str, *, final: bool = True, reason: str = "r") -> Fact:
    return events.SubtaskFailed(subtask=name, attempt=1, reason=reason, final=final)


def ended(answer: str = "a") -> Fact:
    return events.RunFinished(outcome="completed", answer=answer, seconds=1, usage=Usage())


def spent(role: str, name: str | None = None, model: str = "m", cost: float | None = 0.5) -> Fact:
    return events.Spent(
        role=role, subtask=name, model=model, prompt_tokens=10, completion_tokens=5, cost=cost, seconds=1.0,
        total=Usage(),
    )  # fmt: skip


def page_of(found: list[Event], images: PageImages = NO_IMAGES) -> str:
    state = fold(found)
    summary = Summary("run", "completed", state.prompt, "/w", state.began, state.seconds, state.usage)
    return report_page(summary, state, found, images)


PLAN = Plan(goal="g", subtasks=(subtask("a"), subtask("b"), subtask("c", "a", "b")))
PATCH = Patch(base_version=1, reason=HOSTILE, add=(subtask("d", "a"),), remove=("c",))
AFTER = Plan(goal="g", subtasks=(*PLAN.subtasks[:2], subtask("d", "a")), version=2)


# --- the timeline


def test_lanes_have_work_failures_waits_and_calls() -> None:
    found = at(
        (0, STARTED),
        (1, events.PlanProposed(plan=PLAN)),
        (1, started("a")),
        (2, failed("a", final=False)),
        (3, started("a", 2)),
        (4, spent("agent", "a")),
        (5, events.SubtaskWaiting(subtask="a", approval="q")),
        (7, events.ApprovalGiven(id="q", decision="yes")),
        (7, started("a", 3)),
        (8, finished("a")),
        (9, ended()),
    )
    lanes = timeline_of(fold(found), found).lanes
    assert [(lane.name, lane.bars) for lane in lanes] == [
        ("a", ((1, 2, "failed"), (3, 4, "model"), (3, 5, "work"), (5, 7, "person"), (7, 8, "work")))
    ]
    assert lanes[0].seconds == 4


def test_the_time_between_two_processes_is_left_out() -> None:
    found = at(
        (0, STARTED),
        (1, events.PlanProposed(plan=PLAN)),
        (1, started("a")),
        (2, spent("agent", "a")),
        (9_000, events.RunResumed(version="1")),
        (9_001, started("a", 2)),
        (9_002, finished("a")),
        (9_002, ended()),
        (99_000, events.FeedbackGiven(vote="good")),
    )
    timeline = timeline_of(fold(found), found)
    assert timeline.seconds == 4
    assert [bar.kind for bar in timeline.lanes[0].bars] == ["cut", "model", "work"]


def test_the_critical_path_follows_what_was_waited_for() -> None:
    found = at(
        (0, STARTED),
        (1, spent("planner")),
        (1, events.PlanProposed(plan=PLAN)),
        (1, started("a")),
        (1, started("b")),
        (2, finished("a")),
        (5, finished("b")),
        (6, started("c")),
        (7, finished("c")),
        (8, spent("answer")),
        (8, ended()),
    )
    timeline = timeline_of(fold(found), found)
    assert [name for _, name in timeline.path] == ["planner", "b", "c", "answer"]
    assert timeline.path_seconds == 7
    assert [bar for lane in timeline.lanes if lane.name == "c" for bar in lane.bars] == [
        (5, 6, "turn"),
        (6, 7, "work"),
    ]


def test_the_critical_path_passes_a_failure_that_was_revised() -> None:
    found = at(
        (0, STARTED),
        (1, events.PlanProposed(plan=PLAN)),
        (1, started("a")),
        (2, finished("a")),
        (2, started("b")),
        (6, failed("b")),
        (7, events.PlanRevised(plan=AFTER, patch=PATCH, cause="b failed: r")),
        (7, started("d")),
        (8, finished("d")),
        (8, ended()),
    )
    assert [name for _, name in timeline_of(fold(found), found).path] == ["b", "d"]


def test_the_recorded_demo_has_a_path_through_its_tool() -> None:
    found = list(read_journal(DEMO))
    path = timeline_of(fold(found), found).path
    assert path[:5] == (
        ("role", "planner"),
        ("tool", "file_fingerprint"),
        ("subtask", "before"),
        ("subtask", "in_place"),
        ("subtask", "grow"),
    )


# --- the drawing


def test_no_two_boxes_overlap_and_no_arrow_passes_behind_one() -> None:
    plan = Plan(
        goal="g", subtasks=tuple(subtask(f"s{n}", *(f"s{d}" for d in range(n % 3, n, 4))) for n in range(24))
    )
    for columns in (2, 5):
        grid = Grid(columns)
        drawing = drawing_of(nodes_of([plan], {}), grid)
        assert len({(box.x, box.y) for box in drawing.boxes}) == 24
        assert all(
            box.x + grid.width <= drawing.width and box.y + grid.height <= drawing.height
            for box in drawing.boxes
        )
        for arrow in drawing.arrows:
            if down := re.search(r"([\d.]+) ([\d.]+)V([\d.]+)C", arrow.path):
                x, top, bottom = map(float, down.groups())
                assert not [
                    box
                    for box in drawing.boxes
                    if box.x < x < box.x + grid.width and top < box.y + grid.height and box.y < bottom
                ]


def test_a_circle_is_drawn() -> None:
    plan = Plan(goal="g", subtasks=(subtask("a"), subtask("b", "c"), subtask("c", "b")))
    assert len(drawing_of(nodes_of([plan], {}), Grid(5)).boxes) == 3


# --- the rows


def test_costs_are_by_role_and_model_and_unpriced_calls_are_not_free() -> None:
    found = at(
        (0, STARTED), (1, spent("agent")), (2, spent("agent")), (3, spent("agent", model="n", cost=None))
    )
    rows = report_of(Summary.of_plan("p"), fold(found), found).costs
    assert [(row.model, row.usage.calls, row.usage.cost, row.usage.unpriced) for row in rows] == [
        ("m", 2, 1.0, 0),
        ("n", 1, 0.0, 1),
    ]


def test_files_name_who_changed_them_and_how() -> None:
    change = events.FileChange(path="x.txt", change="created", after_size=3)
    changed = events.FilesChanged(subtask="a", attempt=1, changes=(change,))
    found = at((0, STARTED), (1, events.PlanProposed(plan=PLAN)), (2, changed))
    (row,) = report_of(Summary.of_plan("p"), fold(found), found).files
    assert (row.path, row.change, row.sizes, row.by) == ("x.txt", "created", "3 B", ("a (agent, created)",))


def test_the_demo_has_its_tool_and_its_change() -> None:
    found = list(read_journal(DEMO))
    report = report_of(Summary.of_plan("p"), fold(found), found)
    tool = report.tools[0]
    assert (tool.name, tool.calls, tool.built is not None) == ("file_fingerprint", 2, True)
    assert [row.version for row in report.versions] == [2]
    assert [node.id for node in report.nodes if node.change == "new"] == ["grow", "in_place_again"]


# --- the page


class Parts(HTMLParser):
    """The elements of a page, their attributes, and its texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def hostile_run() -> list[Event]:
    """Every text of others is an attack."""
    bad = HOSTILE
    first = subtask("a", title=bad, instruction=bad, role=bad, inputs={"x": bad}, when=bad, tools=(bad,))
    plan = Plan(goal=bad, subtasks=(first, *PLAN.subtasks[1:]))
    after = Plan(goal=bad, subtasks=(*plan.subtasks[:2], subtask("d", "a", title=bad)), version=2)
    doc = FunctionDoc(name=bad, signature=bad, doc=bad)
    built = events.ToolBuilt(
        tool=bad, version=1, purpose=bad, functions=(doc,), permissions=bad, trial=(bad,), sha256="0",
        source=bad,
    )  # fmt: skip
    called = events.ToolCalled(subtask="a", attempt=1, tool=bad, arguments={}, outcome=bad, ok=False)
    change = events.FileChange(path=bad, change="created", after_size=3)
    asked = events.ApprovalAsked(id="q", what="question", subject=bad, question=bad, details=bad)
    return at(
        (0, STARTED.model_copy(update={"prompt": bad, "workspace": bad, "models": {"agent": bad}})),
        (1, events.PlanProposed(plan=plan)),
        (1, started("a")),
        (2, spent(bad, None, bad)),
        (2, called),
        (2, built),
        (2, events.ToolRefused(tool="other", reasons=(bad,))),
        (3, events.FilesChanged(subtask="a", attempt=1, changes=(change,))),
        (3, finished("a", bad)),
        (3, started("b")),
        (4, failed("b", reason=bad)),
        (4, events.PlanRevised(plan=after, patch=PATCH, cause=bad)),
        (5, asked),
        (6, events.ApprovalGiven(id="q", decision="answered", value=bad)),
        (7, events.Noticed(message=bad)),
        (7, events.Remarked(text=bad)),
        (8, ended(MARKDOWN).model_copy(update={"error": bad})),
        (9, events.FeedbackGiven(vote="bad", why=bad)),
    )


def test_nothing_that_others_wrote_becomes_markup() -> None:
    plain, hostile = Parts(page_of(list(read_journal(DEMO)))), Parts(page_of(hostile_run()))
    for page in (plain, hostile):
        assert {"script", "a", "img", "link", "iframe", "object", "form", "base", "image", "use"}.isdisjoint(
            page.tags
        )
        assert not [
            name for name, _ in page.attributes if name.startswith("on") or name in ("href", "src", "style")
        ]
        assert {name for name, value in page.attributes if "//" in value} <= {"aria-label"}
        assert page.tags.count("style") == 1
        style = [text for text in page.texts if ":root" in text]
        assert len(style) == 1
        assert "evil" not in style[0]
    titles = "".join(hostile.texts)
    assert "\x1b" not in titles
    assert "\u202e" not in titles
    assert "\\u{202e}gnp.exe" in titles
    assert "https://evil.example/l" in titles


def test_the_policy_allows_only_the_style_of_the_page() -> None:
    page = page_of(hostile_run())
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[\w+/=]{44}'; base-uri 'none'; form-action 'none'",
        policy[1].replace("&#39;", "'"),
    )
    assert page.index("Content-Security-Policy") < page.index("<style>")


def with_files() -> tuple[list[Event], PageImages]:
    """A run with attachments of hostile names, and images of them and of what it wrote."""
    first, *others = (event.data for event in hostile_run())
    assert isinstance(first, events.RunStarted)
    rows = [
        Attachment(name=f"{n}{HOSTILE}", path="/x", kind=kind, media="m/n", size=2_000, sha256="0", kept="0",
                   about=HOSTILE)
        for n, kind in enumerate(("image", "text", "audio"))
    ]  # fmt: skip
    begun = first.model_copy(update={"attachments": tuple(rows)})
    return at((0, begun), *((1, fact) for fact in others)), PageImages({rows[0].name: PNG}, {HOSTILE: PNG})


def test_attachments_and_images_are_on_the_page() -> None:
    page = page_of(*with_files())
    parts = Parts(page)
    assert [value for name, value in parts.attributes if name == "src"] == [PNG, PNG]
    assert not [name for name, _ in parts.attributes if name.startswith("on") or name in ("href", "style")]
    assert re.search(r"Content-Security-Policy.*; img-src data:; base-uri", page)
    assert {"Attached", "3 files", "image", "text", "audio"} <= {text.strip() for text in parts.texts}


def test_a_plan_and_a_run_without_one_have_pages() -> None:
    state = fold(at((0, STARTED), (1, events.PlanProposed(plan=PLAN))))
    assert report_page(Summary.of_plan("p"), RunState(), ())
    assert Parts(report_page(Summary.of_plan("p"), state, ())).tags.count("rect") == 6
    assert page_of(at((0, STARTED)))


def picture_of(found: list[Event]) -> str:
    return graph_picture(Summary.of_plan("p"), fold(found), found)


def test_the_picture_is_whole_by_itself() -> None:
    for found in (list(read_journal(DEMO)), hostile_run(), at((0, STARTED))):
        picture = picture_of(found)
        root = ElementTree.fromstring(picture)
        names = {element.tag.partition("}")[2] for element in root.iter()}
        assert names <= {"svg", "title", "style", "rect", "defs", "marker", "path", "text", "tspan"}
        assert not [
            name for element in root.iter() for name in element.attrib if name.startswith(("on", "href"))
        ]
        addresses = set(
            re.findall(r"url\(([^)]*)\)|(https?://[^\"]*)\"", re.sub(r"(?s)<title>.*?</title>", "", picture))
        )
        assert addresses <= {("#tip-alone", ""), ("", "http://www.w3.org/2000/svg")}
        assert "var(" not in picture
        assert "\x1b" not in picture


def test_the_picture_is_the_drawing_of_the_page() -> None:
    found = list(read_journal(DEMO))
    picture, page = ElementTree.fromstring(picture_of(found)), page_of(found)
    space = {"s": "http://www.w3.org/2000/svg"}
    boxes = [box.get("class") for box in picture.findall("s:svg", space)]
    assert boxes == re.findall(r'<svg class="(box [^"]*)"', page)[: len(boxes)]
    assert len(boxes) == len(fold(found).plan.subtasks)
    paths = [path.get("d") for path in picture.findall("s:path", space)]
    assert paths == re.findall(r'<path class="arrow" d="([^"]*)"', page)[: len(paths)]


def large_run() -> list[Event]:
    plan = Plan(
        goal="g",
        subtasks=tuple(
            subtask(
                f"part_{n}",
                *(f"part_{d}" for d in {n // 2, n // 3} if d < n),
                title=f"A part of the work, number {n}",
            )
            for n in range(200)
        ),
    )
    facts: list[tuple[float, Fact]] = [(0, STARTED), (1, events.PlanProposed(plan=plan))]
    for n in range(200):
        facts += [(n, started(f"part_{n}"))]
        facts += [(n + call / 20, spent("agent", f"part_{n}")) for call in range(10)]
        facts += [(n + 1, finished(f"part_{n}"))]
    return at(*facts, (201, ended()))


def test_a_large_run_is_rendered_quickly() -> None:
    found = large_run()
    state = fold(found)
    page_of(at((0, STARTED)))  # compiles the template
    began = time.process_time()
    page = report_page(Summary.of_plan("p"), state, found)
    assert time.process_time() - began < 1
    assert len(page) < 2_000_000


# --- a browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, list[str]]]:
    """A folder that is served on loopback, its address, and what was asked for."""
    folder, asked = tmp_path_factory.mktemp("site"), []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=folder)
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


MEASURE = """<!doctype html><body><iframe id=f src="page.html" width=WIDTH height=900></iframe><script>
f.onload = () => {
  const page = f.contentDocument, seen = page.documentElement, all = [...page.querySelectorAll("body *")];
  const visible = kind => all.filter(x => x.matches(kind) && x.getBoundingClientRect().width > 0).length;
  document.body.textContent = "FOUND" + JSON.stringify({
    width: seen.clientWidth, needed: seen.scrollWidth, boxes: visible(".box"), lanes: visible(".lane svg"),
    images: [...page.images].filter(x => x.naturalWidth > 0).length,
    background: f.contentWindow.getComputedStyle(page.querySelector("section")).borderRadius,
    scripts: f.contentWindow.alert.toString().includes("native"),
  }) + "END";
};
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("run", ["demo", "hostile", "large", "files"])
def test_the_page_fits_and_is_quiet_in_a_browser(
    site: tuple[Path, str, list[str]], tmp_path: Path, run: str, width: int
) -> None:
    images = NO_IMAGES
    if run == "files":
        found, images = with_files()
    else:
        found = {"demo": lambda: list(read_journal(DEMO)), "hostile": hostile_run, "large": large_run}[run]()
    folder, address, asked = site
    (folder / "page.html").write_text(page_of(found, images), encoding="utf-8")
    (folder / "frame.html").write_text(MEASURE.replace("WIDTH", str(width + 4)), encoding="utf-8")
    asked.clear()
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1700,1000")
    own = (f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--dump-dom", f"{address}/frame.html")
    done = subprocess.run(
        [str(CHROMIUM), *flags, *own], capture_output=True, text=True, timeout=90, check=True
    )
    seen = json.loads(re.search(r"FOUND(.*)END", done.stdout)[1])  # type: ignore[index]
    assert seen["needed"] <= seen["width"] <= width + 4
    assert seen["boxes"] == len(fold(found).plan.subtasks) + (run in ("hostile", "files"))
    assert seen["lanes"] > 1
    assert seen["background"] != "0px"  # the policy lets the style through
    assert seen["images"] == len(images.attached) + len(images.written)
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert set(asked) <= {"/frame.html", "/page.html", "/favicon.ico"}
