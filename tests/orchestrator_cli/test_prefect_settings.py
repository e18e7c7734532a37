"""Prefect is set by orch alone, whatever the folder and the user's environment say."""

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, coder, plan

RETRIES = "default_retries = 2"
HASTE = "request_timeout = 0.000001"
"""With it, Prefect's client gets no answer from any server."""

# Each run is a cold process, because Prefect reads its settings at import: 10 s. So all that it could read is
# tried at once.
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("files", "env"),
    [
        (
            {
                "prefect.toml": f"[flows]\n{RETRIES}\n[tasks]\n{RETRIES}\n[api]\n{HASTE}\n",
                "pyproject.toml": f"[tool.prefect.flows]\n{RETRIES}\n[tool.prefect.api]\n{HASTE}\n",
            },
            {"PREFECT_FLOWS_DEFAULT_RETRIES": "2", "prefect_api_request_timeout": "0.000001"},
        ),
        (
            {
                "pyproject.toml": "[project]\nname = {{ name }}\n",
                ".env": "NAME=Jos\xe9\nPREFECT_DEBUG_MODE=x\n",
            },
            {},
        ),
    ],
    ids=["settings", "broken files"],
)
def test_a_run_that_fails_ends_whatever_prefect_would_read(
    orch: Orch, endpoint: Endpoint, files: dict[str, str], env: dict[str, str]
) -> None:
    for name, text in files.items():
        (orch.workspace / name).write_bytes(text.encode("latin-1"))
    endpoint.reply = Cast(planner=[plan(coder("one"))])
    done = orch.cold("ask", "Do it.", timeout=60, **env)
    assert (done.code, "no such request of the agent" in done.error) == (4, True), done.err
