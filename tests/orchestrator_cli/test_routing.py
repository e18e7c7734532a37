"""Which role does a subtask, as pure rules: confirmed, or changed for a reason that can be read."""

from hypothesis import given
from hypothesis import strategies as st

from orchestrator_cli.plan import Catalogue, Patch, Plan, Subtask
from orchestrator_cli.planning.patching import apply
from orchestrator_cli.planning.planner import RoleCard
from orchestrator_cli.planning.routing import (
    ENOUGH,
    PastOutcome,
    RoutingEvidence,
    chosen_model,
    is_named,
    past_outcomes,
    record_of,
    route,
    route_patch,
)

CARDS = (
    RoleCard(name="coder", when="", agent="code"),
    RoleCard(name="researcher", when="", agent="tools"),
    RoleCard(name="reader", when="", agent="tools", model="openai/small"),
    RoleCard(name="writer", when="", agent="tools"),
)
NAMES = [card.name for card in CARDS]
KIND = {card.name: card.agent for card in CARDS}
CATALOGUE = Catalogue(roles=frozenset(NAMES), tools=frozenset({"read_file"}))


def agent(name: str = "look", role: str = "researcher", *tools: str) -> Subtask:
    return Subtask(id=name, title=name, kind="agent", role=role, tools=tools, instruction="Look.")


def plan(*subtasks: Subtask) -> Plan:
    return Plan(goal="g", subtasks=subtasks)


def outcomes(
    role: str, done: int, failed: int, *tools: str, cost: float | None = None, model: str | None = None
) -> tuple[PastOutcome, ...]:
    return tuple(
        PastOutcome(role=role, tools=tools, ok=n < done, cost=cost, model=model) for n in range(done + failed)
    )


def chosen(subtask: Subtask, *known: PastOutcome, prompt: str = "", **unasked: str) -> str | None:
    evidence = RoutingEvidence(cards=CARDS, outcomes=known, prompt=prompt, model="m", unasked=unasked)
    return route(plan(subtask), evidence).subtasks[0].role


def test_a_choice_without_a_record_is_the_planners_and_says_so():
    found = route(plan(agent()), RoutingEvidence(cards=CARDS, model="openai/large"))
    (choice,) = found.routes
    assert found.subtasks == (agent(),)
    assert (choice.role, choice.model, choice.reason, choice.planned) == (
        "researcher",
        "openai/large",
        "as planned",
        True,
    )


def test_a_role_that_fails_at_such_work_gives_it_to_one_of_its_kind_that_does_not():
    known = (*outcomes("researcher", 0, 5, "read_file"), *outcomes("writer", 6, 0, "read_file", cost=0.02))
    found = route(
        plan(agent("look", "researcher", "read_file")), RoutingEvidence(cards=CARDS, outcomes=known)
    )
    (choice,) = found.routes
    assert found.subtasks[0].role == choice.role == "writer"
    assert choice.instead_of == "researcher"
    assert choice.reason == (
        "instead of researcher, who did 0 of 5 such subtasks; writer did 6 of 6, for $0.0200"
    )


def test_success_at_other_work_does_not_count():
    known = (*outcomes("researcher", 0, 6, "read_file"), *outcomes("writer", 9, 0))
    assert chosen(agent("look", "researcher", "read_file"), *known) == "researcher"


def test_too_few_of_a_kind_of_work_say_nothing():
    known = (*outcomes("researcher", 0, ENOUGH - 1), *outcomes("writer", 50, 0))
    assert chosen(agent(), *known) == "researcher"
    known = (*outcomes("researcher", 0, 50), *outcomes("writer", ENOUGH - 1, 0))
    assert chosen(agent(), *known) == "researcher"


def test_a_little_better_is_not_better():
    known = (*outcomes("researcher", 7, 3), *outcomes("writer", 10, 0))
    assert chosen(agent(), *known) == "researcher"


def test_an_agent_of_the_other_kind_never_takes_over():
    known = (*outcomes("researcher", 0, 30), *outcomes("coder", 30, 0))
    assert chosen(agent(), *known) == "researcher"


