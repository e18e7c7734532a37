"""Turns a finished run or a built tool into a record. Pure: no model, no clock, no store.

Texts are scrubbed before they are stored: anything that looks like a well-known kind of secret becomes
`[secret removed]`. Covered are the key formats of OpenAI, Anthropic, GitHub, GitLab, Slack, Google, AWS,
Hugging Face and Stripe, JSON web tokens, PEM private keys, `Bearer` headers, passwords in URLs, and values
after a name such as `api_key=`, `token:` or `password =`.

What is not covered: secrets without a recognisable format or name. No model is asked: `lesson` comes from the
caller.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pydantic import JsonValue

from memory.records import RUN, TOOL, Record, Scope, Trust
from memory.templates import Template
from orchestrator_cli.durable.text import truncate

PLAN_FIELDS = (
    *("id", "title", "kind", "role", "tools", "depends_on"),
    *("state", "seconds", "cost", "model"),
)
REMOVED = "[secret removed]"

_SUMMARY_CHARS = 800
_REASON_CHARS = 400
_PROMPTS_KEPT = 20
_SECRETS = tuple(
    re.compile(pattern)
    for pattern in (
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        r"\bsk-[A-Za-z0-9_-]{16,}",  # OpenAI, Anthropic, OpenRouter
        r"\b(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{10,}",  # Stripe
        r"\bgh[pousr]_[A-Za-z0-9]{20,}",
        r"\bgithub_pat_[A-Za-z0-9_]{20,}",
        r"\bglpat-[A-Za-z0-9_-]{16,}",
        r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
        r"\bAIza[A-Za-z0-9_-]{30,}",
        r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
        r"\bhf_[A-Za-z0-9]{20,}",
        r"\beyJ[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    )
)
# The words around these secrets are kept: group 1 before it, group 2 after it.
_NAMED_SECRETS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?i)(\bbearer\s+)[A-Za-z0-9._~+/-]{16,}=*()",
        r"(\b[a-z][a-z0-9+.-]{0,40}://[^\s:/@]+:)[^\s/@]+(@)",
        r"(?i)((?:api[_-]?key|secret(?:[_-]?key)?|access[_-]?key|[_-]token|\btoken|passw(?:or)?d)[\"']?"
        r"\s*[:=]\s*[\"']?)(?!\[secret removed\])[^\s\"',;]{6,}()",
    )
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def scrub(text: str) -> str:
    """The text in valid Unicode, without anything that looks like a secret. Idempotent."""
    clean = scrub_shapes(text)
    for pattern in _NAMED_SECRETS:
        clean = pattern.sub(rf"\g<1>{REMOVED}\g<2>", clean)
    return clean


def scrub_shapes(text: str) -> str:
    """The text without keys and tokens; values that are only called a secret stay, as in source code."""
    clean = text.encode("utf-8", "replace").decode("utf-8")
    for pattern in _SECRETS:
        clean = pattern.sub(REMOVED, clean)
    return clean


def run_record(
    *,
    run: str,
    prompt: str,
    outcome: str,
    answer: str,
    plan: Sequence[Mapping[str, JsonValue]],
    scope: Scope,
    revisions: int = 0,
    calls: int = 0,
    cost: float | None = None,
    seconds: float = 0.0,
    lesson: str = "",
    reason: str = "",
    template: Template | None = None,
    fingerprint: str = "",
    from_web: bool = False,
    outside: bool | None = None,
    workspace: str = "",
    wished: bool = False,
    undone: bool = False,
    feedback: JsonValue = None,
    created: datetime | None = None,
    trust: Trust = "own",
) -> Record:
    """The record of a finished run, found again by its prompt.

    Args:
        run: the id of the run.
        outcome: "completed", "failed" or another word for how it ended.
        plan: the subtasks, of which only `PLAN_FIELDS` are kept. `state` is how a subtask ended, `seconds`
            and `cost` what it took, `model` which model did it.
        cost: in US dollars; None if unknown.
        lesson: one sentence for the planner, or "".
        reason: why the run failed.
        template: the plan in a reusable form; left out if it contains anything that looks like a secret.
        fingerprint: equal for plans that do the same work (see `templates`).
        from_web: whether the plan and its lessons may repeat what the web said.
        outside: whether the run read what others wrote, so that its answer may repeat it; None if unknown.
        workspace: the folder it worked in.
        wished: whether the plan has what the user asked for while the run went on.
        undone: whether the user has undone it (see `learning`).
        feedback: the user's vote (see `learning`).
    """
    optional: dict[str, JsonValue] = {
        "reason": truncate(scrub(reason), _REASON_CHARS, rstrip=True),
        "mark": fingerprint,
        "from_web": from_web,
        "workspace": workspace,
        "wished": wished,
        "undone": undone,
        "feedback": feedback,
    }
    if template is not None and scrub(text := json.dumps(template.plan, ensure_ascii=False)) == text:
        optional["template"] = {"plan": template.plan, "files": list(template.files)}
    return Record(
        kind=RUN,
        key=run,
        text=scrub(prompt),
        scope=scope,
        trust=trust,
        created=created or datetime.now(UTC),
        data={
            "outcome": outcome,
            "answer_summary": truncate(scrub(answer), _SUMMARY_CHARS, rstrip=True),
            "plan": [
                {
                    field: scrub(value) if isinstance(value := subtask[field], str) else value
                    for field in PLAN_FIELDS
                    if field in subtask
                }
                for subtask in plan
            ],
            "revisions": revisions,
            "calls": calls,
            "cost": cost,
            "seconds": seconds,
            "lesson": scrub(lesson),
            **{name: value for name, value in optional.items() if value},
            **({} if outside is None else {"outside": outside}),
        },
    )


def tool_record(
    *,
    name: str,
    version: str,
    purpose: str,
    signature: str,
    scope: Scope,
    prompts: Sequence[str] = (),
    created: datetime | None = None,
    trust: Trust = "own",
) -> Record:
    """The index entry of a built tool, found again by its name, purpose and `prompts`.

    `prompts` are requests that it served, oldest first; the latest 20 are kept. A newer version under the
    same name replaces the older one, because the index lists what can be used now.
    """
    served = [scrub(prompt) for prompt in prompts][-_PROMPTS_KEPT:]
    clean_purpose = scrub(purpose)
    return Record(
        kind=TOOL,
        key=name,
        text="\n".join([tool_words(name, clean_purpose), *served]),
        scope=scope,
        trust=trust,
        created=created or datetime.now(UTC),
        data={
            "name": name,
            "version": version,
            "purpose": clean_purpose,
            # In a signature, `password: SecretStr` is a type, not a value.
            "signature": scrub_shapes(signature),
            "prompts": list(served),
        },
    )


def tool_words(name: str, purpose: str) -> str:
    """A tool's description of itself, to compare with a prompt. `parseCsvFile` becomes "parse Csv File"."""
    return f"{_HUMP.sub(' ', name)}\n{purpose}"
