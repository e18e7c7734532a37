"""How many subtasks of one role run at once."""

import itertools

from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, code, coder, plan

from orchestrator_cli.plan import Subtask, role_has_room


def of(role: str | None) -> Subtask:
    return Subtask(id="one", title="One", kind="agent" if role else "tool", role=role)


def test_a_role_with_a_limit_has_room_until_as_many_run() -> None:
    assert role_has_room(of("coder"), {"coder": 1, "writer": 9}, {"coder": 2})
    assert not role_has_room(of("coder"), {"coder": 2}, {"coder": 2})


def test_what_has_no_role_or_no_limit_always_has_room() -> None:
    assert role_has_room(of("writer"), {"writer": 50}, {"coder": 1})
    assert role_has_room(of(None), {None: 50}, {"coder": 1})


def test_a_role_that_may_run_once_is_never_running_twice(orch: Orch, endpoint: Endpoint) -> None:
    names = ["one", "two", "three"]
    slowly = {"content": code("final_answer('done')"), "sleep": 0.5}
    endpoint.reply = Cast(
        planner=[plan(*map(coder, names))], agents={f"Do {name}": [slowly] for name in names}
    )
    done = orch("ask", "Do three things.", ORCH_MAX_PARALLEL_ROLES='{"coder": 1}')
    assert done.code == 0, done.err
    calls = sorted(endpoint.of("agent"), key=lambda call: call.arrived)
    assert len(calls) == len(names)
    assert all(before.answered <= after.arrived for before, after in itertools.pairwise(calls))