def test_what_costs_less_is_taken_of_two_that_are_as_good():
    known = (
        *outcomes("researcher", 0, 9),
        *outcomes("reader", 9, 0, cost=0.5),
        *outcomes("writer", 9, 0, cost=0.1),
    )
    assert chosen(agent(), *known) == "writer"


def test_a_role_that_the_prompt_names_keeps_its_work():
    known = (*outcomes("researcher", 0, 9), *outcomes("writer", 9, 0))
    assert chosen(agent(), *known, prompt="Have the Researcher look.") == "researcher"
    assert chosen(agent(), *known, prompt="Have my co-researchers look.") == "writer"
    assert not is_named("writer", "rewriter, writer-in-chief")


def test_a_role_whose_model_cannot_be_asked_keeps_its_work_and_says_which_model_does_it():
    evidence = RoutingEvidence(cards=CARDS, model="openai/large", unasked={"reader": "A_KEY is not set"})
    found = route(plan(agent("look", "reader")), evidence)
    (choice,) = found.routes
    assert found.subtasks[0].role == "reader"
    assert (choice.model, choice.planned) == ("openai/large", False)
    assert choice.reason == "as planned; its own model openai/small cannot be asked: A_KEY is not set"


def test_work_is_not_given_to_a_role_whose_model_cannot_be_asked():
    known = (*outcomes("researcher", 0, 9), *outcomes("reader", 9, 0))
    assert chosen(agent(), *known) == "reader"
    assert chosen(agent(), *known, reader="A_KEY is not set") == "researcher"


def test_only_agents_have_a_role_to_choose():
    tool = Subtask(id="read", title="t", kind="tool", tools=("read_file",))
    assert route(plan(tool), RoutingEvidence(cards=CARDS)).routes == ()


# --- which model

NAMED = RoutingEvidence(cards=CARDS, model="openai/first", alternatives=("openai/second", "openai/third"))


def knowing(*known: PastOutcome, prompt: str = "") -> RoutingEvidence:
    return NAMED.model_copy(update={"outcomes": known, "prompt": prompt})


def models(subtask: Subtask, *known: PastOutcome, prompt: str = "") -> tuple[str | None, str | None]:
    """The role and the model of a subtask."""
    (choice,) = route(plan(subtask), knowing(*known, prompt=prompt)).routes
    return choice.role, choice.model


def test_a_model_that_fails_at_such_work_gives_it_to_a_named_one_that_does_not():
    known = (
        *outcomes("researcher", 2, 6, "read_file", model="openai/first"),
        *outcomes("researcher", 9, 0, "read_file", model="openai/second", cost=0.02),
    )
    found = route(plan(agent("look", "researcher", "read_file")), knowing(*known))
    (choice,) = found.routes
    assert found.subtasks[0].role == choice.role == "researcher"
    assert (choice.model, choice.model_instead_of, choice.planned) == ("openai/second", "openai/first", False)
    assert choice.reason == (
        "as planned; openai/second instead of openai/first, which did 2 of 8 such subtasks; "
        "openai/second did 9 of 9, for $0.0200"
    )


def test_the_first_model_is_asked_unless_another_is_clearly_better_at_such_work_as_that_role():
    bad = outcomes("researcher", 0, 9, model="openai/first")
    for known in (
        (),
        outcomes("researcher", 9, 0, model="openai/second"),
        (*bad, *outcomes("researcher", ENOUGH - 1, 0, model="openai/second")),
        (*bad[: ENOUGH - 1], *outcomes("researcher", 50, 0, model="openai/second")),
        (*bad, *outcomes("researcher", 9, 0, "read_file", model="openai/second")),
        (*bad, *outcomes("coder", 9, 0, model="openai/second")),
        (*bad, *outcomes("researcher", 9, 0, model="openai/unnamed")),
        (*bad, *outcomes("researcher", 9, 0)),
        (
            *outcomes("researcher", 7, 3, model="openai/first"),
            *outcomes("researcher", 10, 0, model="openai/second"),
        ),
    ):
        assert models(agent(), *known) == ("researcher", "openai/first")


