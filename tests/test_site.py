"""The pages as a site: what it is made of, that it loads nothing from elsewhere, and how it looks."""

import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from documents import DOCS, record

ROOT = Path(__file__).parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PAGES = ("index", "quick-start", "loop", "settings", "commands/ask")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, DOCS / "build_site.py", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder


# --- what it is made of


def test_every_page_is_in_the_site_with_its_markdown(built):
    names = {path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md")}
    names |= {Path("quick-start"), Path("CONTRIBUTING"), Path("CHANGELOG")}
    assert {name for name in names if not (built / name.with_suffix(".html")).is_file()} == set()
    assert {name for name in names if not (built / name.with_suffix(".md")).is_file()} == set()


def test_every_page_is_in_the_list_for_models_and_in_the_navigation(built):
    text = (built / "llms.txt").read_text(encoding="utf-8")
    listed = re.findall(r"^- \[[^\]]+\]\(([^)]+)\): \S", text, re.MULTILINE)
    assert sorted(listed) == sorted(str(path.relative_to(built)) for path in built.rglob("*.md"))
    assert text.startswith("# orch\n\n> ")


def test_links_of_the_markdown_stay_in_the_site(built):
    broken = []
    for page in built.rglob("*.md"):
        text = re.sub(r"(?ms)^(`{3,}).*?^\1$|`[^`\n]*`", "", page.read_text(encoding="utf-8"))
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            name = link.partition("#")[0]
            if "://" not in link and name and not (page.parent / name).is_file():
                broken.append((page.name, link))
    assert broken == []


def test_no_page_loads_anything_from_elsewhere(built):
    loads = re.compile(r"<(?:script|img|link|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?(https?:)?//")
    styles = re.compile(r"(@import|url\()\s*[\"']?(https?:)?//")
    assert [page.name for page in built.rglob("*.html") if loads.search(page.read_text())] == []
    assert [sheet.name for sheet in built.rglob("*.css") if styles.search(sheet.read_text())] == []


@pytest.mark.parametrize(
    "text",
    ["[x](nowhere.md)", "[x](runs.md#nothing)", "![x](missing.svg)", "[x](../orchestrator_cli/nothing.py)"],
    ids=["page", "heading", "image", "module"],
)
def test_a_broken_link_ends_the_build(tmp_path, text):
    place = tmp_path / "docs"
    shutil.copytree(DOCS, place, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.suffix == ".md":
            shutil.copy(path, tmp_path)
        elif path != DOCS:
            (tmp_path / path.name).symlink_to(path)
    with (place / "loop.md").open("a", encoding="utf-8") as page:
        page.write(f"\n{text}\n")
    command = [sys.executable, place / "build_site.py", tmp_path / "site"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "loop.md" in done.stderr


# --- the recorded session


def recording() -> tuple[dict[str, Any], list[list[Any]]]:
    head, *rows = map(json.loads, (DOCS / "demo.cast").read_text(encoding="utf-8").splitlines())
    return head, rows


def test_the_recording_is_an_asciicast_of_a_whole_demo():
    head, rows = recording()
    assert (head["version"], head["width"], head["height"]) == (2, 96, 28)
    assert {kind for _, kind, _ in rows} == {"o"}
    assert [at for at, _, _ in rows] == sorted(at for at, _, _ in rows)
    text = "".join(text for _, _, text in rows)
    assert re.search(r"done  .* calls", re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text))
    assert str(ROOT) not in text
    assert "/tmp" not in text


def test_the_picture_is_made_of_the_recording():
    assert record.drawing((DOCS / "demo.cast").read_text(encoding="utf-8")) == (DOCS / "demo.svg").read_text(
        encoding="utf-8"
    )


def test_the_picture_shows_one_screen_after_the_other():
    rows = [
        {"version": 2, "width": 20, "height": 3, "title": "t"},
        [0.0, "o", "<one>\r\n"],
        [0.5, "o", "\x1b[1;32mtwo\x1b[0m x"],
        [60.0, "o", "\r\x1b[2Kthree"],
    ]
    cast = "\n".join(map(json.dumps, rows))
    found = record.frames(cast)
    assert [frame.at for frame in found] == [0.0, 0.5, 1.5]
    assert all("&lt;one&gt;" in frame.lines[0] for frame in found)
    assert ["two" in "".join(frame.lines) for frame in found] == [False, True, False]
    assert 'fill="#7ee787" class="b">two<' in found[1].lines[1]
    picture = record.drawing(cast)
    assert picture.count("&lt;one&gt;") == 1
    assert "<script" not in picture


# --- a browser


@pytest.fixture(scope="module")
def served(built: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of the site on loopback, and the requests that failed."""
    failed: list[str] = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            if int(code) >= 400:
                failed.append(self.path)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=built)
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", failed
        server.shutdown()


MEASURE = """<!doctype html><body><script>
const found = {}, pages = PAGES;
const next = () => {
  const name = pages.shift();
  if (!name) { document.body.textContent = "FOUND" + JSON.stringify(found) + "END"; return; }
  const frame = document.createElement("iframe");
  frame.width = WIDTH; frame.height = 900; frame.src = name + ".html";
  frame.onload = () => setTimeout(() => {
    const page = frame.contentDocument, seen = page.documentElement;
    found[name] = {
      width: seen.clientWidth, needed: seen.scrollWidth, title: page.querySelector("h1").textContent,
      font: frame.contentWindow.getComputedStyle(page.body).fontFamily,
      images: [...page.images].map(one => one.naturalWidth > 0),
    };
    frame.remove(); next();
  }, 300);
  document.body.append(frame);
};
next();
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.parametrize("width", [400, 1600])
def test_the_site_fits_and_is_quiet_in_a_browser(built, served, tmp_path, width):
    address, failed = served
    measure = MEASURE.replace("PAGES", json.dumps(PAGES)).replace("WIDTH", str(width + 4))
    (built / "measure.html").write_text(measure, encoding="utf-8")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1700,1000")
    # Not even the browser itself reaches anything else; what a page wanted from there is an error.
    alone = (
        "--disable-background-networking",
        "--disable-component-update",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    )
    own = (f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--virtual-time-budget=60000")
    done = subprocess.run(
        [str(CHROMIUM), *flags, *alone, *own, "--dump-dom", f"{address}/measure.html"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "CONSOLE" not in done.stderr
    assert set(failed) <= {"/favicon.ico"}  # of the page that measures
    match = re.search("FOUND(.*)END", done.stdout)
    assert match
    found = json.loads(match[1])
    assert set(found) == set(PAGES)
    for name, seen in found.items():
        assert seen["needed"] <= seen["width"], name
        assert all(seen["images"]), name
    assert found["index"]["images"]
