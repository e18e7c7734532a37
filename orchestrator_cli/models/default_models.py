"""The default model of a provider, from LiteLLM's list.

Each provider has one family, such as `claude-sonnet-*`. Of its models that chat, call tools and are not past
their `deprecation_date`, the one with the highest version is chosen: a model that retires is left on its day,
and an update of LiteLLM brings its successor. `*` is a version such as `4-5`; a point in it is a decimal
point (grok-4.20 came before grok-4.3). Names with a date are snapshots of others, and are passed over.

LiteLLM takes seconds to import, so its file is read without it.

Not covered: what changed after the installed LiteLLM was released.
"""

import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

LIST = "model_prices_and_context_window_backup.json"
_VERSION = r"(\d{1,2}(?:[.-]\d{1,2})?)"


@dataclass(frozen=True)
class Family:
    """A provider by LiteLLM's prefix, and the names of its models that may be chosen."""

    provider: str
    pattern: str
    """A name without the prefix, with at most one `*`."""
    fallback: str
    """The name that is taken if the list has none, or cannot be read."""


@dataclass(frozen=True)
class Choice:
    model: str
    """By LiteLLM's name, with the prefix."""
    why: str
    needs: str = ""
    """What has to be kept for it to be asked, such as `Ollama running`."""


FAMILIES = {
    "ANTHROPIC_API_KEY": Family("anthropic", "claude-sonnet-*", "claude-sonnet-4-6"),
    "OPENAI_API_KEY": Family("openai", "gpt-*-mini", "gpt-5-mini"),
    "GEMINI_API_KEY": Family("gemini", "gemini-pro-latest", "gemini-pro-latest"),
    "MISTRAL_API_KEY": Family("mistral", "mistral-medium-latest", "mistral-medium-latest"),
    "DEEPSEEK_API_KEY": Family("deepseek", "deepseek-v*-flash", "deepseek-v4-flash"),
    "XAI_API_KEY": Family("xai", "grok-*", "grok-4.3"),
    "GROQ_API_KEY": Family("groq", "openai/gpt-oss-120b", "openai/gpt-oss-120b"),
    # LiteLLM lists no models of OpenRouter, which chooses one itself.
    "OPENROUTER_API_KEY": Family("openrouter", "auto", "auto"),
}
"""The provider keys that are looked for, in this order, and the model of each."""


def newest(family: Family, listed: Mapping[str, Mapping[str, Any]], today: date) -> Choice:
    """The model of a family to use on a day. `listed` is LiteLLM's list: what is known of models, by name."""
    shape = re.compile(re.escape(family.pattern).replace(r"\*", _VERSION))
    versions = {}
    for name, known in listed.items():
        bare = name.removeprefix(f"{family.provider}/")
        if (match := shape.fullmatch(bare)) and _serves(family, known, today):
            versions[bare] = tuple(map(float, "".join(match.groups()).split("-"))) if match.groups() else ()
    if not versions:
        return Choice(f"{family.provider}/{family.fallback}", "LiteLLM's list has no model to choose from")
    chosen = max(versions, key=lambda bare: (versions[bare], bare))
    return Choice(
        f"{family.provider}/{chosen}",
        f"the newest {family.pattern} in LiteLLM's list that is not retired"
        if "*" in family.pattern
        else "in LiteLLM's list and not retired",
    )


def default_model(key: str) -> Choice:
    """The default model of the provider whose key has this name."""
    return newest(FAMILIES[key], read_list(), datetime.now(UTC).date())


def retirement(model: str, listed: Mapping[str, Mapping[str, Any]]) -> date | None:
    """The day on which a model retires, by its `deprecation_date` in LiteLLM's list; None if it has none."""
    known = listed.get(model) or listed.get(model.partition("/")[2]) or {}
    try:
        return date.fromisoformat(str(known.get("deprecation_date")))
    except ValueError:
        return None


@cache
def read_list() -> Mapping[str, Mapping[str, Any]]:
    """LiteLLM's list as it is installed; empty if it cannot be read."""
    try:
        found = importlib.util.find_spec("litellm")
        if found is None or found.origin is None:
            return {}
        listed = json.loads(Path(found.origin).with_name(LIST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: known for name, known in listed.items() if isinstance(known, dict)}


def _serves(family: Family, known: Mapping[str, Any], today: date) -> bool:
    return (
        known.get("litellm_provider") == family.provider
        and known.get("mode") == "chat"
        and known.get("supports_function_calling") is True
        # Days in ISO 8601 sort as text.
        and today.isoformat() <= str(known.get("deprecation_date") or "9999")
    )


OTHER_NAMES = {
    "ANTHROPIC_API_KEY": ("ANTHROPIC_AUTH_TOKEN",),
    "GEMINI_API_KEY": ("GOOGLE_API_KEY",),
    "OPENROUTER_API_KEY": ("OR_API_KEY",),
}
"""Variables that replace a key."""


# --- what helps if there is none

THREE_WAYS = (
    '  1. orch ask -m anthropic/claude-sonnet-4-6 …   (or ORCH_MODEL, or model = "…" in orch.toml)\n'
    "  2. export a provider's key, such as ANTHROPIC_API_KEY or OPENAI_API_KEY\n"
    "  3. start a local server: Ollama, llama.cpp, or one named by OPENAI_BASE_URL\n"
    "Or see it work without a model: orch demo"
)
NO_MODEL = f"Let orch look for one and keep it: orch init\nOr set one of three ways:\n{THREE_WAYS}"


SET_AGAIN = "Set the variable again, without quotes or line ends, or name another model with -m."
