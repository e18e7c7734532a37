"""Which model is asked, what follows when it fails, and how long a run may take."""

import pytest
from command import Orch
from endpoint import Endpoint, call, fault
from scripted_model import Cast, answered, caller, coder, plan

FINISH = call("final_answer", {"answer": "done"})


def test_each_role_asks_its_own_model(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(
        planner=[plan(caller("one"), caller("two"))], agents={"Do one": [FINISH], "Do two": [FINISH]}
    )
    assert orch("ask", "Do both.").code == 0
    assert sorted(e.model for e in endpoint.exchanges) == ["agent", "agent", "answer", "planner"]


def test_a_role_file_may_name_a_model_of_its_own(orch: Orch, endpoint: Endpoint) -> None:
    (orch.home / "roles").mkdir()
    (orch.home / "roles" / "poet.md").write_text(
        "---\nname: poet\nwhen: writes verse.\nagent: tools\nmodel: openai/muse\n---\nRhyme."
    )
    cast = Cast(planner=[plan(caller("one", role="poet"))])
    endpoint.reply = lambda request, n: FINISH if request["model"] == "muse" else cast(request, n)
    assert orch("ask", "Write a verse.").code == 0
    assert [e.model for e in endpoint.exchanges] == ["planner", "muse"]
    assert "- poet: writes verse." in endpoint.of("planner")[0].text
    assert "Rhyme." in endpoint.of("muse")[0].text


def test_the_flag_is_the_model_of_every_role_that_has_none(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = lambda request, n: answered(f"from {request['model']}")
    done = orch("ask", "-q", "-m", "openai/mine", "Who?", ORCH_MODELS__PLANNER="")
    assert done.out == "from mine\n"


def test_a_fallback_is_asked_when_the_first_model_fails(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = lambda request, n: (
        answered("from the spare") if request["model"] == "spare" else fault(401, "bad key")
    )
    done = orch("ask", "Who?", ORCH_FALLBACKS='["openai/broken", "openai/spare"]')
    assert (done.code, done.out) == (0, "from the spare\n")
    assert [e.model for e in endpoint.exchanges] == ["planner", "broken", "spare"]
    assert "Asking openai/spare instead." in done.err


@pytest.mark.parametrize("who", ["planner", "agent"])
def test_a_time_limit_ends_the_run_with_exit_code_124(orch: Orch, endpoint: Endpoint, who: str) -> None:
    late = {"content": "late", "sleep": 60}
    endpoint.reply = Cast(
        planner=[late if who == "planner" else plan(coder("one"))], agents={"Do one": [late]}
    )
    done = orch("ask", "--timeout", "3", "Do it.")
    assert done.code == 124
    assert "took longer than its 3 s" in done.error
    assert "--timeout" in done.error
    assert done.seconds < 8
    assert orch.remains() == []


def test_an_unpriced_model_is_reported_as_unpriced_and_not_as_free(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[answered("hello"), answered("hello")])
    assert "unpriced" in orch("ask", "Hello?").err
    assert orch("ask", "--json", "Hello?").envelope["usage"]["unpriced"] == 1