def test_of_two_models_that_are_as_good_the_cheaper_is_asked_and_else_the_one_named_first():
    bad = outcomes("researcher", 0, 9, model="openai/first")
    second, third = (("openai/second", 0.5), ("openai/third", 0.1))
    known = [outcomes("researcher", 9, 0, model=model, cost=cost) for model, cost in (third, second)]
    assert models(agent(), *bad, *known[0], *known[1])[1] == "openai/third"
    known = [outcomes("researcher", 9, 0, model=model) for model, _ in (third, second)]
    assert models(agent(), *bad, *known[0], *known[1])[1] == "openai/second"


def test_another_model_comes_before_another_role():
    known = (
        *outcomes("researcher", 0, 9, model="openai/first"),
        *outcomes("researcher", 9, 0, model="openai/second"),
        *outcomes("writer", 30, 0, model="openai/first"),
    )
    assert models(agent(), *known) == ("researcher", "openai/second")
    assert models(agent(), *known, prompt="The researcher shall look") == ("researcher", "openai/second")


def test_the_role_that_takes_work_over_asks_the_model_that_does_it_best():
    known = (
        *outcomes("researcher", 0, 30, model="openai/first"),
        *outcomes("writer", 0, 6, model="openai/first"),
        *outcomes("writer", 60, 0, model="openai/third"),
    )
    assert models(agent(), *known) == ("writer", "openai/third")


def test_a_role_that_names_its_model_asks_it_however_it_did():
    known = (
        *outcomes("reader", 0, 9, model="openai/first"),
        *outcomes("reader", 9, 0, model="openai/second"),
        *outcomes("reader", 0, 9, model="openai/small"),
    )
    assert models(agent("look", "reader"), *known) == ("reader", "openai/small")
    lost = knowing(*known).model_copy(update={"unasked": {"reader": "A_KEY is not set"}})
    (choice,) = route(plan(agent("look", "reader")), lost).routes
    assert (choice.model, choice.model_instead_of) == ("openai/first", None)


BAD_MODEL = knowing(
    *outcomes("researcher", 0, 9, model="openai/first"), *outcomes("researcher", 9, 0, model="openai/second")
)


def test_a_model_that_was_taken_for_its_record_and_failed_in_this_run_is_not_taken_again():
    before = route(plan(agent("first")), BAD_MODEL)
    added = Patch(base_version=1, reason="more", add=(agent("more"),))
    assert route_patch(added, before, BAD_MODEL).routes[0].model == "openai/second"
    assert route_patch(added, before, BAD_MODEL, {"first"}).routes[0].model == "openai/first"


def test_what_is_asked_is_what_was_chosen_as_long_as_the_user_names_it():
    found = route(plan(agent()), BAD_MODEL)
    look = found["look"]
    instance = look.model_copy(update={"id": "look[3]"})
    assert chosen_model(found, look, NAMED.alternatives) == "openai/second"
    assert chosen_model(found, instance, NAMED.alternatives) == "openai/second"
    assert chosen_model(found, look, ("openai/third",)) is None
    assert chosen_model(found, look.model_copy(update={"role": "writer"}), NAMED.alternatives) is None
    assert chosen_model(route(plan(agent()), NAMED), look, NAMED.alternatives) is None
    assert chosen_model(plan(agent()), look, NAMED.alternatives) is None
    assert chosen_model(found, agent("gone"), NAMED.alternatives) is None


# --- what a patch adds and changes

BAD_RESEARCHER = RoutingEvidence(
    cards=CARDS, outcomes=(*outcomes("researcher", 0, 9), *outcomes("writer", 9, 0))
)


def test_what_a_patch_adds_is_routed_and_the_plan_says_why():
    before = route(plan(agent("first", "writer")), BAD_RESEARCHER)
    added = Patch(base_version=1, reason="more", add=(agent("more"),))
    after = apply(before, route_patch(added, before, BAD_RESEARCHER), {}, CATALOGUE)
    assert after["more"].role == "writer"
    assert [(r.subtask, r.role, r.instead_of) for r in after.routes] == [
        ("first", "writer", None),
        ("more", "writer", "researcher"),
    ]


def test_a_role_that_failed_in_this_run_takes_nothing_over():
    before = plan(agent("first", "writer"))
    added = Patch(base_version=1, reason="more", add=(agent("more"),))
    assert route_patch(added, before, BAD_RESEARCHER, {"first"}).add == added.add
    assert route_patch(added, before, BAD_RESEARCHER, {"other"}).add[0].role == "writer"


