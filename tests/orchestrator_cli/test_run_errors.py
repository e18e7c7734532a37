"""An error that nothing foresaw says where it was raised: it may not come again with --debug."""

import pytest

from orchestrator_cli.errors import RunFailed
from orchestrator_cli.json_schema import misfits
from orchestrator_cli.run_errors import as_orch_error


def test_an_unforeseen_error_names_its_place() -> None:
    with pytest.raises(TypeError) as raised:
        misfits({"pattern": 5}, "x")  # no schema; see `schema_fault`
    error = as_orch_error(raised.value, "run-1")
    assert isinstance(error, RunFailed)
    *_, place = error.message.rpartition("(in ")
    assert ".py:" in place
    assert "json_schema.py:" in place
    assert "orch resume run-1" in error.remedy
