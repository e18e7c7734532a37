"""Where a setting comes from, and what is said of a wrong one."""

from pathlib import Path

import pytest

from orchestrator_cli.cli.commands.doctor import examine
from orchestrator_cli.errors import ConfigError
from orchestrator_cli.models.default_models import FAMILIES, default_model
from orchestrator_cli.models.discovery import find_model
from orchestrator_cli.settings import Settings, load_settings, read_folder
from orchestrator_cli.trust import TrustQuestion


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings but those of a test: home and workspace are empty folders."""
    import os

    for name in [*os.environ]:
        if name.startswith(("ORCH_", "OPENAI_", "PREFECT_")) or name in FAMILIES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "workspace").mkdir()


def load(tmp_path: Path, **flags: object) -> Settings:
    return load_settings(flags, tmp_path / "workspace")


def test_each_source_goes_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(tmp_path).max_parallel == 4
    (tmp_path / "home" / "orch.toml").write_text("max_parallel = 6\nmax_steps = 50")
    assert load(tmp_path).max_parallel == 6
    (tmp_path / "workspace" / "orch.toml").write_text("max_parallel = 5")
    assert load(tmp_path).max_parallel == 5
    monkeypatch.setenv("ORCH_MAX_PARALLEL", "7")
    assert load(tmp_path).max_parallel == 7
    assert load(tmp_path, max_parallel=8, max_steps=None).max_parallel == 8
    assert load(tmp_path, max_parallel=8, max_steps=None).max_steps == 50


def test_a_table_is_joined_from_all_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home" / "orch.toml").write_text("model = 'all'\n[models]\nplanner = 'p'\nagent = 'a'")
    (tmp_path / "workspace" / "orch.toml").write_text("[models]\nagent = 'b'")
    monkeypatch.setenv("ORCH_MODELS__ANSWER", "c")
    settings = load_settings({}, tmp_path / "workspace", lambda _: True)
    roles = ("planner", "agent", "answer", "reviser")
    assert [settings.model_for(role) for role in roles] == ["p", "b", "c", "all"]


def test_what_the_command_line_says_agents_ask_has_no_alternatives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home" / "orch.toml").write_text("model = 'a'\n[models]\nagent_alternatives = ['b', 'c']")
    assert load(tmp_path).alternatives == ("b", "c")
    assert load(tmp_path, model=None).alternatives == ("b", "c")
    assert load(tmp_path, model="d").alternatives == ()
    monkeypatch.setenv("ORCH_MODELS__AGENT", "e")
    assert (load(tmp_path, model="d").model_for("agent"), load(tmp_path, model="d").alternatives) == (
        "e",
        ("b", "c"),
    )


def test_an_empty_variable_is_unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCH_MAX_PARALLEL", "")
    assert load(tmp_path).max_parallel == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_parallel = 'x'", "max_parallel"),
        ("nonsense = 1", "nonsense"),
        ("timeout = inf", "timeout"),
        ("timeout = 1e300", "timeout"),
        ("[models]\nplaner = 'x'", "models.planer"),
        ("a = = 1", "cannot be read"),
    ],
)
def test_a_wrong_file_is_named_with_the_field(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "workspace" / "orch.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as raised:
        load(tmp_path)
    assert str(path) in raised.value.message
    assert raised.value.remedy


def test_a_wrong_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCH_REVISE", "sometimes")
    with pytest.raises(ConfigError, match="revise"):
        load(tmp_path)


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_container_engine_as_sandbox_is_an_error_with_a_remedy(tmp_path: Path, engine: str) -> None:
    (tmp_path / "home" / "orch.toml").write_text(f"sandbox = '{engine}'")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    for part in ("sandbox", engine, "bubblewrap", "landlock", str(tmp_path / "home" / "orch.toml")):
        assert part in str(caught.value)


def test_the_prefect_server_of_the_user_is_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert load(tmp_path).prefect_api_url == "http://127.0.0.1:9/api"


def test_settings_do_not_change(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(tmp_path).max_parallel = 9  # type: ignore[misc]


def test_a_program_that_loads_settings_is_refused_what_was_not_allowed(tmp_path: Path) -> None:
    (tmp_path / "workspace" / "orch.toml").write_text("max_steps = 3\nnetwork = ['example.org']")
    with pytest.raises(ConfigError, match="sets network") as refused:
        load(tmp_path)
    assert "orch trust -C" in refused.value.remedy
    settings = load_settings({}, tmp_path / "workspace", lambda _: False)
    assert (settings.max_steps, settings.network) == (3, ())
    settings = load_settings({}, tmp_path / "workspace", lambda _: True)
    assert (settings.max_steps, settings.network) == (3, ("example.org",))


def test_what_was_asked_about_is_what_is_used(tmp_path: Path) -> None:
    file = tmp_path / "workspace" / "orch.toml"
    file.write_text("network = ['shown.example']")

    def decide(question: TrustQuestion) -> bool:
        file.write_text("network = ['swapped.example']")
        question.allow()
        return True

    assert load_settings({}, tmp_path / "workspace", decide).network == ("shown.example",)
    with pytest.raises(ConfigError, match="sets network"):
        load(tmp_path)


def test_answers_given_in_two_environments_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "workspace" / "orch.toml").write_text("model = 'a'\nsandbox = 'landlock'")
    for variable, value in (("ORCH_MODEL", "mine"), ("ORCH_SANDBOX", "auto")):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            read_folder(tmp_path / "workspace").question.allow()
    assert (load(tmp_path).model, load(tmp_path).sandbox) == ("a", "landlock")


# --- finding a model


def test_a_key_in_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", "k")
    found = find_model()
    assert found.model == default_model("MISTRAL_API_KEY").model
    assert "MISTRAL_API_KEY is set" in found.why


def test_doctor_says_which_model_was_chosen_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    chosen = default_model("ANTHROPIC_API_KEY").model
    why = f"{chosen}: ANTHROPIC_API_KEY is set; the newest claude-sonnet-* in LiteLLM's list"

    def refusal(**flags: object) -> str:
        return next(finding.detail for finding in examine(load(tmp_path, **flags)) if finding.name == "model")

    assert why in refusal()
    assert refusal(model="openai/mine").count("\n") == 0


def test_a_server_the_user_points_at_comes_before_the_keys(
    endpoint: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)  # type: ignore[attr-defined]
    assert find_model().model == "openai/found"


def test_the_key_of_a_server_that_does_not_answer_is_not_sent_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(ConfigError, match="No model is set"):
        find_model()
