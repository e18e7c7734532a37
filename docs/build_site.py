"""Builds the pages as a site that needs no network: python docs/build_site.py [FOLDER]

The pages are those of docs/, README.md, CONTRIBUTING.md and CHANGELOG.md. A link to a file that is not one
of them, such as a module, becomes its words. A link to a page or a heading that is not there ends the build.
Beside each page of the site is its Markdown, and `llms.txt` lists them for models.

Not covered: the search, when the pages are opened as files and not served.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
CODE = re.compile(r"^(`{3,}).*?^\1$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!--.*?-->\n?", re.DOTALL)
ABOUT_CHARS = 200


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist" / "site"
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        sources = dict(_stage(place / "pages"))
        config = _config(name for name in sources if name.startswith("commands/"))
        (place / "zensical.toml").write_text(config, encoding="utf-8")
        program = [Path(sys.executable).with_name("zensical"), "build", "--strict"]
        done = subprocess.run(program, cwd=place, text=True, capture_output=True, check=False, timeout=300)
        if done.returncode:
            said = re.sub(r"\x1b\[[\d;]*m", "", f"{done.stdout}{done.stderr}")  # coloured
            raise SystemExit(said.partition("Traceback")[0])
        for name, text in sources.items():
            (place / "site" / name).write_text(text, encoding="utf-8")
        (place / "site" / "llms.txt").write_text("".join(llms(config, sources)), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(place / "site", folder)
    sys.stdout.write(f"{folder / 'index.html'}: {len(sources)} pages\n")
    return 0


def _config(commands: Iterable[str]) -> str:
    """The settings of the builder, with the pages of the commands."""
    names = ", ".join(f'"{name}"' for name in commands)
    return (DOCS / "zensical.toml").read_text(encoding="utf-8").replace('"commands/*.md"', names)


def _stage(pages: Path) -> Iterator[tuple[str, str]]:
    """Put all that the site is made of into a folder. Yields each page's name and text."""
    for path in (*(ROOT / name for name in TOP), *sorted(DOCS.rglob("*.md"))):
        name = page_name(path)
        text = MARK.sub("", with_links_of_site(path))
        (pages / name).parent.mkdir(parents=True, exist_ok=True)
        (pages / name).write_text(text, encoding="utf-8")
        yield name, text
    for pattern in ("*.png", "*.svg", "*.cast"):
        for path in DOCS.glob(pattern):
            shutil.copy(path, pages)


def page_name(path: Path) -> str:
    """Where a page of the project is in the site, which takes a README for the page of its folder."""
    if path == ROOT / "README.md":
        return "quick-start.md"
    return str(path.relative_to(DOCS if path.is_relative_to(DOCS) else ROOT))


def with_links_of_site(path: Path) -> str:
    """The text of a page with links that are true in the site."""
    text = path.read_text(encoding="utf-8")
    parts, at = [], 0
    for block in CODE.finditer(text):
        parts += [LINK.sub(lambda match: _link(match, path), text[at : block.start()]), block[0]]
        at = block.end()
    return "".join([*parts, LINK.sub(lambda match: _link(match, path), text[at:])])


def _link(match: re.Match[str], page: Path) -> str:
    image, label, address = match.groups()
    name, _, anchor = address.partition("#")
    if "://" in address or not name:
        return match[0]
    target = (page.parent / name).resolve()
    if not target.exists():
        raise SystemExit(f"{page.relative_to(ROOT)}: {address} is not there.")
    if target.suffix == ".md" and (target.is_relative_to(DOCS) or target in [ROOT / top for top in TOP]):
        there = os.path.relpath(page_name(target), Path(page_name(page)).parent)
        return f"[{label}]({there}{'#' if anchor else ''}{anchor})"
    if target.is_relative_to(DOCS) and target.is_file() and (image or target.suffix == ".cast"):
        return match[0]
    return label if "`" in label else f"`{label}`"


def llms(config: str, sources: dict[str, str]) -> Iterator[str]:
    """The lines of `llms.txt`: what each page is about, with a link to its Markdown."""
    project: dict[str, Any] = tomllib.loads(config)["project"]
    yield f"# {project['site_name']}\n\n> {project['site_description']}\n"
    for group in project["nav"]:
        for title, pages in group.items():
            yield f"\n## {title}\n\n"
            for page in pages:
                yield _line(*(next(iter(page.items())) if isinstance(page, dict) else ("", page)), sources)


def _line(title: str, name: str, sources: dict[str, str]) -> str:
    head, about = _head(sources[name])
    return f"- [{title or head}]({name}): {about}\n"


def _head(text: str) -> tuple[str, str]:
    """The title of a page, and the beginning of its first paragraph."""
    title = re.search(r"^# (.*)$", text, re.MULTILINE)
    words = re.search(r"^(?!#|`{3}|\||!|<)\S.*$", text, re.MULTILINE)
    about = re.sub(LINK, r"\2", words[0]) if words else ""
    short = about if len(about) <= ABOUT_CHARS else f"{about[:ABOUT_CHARS].rpartition(' ')[0]} …"
    return title[1] if title else "", short


if __name__ == "__main__":
    sys.exit(main())
