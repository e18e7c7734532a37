"""`python -m orchestrator_cli` is `orch`."""

from orchestrator_cli.app import main

main()