def test_the_role_that_a_reviser_gives_a_subtask_stays():
    before = route(plan(agent("first", "writer")), BAD_RESEARCHER)
    changed = Patch(base_version=1, reason="facts are needed", replace=(agent("first"),))
    after = apply(before, route_patch(changed, before, BAD_RESEARCHER), {}, CATALOGUE)
    assert after["first"].role == "researcher"
    (choice,) = after.routes
    assert (choice.role, choice.reason) == ("researcher", "as planned; did 0 of 9 such subtasks")


def test_a_subtask_that_is_removed_has_no_reason_any_more():
    before = route(plan(agent("first", "writer"), agent("second", "coder")), RoutingEvidence(cards=CARDS))
    after = apply(before, Patch(base_version=1, reason="less", remove=("second",)), {}, CATALOGUE)
    assert [r.subtask for r in after.routes] == ["first"]


# --- records

TOOLS = st.sampled_from([(), ("read_file",), ("read_file", "fetch_url")])
OUTCOMES = st.lists(
    st.builds(
        PastOutcome,
        role=st.sampled_from([*NAMES, "gone"]),
        tools=TOOLS,
        ok=st.booleans(),
        seconds=st.none() | st.floats(0, 1e6),
        cost=st.none() | st.floats(0, 100),
    ),
    max_size=80,
)
SUBTASKS = st.builds(lambda role, tools: agent("look", role, *tools), st.sampled_from(NAMES), TOOLS)
BIASED = st.builds(
    lambda bad, good, n, m: (*outcomes(bad, 0, n), *outcomes(good, m, 0)),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.integers(0, 20),
    st.integers(0, 20),
)


@given(SUBTASKS, OUTCOMES, BIASED)
def test_whatever_is_known_a_change_is_within_the_kind_and_to_a_better_record(subtask, some, biased):
    evidence = RoutingEvidence(cards=CARDS, outcomes=(*some, *biased))
    found = route(plan(subtask), evidence)
    (choice,) = found.routes
    now = found.subtasks[0]
    assert now.model_copy(update={"role": subtask.role}) == subtask
    assert KIND[now.role] == KIND[subtask.role]
    assert choice.role == now.role
    assert choice.reason
    if now.role != subtask.role:
        old, new = (record_of(name, subtask.tools, evidence.outcomes) for name in (subtask.role, now.role))
        assert min(old.count, new.count) >= ENOUGH
        assert new.done * old.count > old.done * new.count
        assert choice.instead_of == subtask.role


@given(SUBTASKS, OUTCOMES, BIASED)
def test_what_was_chosen_is_chosen_again(subtask, some, biased):
    evidence = RoutingEvidence(cards=CARDS, outcomes=(*some, *biased))
    once = route(plan(subtask), evidence)
    assert route(once, evidence).subtasks == once.subtasks


@given(st.integers(0, 500), st.integers(0, 500))
def test_a_rate_is_drawn_towards_one_half_and_follows_a_large_count(done, failed):
    rate = record_of("writer", (), outcomes("writer", done, failed)).rate
    raw = done / (done + failed) if done + failed else 0.5
    assert min(raw, 0.5) <= rate <= max(raw, 0.5)
    assert abs(rate - raw) <= 1 / (done + failed + 2) + 1e-9


def test_only_what_agents_did_or_failed_is_in_a_record():
    rows = [
        {
            "kind": "agent",
            "role": "writer",
            "tools": ["read_file"],
            "state": "done",
            "seconds": 2,
            "cost": None,
        },
        {"kind": "agent", "role": "writer", "tools": [], "state": "failed"},
        {"kind": "agent", "role": "writer", "state": "skipped"},
        {"kind": "agent", "role": "writer", "state": None},
        {"kind": "tool", "role": None, "tools": ["read_file"], "state": "done"},
        "no row",
    ]
    rows.append({"kind": "agent", "role": "coder", "state": "done", "model": "openai/second"})
    assert past_outcomes([rows, "no plan", None]) == (
        PastOutcome(role="writer", tools=("read_file",), ok=True, seconds=2.0),
        PastOutcome(role="writer", ok=False),
        PastOutcome(role="coder", ok=True, model="openai/second"),
    )
