"""Records a real `orch demo` on a terminal, and draws it: python docs/record.py [--draw]

Writes `docs/demo.cast`, in asciicast v2 (asciinema plays it), and from it `docs/demo.svg`, which plays in any
browser without a script. With `--draw`, the recording is kept and only the picture is made again.

Not covered: sizes of a terminal that change meanwhile, and signs of more than one column.
"""

import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import pexpect
import pyte

HERE = Path(__file__).parent
CAST, PICTURE = HERE / "demo.cast", HERE / "demo.svg"
COLUMNS, ROWS = 96, 28
LONGEST_S = 1.0
"""A pause of the recording is no longer in the picture."""
APART_S = 0.2
"""Screens that follow sooner are not in the picture."""
LAST_S = 8.0
"""How long the last screen is shown before the picture begins again."""
COLUMN, ROW, EDGE = 8.43, 18, 14
COLOURS = {
    "black": "#5c6773", "red": "#ff7b72", "green": "#7ee787", "brown": "#e3b341", "blue": "#79c0ff",
    "magenta": "#d2a8ff", "cyan": "#76e3ea", "white": "#e6edf3", "default": "#d7dde5",
}  # fmt: skip
STYLE = (
    "text{font:14px ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre;"
    "fill:#d7dde5}.b{font-weight:700}.d{opacity:.6}g{visibility:hidden}"
)


def main() -> int:
    if "--draw" not in sys.argv:
        CAST.write_text(record(), encoding="utf-8")
    PICTURE.write_text(drawing(CAST.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def record() -> str:
    """The recording of a demo that runs in an empty home."""
    with tempfile.TemporaryDirectory() as home:
        env = {
            "PATH": os.environ["PATH"], "HOME": home, "ORCH_HOME": f"{home}/data", "LC_ALL": "C.UTF-8",
            "TERM": "xterm-256color", "ORCH_RESIDENT": "never",
        }  # fmt: skip
        orch = str(Path(sys.executable).with_name("orch"))
        # The first run of a machine imports, tests the sandbox and starts Prefect; the second shows the work.
        for events in (_events(orch, home, env), _events(orch, home, env)):
            found = list(events)
        server = Path(home, "data", "prefect", "server.json")
        if server.is_file():
            os.kill(json.loads(server.read_text(encoding="utf-8"))["pid"], 15)
            time.sleep(2)
    head = {"version": 2, "width": COLUMNS, "height": ROWS, "title": "orch demo"}
    rows = [head, [0.0, "o", "$ orch demo\r\n"], *found]
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def _events(orch: str, home: str, env: dict[str, Any]) -> Iterator[list[Any]]:
    child = pexpect.spawn(
        orch, ["demo"], cwd=home, env=env, dimensions=(ROWS, COLUMNS), encoding="utf-8", timeout=120
    )
    began = time.monotonic()
    while True:
        try:
            text = child.read_nonblocking(65_536, timeout=120)
        except pexpect.EOF:
            break
        yield [round(time.monotonic() - began, 3), "o", text.replace(home, "/home/ada")]
    child.close()
    if child.exitstatus:
        raise SystemExit(f"orch demo ended with exit code {child.exitstatus}")


class Frame(NamedTuple):
    """A screen, and the second at which it is seen first."""

    at: float
    lines: tuple[str, ...]
    """What each holds, as SVG; empty if nothing is on it."""


def frames(cast: str) -> list[Frame]:
    """The screens of a recording that differ, with long pauses made short."""
    head, *rows = map(json.loads, cast.splitlines())
    screen = pyte.Screen(head["width"], head["height"])
    stream = pyte.Stream(screen)
    found: list[Frame] = []
    at, before = 0.0, 0.0
    for row, after in itertools.zip_longest(rows, rows[1:]):
        stream.feed(row[2])
        at += min(row[0] - before, LONGEST_S)
        before = row[0]
        if after is not None and (after[0] - row[0] < 0.05 or (found and at - found[-1].at < APART_S)):
            continue
        lines = tuple(_line(screen, number) for number in range(screen.lines))
        if not found or lines != found[-1].lines:
            found.append(Frame(at, lines))
    return found


def _line(screen: pyte.Screen, number: int) -> str:
    """What a line of the screen holds, as SVG."""
    cells = [screen.buffer[number][column] for column in range(screen.columns)]
    spans = []
    column = 0
    for look, group in itertools.groupby(cells, key=lambda cell: (cell.fg, cell.bold)):
        text = "".join(cell.data for cell in group)
        if text.strip():
            spans.append(_span(text, column, *look))
        column += len(text)
    return "".join(spans)


def _span(text: str, column: int, colour: str, bold: bool) -> str:
    lead = len(text) - len(text.lstrip())
    fill = "" if colour == "default" else f' fill="{COLOURS.get(colour, colour)}"'
    style = ' class="b"' if bold else ""
    # Each word at its column, whatever the width of the font that the reader has.
    body = text.strip()
    return (
        f'<tspan x="{EDGE + COLUMN * (column + lead):.1f}" textLength="{COLUMN * len(body):.1f}" '
        f'lengthAdjust="spacingAndGlyphs"{fill}{style}>{escape(body)}</tspan>'
    )


def drawing(cast: str) -> str:
    """The recording as an SVG that moves by itself; who wants no motion sees its last screen."""
    found = frames(cast)
    head = json.loads(cast.partition("\n")[0])
    total = found[-1].at + LAST_S
    width, height = round(COLUMN * head["width"]) + 2 * EDGE, ROW * head["height"] + 2 * EDGE
    return "".join((
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" ',
        f'viewBox="0 0 {width} {height}" role="img"><title>A recorded session: {head["title"]}</title>',
        f"<style>{STYLE}{_motion(found, total)}</style>",
        f'<rect width="{width}" height="{height}" rx="10" fill="#10151c"/>',
        *_shown(frame.lines for frame in found),
        "</svg>\n",
    ))  # fmt: skip


def _shown(screens: Iterable[Sequence[str]]) -> Iterator[str]:
    """The screens as SVG. A line that is on several of them is there once."""
    names: dict[str, str] = {}
    groups = []
    for number, lines in enumerate(screens):
        uses = [
            f'<use href="#{names.setdefault(line, f"l{len(names)}")}" y="{EDGE + ROW * (row + 1) - 4}"/>'
            for row, line in enumerate(lines)
            if line
        ]
        groups.append(f'<g id="f{number}">{"".join(uses)}</g>\n')
    texts = (f'<text id="{name}">{line}</text>\n' for line, name in names.items())
    return itertools.chain(("<defs>\n",), texts, ("</defs>\n",), groups)


def _motion(found: Sequence[Frame], total: float) -> str:
    """The style that shows one frame after the other."""
    last = len(found) - 1
    rules = [f"#f{last}{{visibility:visible}}", "@media (prefers-reduced-motion:no-preference){"]
    for number, frame in enumerate(found):
        start = 100 * frame.at / total
        end = 100 * found[number + 1].at / total if number < last else 100
        before = "0%{visibility:hidden}" if number else ""
        rules.append(
            f"@keyframes k{number}{{{before}{start:.2f}%{{visibility:visible}}"
            f"{end:.2f}%{{visibility:{'hidden' if number < last else 'visible'}}}"
            f"{'100%{visibility:hidden}' if number < last else ''}}}"
            f"#f{number}{{animation:k{number} {total:.1f}s step-end infinite}}"
        )
    return "".join([*rules, "}"])


if __name__ == "__main__":
    sys.exit(main())
