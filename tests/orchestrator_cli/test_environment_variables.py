"""Variables of the environment that are meant for other programs change no run, or are named."""

import subprocess
from collections.abc import Mapping

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, answered, code, coder, plan

FOR_OTHERS: dict[str, dict[str, str]] = {
    "LiteLLM": {
        "LITELLM_LOG": "DEBUG",
        "LITELLM_MODE": "DEV",
        "LITELLM_LOCAL_MODEL_COST_MAP": "False",
        "LITELLM_MODIFY_PARAMS": "1",
        "LITELLM_ROUTE_ALL_CHAT_OPENAI_TO_RESPONSES": "true",
    },
    "OpenAI": {"OPENAI_ORGANIZATION": "a", "OPENAI_PROJECT": "b"},
    "Prefect": {
        "PREFECT_PROFILE": "nowhere",
        "PREFECT_PROFILES_PATH": "/nowhere",
        "PREFECT_HOME": "/proc/nowhere",
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "PREFECT_DEBUG_MODE": "1",
        "PREFECT_API_REQUEST_TIMEOUT": "soon",
        "PREFECT_API_DATABASE_CONNECTION_URL": "sqlite:////nowhere/x.db",
    },
    "OpenTelemetry": {
        "OTEL_PROPAGATORS": "nothing",
        "OTEL_PYTHON_CONTEXT": "nothing",
        "OTEL_TRACES_EXPORTER": "nothing",
        "OTEL_ATTRIBUTE_COUNT_LIMIT": "many",
    },
    "Hugging Face": {"HF_HOME": "/nowhere", "TIKTOKEN_CACHE_DIR": "/nowhere"},
    "Hypothesis": {"HYPOTHESIS_PROFILE": "nothing", "HYPOTHESIS_STORAGE_DIRECTORY": "/nowhere", "CI": "1"},
    "Qdrant": {"QDRANT_URL": "http://127.0.0.1:9", "QDRANT__SERVICE__API_KEY": "a", "RUST_LOG": "debug"},
    "Python": {
        "PYTHONASYNCIODEBUG": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONSTARTUP": "/nowhere",
        "PYTHONINTMAXSTRDIGITS": "640",
    },
    "language": {"LC_ALL": "xx_YY.UTF-9", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "terminal": {
        "COLUMNS": "abc",
        "LINES": "-1",
        "TERM": "nothing",
        "FORCE_COLOR": "1",
        "TTY_COMPATIBLE": "x",
    },
    "places": {"TMPDIR": "/nowhere", "TZ": "Nowhere/Land", "XDG_RUNTIME_DIR": "/nowhere", "HOME": "/nowhere"},
    "git": {"GIT_DIR": "/nowhere", "GIT_CONFIG_GLOBAL": "/nowhere", "GIT_TRACE": "1"},
    "bytes": {"NAME_IN_LATIN_1": "Jos\udce9", "BASH_FUNC_x%%": "() { :; }"},
    "servers": {"WEB_CONCURRENCY": "many", "SQLALCHEMY_WARN_20": "1", "JSON_LOGS": "x"},
}
ALL_AT_ONCE = {name: value for variables in FOR_OTHERS.values() for name, value in variables.items()}


# Each is a cold process, because libraries read the environment at import.
@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [
        pytest.param(ALL_AT_ONCE, id="all"),
        *(pytest.param(FOR_OTHERS[what], id=what, marks=pytest.mark.thorough) for what in FOR_OTHERS),
    ],
)
def test_what_is_set_for_other_programs_changes_no_run(
    orch: Orch, endpoint: Endpoint, variables: Mapping[str, str]
) -> None:
    endpoint.reply = Cast(planner=[plan(coder("one"))], agents={"Do one": [code("final_answer('done')")]})
    done = orch.cold("ask", "-q", "Do it.", **variables)
    assert (done.code, done.out, done.err) == (0, "done\n", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"), [("REQUEST_TIMEOUT", "5s"), ("DEFAULT_MAX_TOKENS", "many"), ("PYTHONOPTIMIZE", "2")]
)
def test_what_no_library_can_be_loaded_with_is_named(
    orch: Orch, endpoint: Endpoint, name: str, value: str
) -> None:
    done = orch.cold("ask", "Do it.", **{name: value})
    assert (done.code, endpoint.arrived) == (3, 0)
    assert f"Unset {name}" in done.error
    assert "Traceback" not in done.err


@pytest.mark.both_ways
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_lead_nowhere(orch: Orch, closed: str) -> None:
    command = ["bash", "-c", f'"$@" {closed}', "-", *orch.command, "runs"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=orch.environment(), cwd=orch.workspace, check=False
    )
    said = "" if "2>" in closed else "There are no runs"
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith(said)
    assert len(said) <= len(done.stderr) <= 300 * len(said)


@pytest.mark.both_ways
@pytest.mark.slow
def test_a_run_without_streams_is_made(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[answered("It is done.")])
    command = ["bash", "-c", '"$@" <&- >&- 2>&-', "-", *orch.command, "ask", "Do it."]
    assert subprocess.run(command, env=orch.environment(), cwd=orch.workspace, check=False).returncode == 0
    assert [row["outcome"] for row in orch.events("RunFinished")] == ["completed"]
