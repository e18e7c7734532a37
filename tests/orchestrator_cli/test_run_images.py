"""Images that a run wrote: drawn on terminals that can, and shown on its page."""

import base64
import io
import re
from collections.abc import Callable

import pytest
from attached_files import SEEING, image
from command import Orch
from endpoint import Endpoint
from PIL import Image
from scripted_model import Cast, code, coder, plan

DRAW = """
from PIL import Image
made = Image.new("RGBA", (900, 300), "red")
made.putpixel((0, 0), (0, 0, 0, 0))
made.save("chart.png")
open("bad.png", "wb").write(b"\\x89PNG\\r\\n\\x1a\\n" + bytes(50))
open("a.txt", "w").write("text")
final_answer("drawn")
"""
KITTY = {"TERM": "xterm-kitty"}
ITERM = {"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}
COMMAND = re.compile(r"\x1b_G([^;\x1b]*);?([^\x1b]*)\x1b\\")
QUERY = re.compile(r"\x1b\[(?:>?c|\d*6n|1[468]t|\?u)|a=q")
"""What a terminal would answer."""


@pytest.fixture
def drew(orch: Orch, endpoint: Endpoint) -> Orch:
    """After a run that wrote an image, a file that only has an image's name, and a text."""
    endpoint.reply = Cast(planner=[plan(coder("draw"))], agents={"Do draw": [code(DRAW)]})
    done = orch("ask", "Draw", "--approve", "none")
    assert (done.code, done.out) == (0, "drawn\n"), done.err
    assert "chart.png" in done.err
    return orch


def drawn(shown: str) -> list[Image.Image]:
    """The images that a terminal like kitty or iTerm2 draws; it would answer a command without q=2."""
    found, data = [], ""
    for keys, piece in COMMAND.findall(shown):
        row = dict(key.split("=") for key in keys.split(","))
        assert row["q"] == "2"
        data += piece
        if row["m"] == "0":
            found.append(data)
            data = ""
    found += re.findall(r"\x1b\]1337;File=[^:]*:([^\x07]*)\x07", shown)
    return [Image.open(io.BytesIO(base64.b64decode(one))) for one in found]


@pytest.mark.parametrize("terminal", [KITTY, ITERM])
def test_an_image_is_drawn_small_on_a_terminal_that_can(drew: Orch, terminal: dict[str, str]) -> None:
    done = drew.at_terminal("attach", "last", typed="", **terminal)
    (found,) = drawn(done.out)
    assert (done.code, found.format, found.size, found.mode) == (0, "PNG", (640, 213), "RGB")
    assert found.getpixel((300, 100)) == (255, 0, 0)
    assert done.out.index("a.txt") < done.out.rindex("chart.png")
    assert not QUERY.search(done.out)


def test_nothing_is_drawn_or_asked_elsewhere(drew: Orch) -> None:
    for env in (
        {"TERM": "xterm-256color"},
        {"TERM": "dumb"},
        KITTY | {"TMUX": "/tmp/x,1,0"},
        ITERM | {"SSH_CONNECTION": "127.0.0.1 1 127.0.0.1 22"},
        KITTY | {"ORCH_SHOW_IMAGES": "false"},
    ):
        done = drew.at_terminal("attach", "last", typed="", **env)
        assert (done.code, drawn(done.out), QUERY.search(done.out)) == (0, [], None), env
    for done in (
        drew.at_terminal("attach", "last", "-q", typed="", **KITTY),
        drew("attach", "last", **KITTY),
    ):
        assert (done.code, drawn(done.out + done.err)) == (0, [])


def test_what_is_no_longer_as_the_run_left_it_is_not_drawn(drew: Orch) -> None:
    image(drew.workspace / "chart.png")
    assert drawn(drew.at_terminal("attach", "last", typed="", **KITTY).out) == []


def test_the_name_above_an_image_is_one_line_with_its_hidden_signs(orch: Orch, endpoint: Endpoint) -> None:
    name = "n\nFORGED done\x1b[2J\u202e.png"
    made = DRAW.replace('"chart.png"', repr(name))
    endpoint.reply = Cast(planner=[plan(coder("draw"))], agents={"Do draw": [code(made)]})
    assert orch("ask", "Draw", "--approve", "none").code == 0
    done = orch.at_terminal("attach", "last", typed="", **KITTY)
    assert len(drawn(done.out)) == 1
    shown = r"n\nFORGED done\x1b[2J\u{202e}.png"
    assert done.out.count(shown) >= 2  # in the list of files, and above the image
    assert not re.search(r"^\s*FORGED", done.out, re.MULTILINE)
    page = orch("show", "last", "--format", "html").out
    assert "n\nFORGED" not in page
    assert f"<dd>a.txt, bad.png, {shown}</dd>" in page


def of_kitty(sent: bytes) -> bytes:
    """What kitty sends back: its attributes, and whether it could draw unless it is to be quiet."""
    drew = re.findall(rb"\x1b_G(?![^;\x1b]*q=2)[^\x1b]*\x1b", sent)
    return b"\x1b[?62;c" * sent.count(b"\x1b[c") + b"\x1b_Gi=1;OK\x1b\\" * len(drew)


@pytest.mark.parametrize("answers", [of_kitty, lambda _: b""])
def test_keys_that_are_typed_meanwhile_are_kept(
    orch: Orch, endpoint: Endpoint, answers: Callable[[bytes], bytes]
) -> None:
    many = DRAW.replace("made.save", 'for n in range(6): made.save(f"{n}.png")\nmade.save')
    endpoint.reply = Cast(planner=[plan(coder("draw"))], agents={"Do draw": [code(many)]})
    env = {**KITTY, "PROMPT_TOOLKIT_NO_CPR": "1", "ORCH_APPROVE": "[]"}
    done = orch.at_terminal(typed="Draw\rexit\r", answers=answers, **env)
    assert (done.code, len(drawn(done.out))) == (0, 4)


def test_the_page_has_images_of_prompt_and_run(orch: Orch, endpoint: Endpoint) -> None:
    cast = Cast(planner=[plan(coder("draw"))], agents={"Do draw": [code(DRAW)]})
    endpoint.reply = lambda request, n: cast(request, n)
    note = orch.workspace.parent / "note.txt"
    note.write_text("a note")
    given = image(orch.workspace.parent / "given.png", (20, 10))
    sees = {"ORCH_VISION_MODELS": f'["{SEEING}", "openai/agent"]'}
    done = orch("ask", "Draw", "--attach", str(given), "--attach", str(note), **sees)
    assert done.code == 0, done.err
    page = orch("show", "last", "--format", "html").out
    shown = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)"', page)
    assert [name for _, name in shown] == ["given.png", "chart.png"]
    sizes = [Image.open(io.BytesIO(base64.b64decode(data))).size for data, _ in shown]
    assert sizes == [(20, 10), (640, 213)]
    assert "note.txt" in page
