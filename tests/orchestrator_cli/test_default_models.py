"""The default model of a provider's key: the newest of its family that is not retired."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator_cli.cli.commands.doctor import examine
from orchestrator_cli.models.default_models import FAMILIES, Family, default_model, newest, read_list
from orchestrator_cli.settings import load_settings

DAY = date(2026, 11, 30)
SONNET = Family("anthropic", "claude-sonnet-*", "claude-sonnet-9")


def row(provider: str = "anthropic", **more: Any) -> dict[str, Any]:
    return {"litellm_provider": provider, "mode": "chat", "supports_function_calling": True, **more}


def names(*listed: str, provider: str = "anthropic") -> dict[str, dict[str, Any]]:
    return {name: row(provider) for name in listed}


def test_the_highest_version_of_the_family_is_chosen() -> None:
    listed = names("claude-sonnet-4-6", "claude-sonnet-5", "claude-sonnet-4-10", "claude-opus-7")
    assert newest(SONNET, listed, DAY).model == "anthropic/claude-sonnet-5"
    del listed["claude-sonnet-5"]
    assert newest(SONNET, listed, DAY).model == "anthropic/claude-sonnet-4-10"


def test_a_model_is_left_after_its_last_day() -> None:
    listed = names("claude-sonnet-4-4") | {"claude-sonnet-4-5": row(deprecation_date="2026-11-30")}
    assert newest(SONNET, listed, DAY).model == "anthropic/claude-sonnet-4-5"
    assert newest(SONNET, listed, date(2026, 12, 1)).model == "anthropic/claude-sonnet-4-4"


def test_snapshots_are_passed_over() -> None:
    listed = names("claude-sonnet-4-5", "claude-sonnet-4-20250514", "claude-sonnet-4-5-20250929")
    assert newest(SONNET, listed, DAY).model == "anthropic/claude-sonnet-4-5"
    mini = Family("openai", "gpt-*-mini", "gpt-9-mini")
    listed = names("gpt-5-mini", "gpt-5.4-mini", "gpt-5-mini-2025-08-07", provider="openai")
    assert newest(mini, listed, DAY).model == "openai/gpt-5.4-mini"


def test_a_point_in_a_version_is_a_decimal_point() -> None:
    listed = names("xai/grok-4.20", "xai/grok-4.3", "xai/grok-4.20-beta", provider="xai")
    assert newest(Family("xai", "grok-*", "grok-1"), listed, DAY).model == "xai/grok-4.3"


@pytest.mark.parametrize(
    "unfit", [{"mode": "responses"}, {"supports_function_calling": None}, {"litellm_provider": "bedrock"}]
)
def test_what_cannot_chat_call_tools_or_is_of_another_provider_is_not_chosen(unfit: dict[str, Any]) -> None:
    listed = names("claude-sonnet-4-6") | {"claude-sonnet-5": row() | unfit}
    assert newest(SONNET, listed, DAY).model == "anthropic/claude-sonnet-4-6"


def test_without_a_list_there_is_a_fixed_name_and_the_reason_says_so() -> None:
    chosen = newest(SONNET, {}, DAY)
    assert chosen.model == "anthropic/claude-sonnet-9"
    assert "no model to choose from" in chosen.why


@pytest.mark.parametrize("key", FAMILIES)
def test_what_is_chosen_today_is_in_the_installed_list_and_not_retired(key: str) -> None:
    family, chosen, listed = FAMILIES[key], default_model(key).model, read_list()
    assert chosen.partition("/")[0] == family.provider
    if family.provider == "openrouter":
        assert not any(known.get("litellm_provider") == "openrouter" for known in listed.values())
        assert chosen == "openrouter/auto"
        return
    known = listed.get(chosen) or listed[chosen.removeprefix(f"{family.provider}/")]
    assert known["litellm_provider"] == family.provider
    today = datetime.now(UTC).date().isoformat()
    assert known.get("deprecation_date", "9999") >= today
    fallback = listed.get(f"{family.provider}/{family.fallback}") or listed[family.fallback]
    assert fallback.get("deprecation_date", "9999") >= today


# --- retirement


def test_doctor_warns_of_every_model_that_retires_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = datetime.now(UTC).date()
    days = {"anthropic/a": -1, "openai/b": 59, "c": 61, "openai/d": 60, "openai/e": 5, "openai/f": 5}
    listed = {name: {"deprecation_date": str(today + timedelta(days))} for name, days in days.items()}
    for place in ("models.default_models", "models.discovery", "cli.commands.doctor"):
        monkeypatch.setattr(f"orchestrator_cli.{place}.read_list", lambda: listed)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    (tmp_path / "workspace").mkdir()
    (tmp_path / "home" / "roles").mkdir(parents=True)
    role = "---\nname: r\nwhen: w\nagent: tools\nmodel: openai/f\n---\nDo it."
    (tmp_path / "home" / "roles" / "r.md").write_text(role)
    settings = load_settings(
        {
            "home": tmp_path / "home",
            "model": "openai/c",
            "models": {"judge": "anthropic/a", "agent_alternatives": ["openai/b"]},
            "fallbacks": ("openai/d",),
            "memory": {"dense": "openai/e"},
        },
        tmp_path / "workspace",
    )
    found = next(finding for finding in examine(settings) if finding.name == "model")
    assert found.ok
    warned = {line.split()[1] for line in found.detail.splitlines() if line.startswith("warning")}
    assert warned == {"anthropic/a", "openai/b", "openai/d", "openai/e", "openai/f"}
