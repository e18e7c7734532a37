"""A finished run, or a built tool, as the record worth keeping. Pure: no model, no clock, no store.

Texts are scrubbed before they are stored: what has the shape of a well-known secret becomes
`[secret removed]`. Covered are the key formats of OpenAI, Anthropic, GitHub, GitLab, Slack, Google, AWS,
Hugging Face and Stripe, JSON web tokens, PEM private keys, `Bearer` headers, passwords within addresses,
and values written after a name such as `api_key=`, `token:` or `password =`.

What is not covered: secrets without a recognisable shape or name. Nothing is learned by a model here:
`lesson` is what the caller says.
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
        r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    )
)
# Here the words around the secret are kept: group 1 before it, group 2 after it.
_NAMED_SECRETS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?i)(\bbearer\s+)[A-Za-z0-9._~+/-]{16,}=*()",
        r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]+:)[^\s/@]+(@)",
        r"(?i)((?:api[_-]?key|secret(?:[_-]?key)?|access[_-]?key|[_-]token|\btoken|passw(?:or)?d)[\"']?"
        r"\s*[:=]\s*[\"']?)(?!\[secret removed\])[^\s\"',;]{6,}()",
    )
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def scrub(text: str) -> str:
    """The text without what looks like a secret, and as valid Unicode. Scrubbing twice changes nothing."""
    clean = scrub_shapes(text)
    for pattern in _NAMED_SECRETS:
        clean = pattern.sub(rf"\g<1>{REMOVED}\g<2>", clean)
    return clean


def scrub_shapes(text: str) -> str:
    """The text without what has the shape of a secret; what is only named one stays, as in source code."""
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
    mark: str = "",
    from_web: bool = False,
    feedback: JsonValue = None,
    created: datetime | None = None,
    trust: Trust = "own",
) -> Record:
    """The memory of a finished run, found again by its prompt.

    `run` is the run's id, `outcome` "completed", "failed" or another word for how it ended, `plan` the
    subtasks as dicts (only the fields in `PLAN_FIELDS` are kept; `state` is how one ended, `seconds` and
    `cost` what it took, `model` which one did it), `cost` in US dollars or None when it is not known,
    `lesson` one sentence for the planner or "".

    What later plans are made by (see `learning`): `reason` is why it failed, `template` the plan as it can be
    used again, `mark` what is the same for plans that say the same, `from_web` whether what it says may have
    been taken from the web, `feedback` what the user said of it. A template that holds what looks like a
    secret is not kept.
    """
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
            "plan": [_shape(subtask) for subtask in plan],
            "revisions": revisions,
            "calls": calls,
            "cost": cost,
            "seconds": seconds,
            "lesson": scrub(lesson),
            **_learned(reason, template, mark, from_web, feedback),
        },
    )


def _learned(
    reason: str, template: Template | None, mark: str, from_web: bool, feedback: JsonValue
) -> dict[str, JsonValue]:
    """What only some runs have."""
    plan = template.plan if template is not None else {}
    told: dict[str, JsonValue] = {
        "reason": truncate(scrub(reason), _REASON_CHARS, rstrip=True),
        "mark": mark,
        "from_web": from_web,
        "feedback": feedback,
    }
    text = json.dumps(plan, ensure_ascii=False)
    if template is not None and scrub(text) == text:
        told["template"] = {"plan": plan, "files": list(template.files)}
    return {name: value for name, value in told.items() if value}


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
    """The index entry of a built tool, found again by its name, its purpose and `prompts`.

    `prompts` are requests it served, oldest first; the latest 20 are kept. A newer version under the same
    name replaces the older one: the index says what can be used now.
    """
    served = [scrub(prompt) for prompt in prompts][-_PROMPTS_KEPT:]
    clean_purpose = scrub(purpose)
    return Record(
        kind=TOOL,
        key=name,
        text="\n".join([_spoken(name), clean_purpose, *served]),
        scope=scope,
        trust=trust,
        created=created or datetime.now(UTC),
        data={
            "name": name,
            "version": version,
            "purpose": clean_purpose,
            # In a signature `password: SecretStr` is a type, not a value.
            "signature": scrub_shapes(signature),
            "prompts": list(served),
        },
    )


def tool_words(name: str, purpose: str) -> str:
    """What a tool says of itself, as text to compare a prompt with."""
    return f"{_spoken(name)}\n{purpose}"


def _spoken(name: str) -> str:
    """`parseCsvFile` as "parse Csv File"; underscores already part words when text is split."""
    return _HUMP.sub(" ", name)


def _shape(subtask: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    kept = {field: subtask[field] for field in PLAN_FIELDS if field in subtask}
    return {field: scrub(value) if isinstance(value, str) else value for field, value in kept.items()}
