"""What a person says to a plan before it runs, and to a change of it.

A plan may be given back edited, as YAML. What is wrong with it then is asked about once more,
with the faults at its top, until it is right, or refused.
"""

from collections.abc import Callable

from orchestrator_cli.approvals.broker import ApprovalBroker, Question
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import NotApproved
from orchestrator_cli.events import Fact, PlanApproved, PlanRepaired
from orchestrator_cli.plan import Catalogue, Fault, Patch, Plan
from orchestrator_cli.planning.patching import PatchRefused
from orchestrator_cli.planning.plan_text import edited_text, is_empty, patch_text, plan_text, read_plan_text
from orchestrator_cli.planning.structured_output import Unusable

RUN_IT = "Run this plan?"
ROUNDS = 20


def approved_plan(
    plan: Plan,
    catalogue: Catalogue,
    *,
    broker: ApprovalBroker,
    cancellation: Cancellation,
    emit: Callable[[Fact], None],
) -> Plan:
    """The plan as the person lets it run. Raises `NotApproved` and `ApprovalNeeded`."""
    question, text = RUN_IT, plan_text(plan)
    for round_ in range(1, ROUNDS + 1):
        asked = Question(what="plan", subject=f"version {plan.version}", question=question, details=text)
        given = broker.ask(asked, cancellation)
        written = given.value if isinstance(given.value, str) else text
        if given.decision == "no" or is_empty(written):
            raise NotApproved(
                f"The plan was not approved{given.reason or '.'}",
                "Nothing was done. Ask again in other words.",
            )
        if written == text and round_ == 1:
            emit(PlanApproved(plan=plan))
            return plan
        try:
            edited, told = read_plan_text(written, catalogue)
        except Unusable as exc:
            # The number makes it another question, also where nothing was changed.
            question = f"The plan as you edited it cannot run. Edit it again? (round {round_ + 1})"
            text = edited_text(written, exc.faults)
            continue
        if told:
            emit(PlanRepaired(repairs=tuple(map(str, told))))
        edited = edited.model_copy(update={"version": plan.version, "routes": plan.routes})
        emit(PlanApproved(plan=edited, edited=edited != plan))
        return edited
    raise NotApproved(f"The plan still had faults after it was edited {ROUNDS} times.", "Nothing was done.")


def check_patch_approval(patch: Patch, *, broker: ApprovalBroker, cancellation: Cancellation) -> None:
    """Ask about a change of the plan where that is wanted.

    Raises `PatchRefused` with what the person said, and `ApprovalNeeded`.
    """
    if not broker.needs("plan"):
        return
    question = Question(
        what="plan",
        subject=f"version {patch.base_version + 1}",
        question=f"Change the plan? {patch.reason}",
        details=patch_text(patch),
    )
    given = broker.ask(question, cancellation)
    if given.decision == "no":
        said = f"the user did not approve this change{given.reason}"
        raise PatchRefused([Fault(subtask="plan", field="reason", message=said)])
