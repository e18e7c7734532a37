"""An agent looks at an image of its checkout."""

from typing import Any

import pytest
from attached_files import SEEING, image, size_of
from command import Orch
from endpoint import Endpoint, Reply, call, fault, images_of
from scripted_model import Cast, caller, coder, plan

SEES = {"ORCH_MODELS__AGENT": SEEING}
DRAW = """
from PIL import Image
Image.new("RGB", (30, 20), "red").save("chart.png")
print(read_image("chart.png"))
"""


def agent(*lines: Reply) -> Any:
    left = list(lines)

    def reply(request: dict[str, Any]) -> Reply:
        return left.pop(0) if left else fault(400, "no more")

    return reply


def play(planned: str, *lines: Reply, seeing: str = "gpt-4o") -> Any:
    cast, ours = Cast(planner=[planned]), agent(*lines)
    return lambda request, n: ours(request) if request["model"] == seeing else cast(request, n)


def test_a_coder_sees_the_chart_that_it_drew(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = play(
        plan(coder("draw")), f"I draw.\n<code>{DRAW}</code>", "<code>final_answer('a red chart')</code>"
    )
    done = orch("ask", "Draw", **SEES)
    assert (done.code, done.out) == (0, "a red chart\n"), done.err
    first, second = (one.request for one in endpoint.of("gpt-4o"))
    assert "read_image" in str(first["messages"][0])
    assert [size_of(one) for one in images_of(second)] == [("PNG", (30, 20))]
    assert images_of(first) == []
    (called,) = orch.events("ToolCalled")
    assert (called["tool"], called["ok"]) == ("read_image", True)


def test_a_caller_sees_images_beside_results(orch: Orch, endpoint: Endpoint) -> None:
    for n in range(6):
        image(orch.workspace / f"{n}.png", (n + 1, 1))
    looks = [call("read_image", {"path": f"{n}.png"}, f"c{n}") for n in range(6)]
    endpoint.reply = play(
        plan(caller("look", tools=["read_file"])), *looks, call("final_answer", {"answer": "six"})
    )
    assert orch("ask", "Look", **SEES).code == 0
    last = endpoint.of("gpt-4o")[-1].request
    assert [size_of(one)[1][0] for one in images_of(last)] == [3, 4, 5, 6]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("none.png", "none.png"),
        ("../x.png", ".."),
        ("a.txt", "no PNG"),
        ("link.png", "link"),
        ("bad.png", ""),
    ],
)
def test_what_is_no_image_of_the_checkout_is_refused(
    orch: Orch, endpoint: Endpoint, path: str, why: str
) -> None:
    image(orch.workspace.parent / "x.png")
    (orch.workspace / "a.txt").write_text("text")
    (orch.workspace / "link.png").symlink_to(orch.workspace.parent / "x.png")
    (orch.workspace / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    endpoint.reply = play(
        plan(caller("look", tools=["read_image"])),
        call("read_image", {"path": path}),
        call("final_answer", {"answer": "none"}, "c2"),
    )
    assert orch("ask", "Look", **SEES).code == 0
    (called,) = orch.events("ToolCalled")
    assert (called["ok"], why in called["outcome"]) == (False, True), called
    assert images_of(endpoint.of("gpt-4o")[-1].request) == []


@pytest.mark.parametrize(
    ("subtask", "model"),
    [(coder("draw", tools=["read_image"]), "openai/gpt-3.5-turbo"), (caller("draw"), SEEING)],
)
def test_it_is_not_offered_to_agents_that_do_not_see_or_read(
    orch: Orch, endpoint: Endpoint, subtask: dict[str, Any], model: str
) -> None:
    name = model.partition("/")[2]
    answer: Reply = "<code>final_answer('x')</code>"
    if subtask["role"] != "coder":
        answer = call("final_answer", {"answer": "x"})
    endpoint.reply = play(plan(subtask), answer, seeing=name)
    done = orch("ask", "Draw", ORCH_MODELS__AGENT=model)
    assert done.code == 0, done.err
    assert "read_image" not in str(endpoint.of(name)[0].request)
