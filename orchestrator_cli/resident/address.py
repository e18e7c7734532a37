"""Where a resident listens: a socket in the data folder, named after all that its imports depend on."""

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from orchestrator_cli.resident.rights import rights
from orchestrator_cli.resident.wanted import user_folder

PACKAGE = Path(__file__).parents[1]
READ_AT_IMPORT = re.compile(
    r"^(PYTHON|LD_|LC_|LANG|LITELLM_|OPENAI_|HTTPX?_|HF_|SSL_|OTEL_|UVICORN_|DEFAULT_|MAX_|MIN_)"
    r"|^(PATH|HOME|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|SSLKEYLOGFILE|JSON_LOGS|REQUEST_TIMEOUT|NO_COLOR)$"
    r"|_PROXY$",
    re.IGNORECASE,
)
"""Variables that libraries read as they are imported. Keys and addresses are read with each call."""
_OF_A_CALL = re.compile(r"_(API_KEY|BASE_URL|API_BASE)$")


def folder() -> Path:
    """Where the sockets are, below the data folder."""
    return user_folder("XDG_DATA_HOME", ".local/share") / "resident"


def read_at_import(environment: Mapping[str, str]) -> dict[str, str]:
    """What of an environment libraries read as they are imported."""
    return {
        name: value
        for name, value in environment.items()
        if READ_AT_IMPORT.search(name) and not _OF_A_CALL.search(name)
    }


def key() -> str:
    """What two processes must have in common for one to be forked from the other."""
    root = Path("/").stat()
    python = [
        sys.executable,
        sys.version,
        sys.prefix,
        # A resident never looks for modules in a folder, so it may run what another Python looks there for:
        # a run in the background, which is started with -P, has the resident of the command that started it.
        [getattr(sys.flags, name) for name in sys.flags.__match_args__ if name != "safe_path"],
        sys.warnoptions,
        sorted(sys._xoptions),
    ]
    facts = [
        str(PACKAGE),
        python,
        sorted(read_at_import(os.environ).items()),
        root.st_dev,
        root.st_ino,
        os.geteuid(),
        rights(),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
