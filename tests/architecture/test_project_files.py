"""What runs the project holds no address, and means what it says."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_makefile_holds_no_address():
    assert "://" not in MAKEFILE


def test_no_target_of_the_makefile_bears_the_name_of_a_folder():
    # `check` runs the tests again when one of these folders has changed; a target is always newer.
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    assert targets
    assert not targets & folders
