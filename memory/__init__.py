"""What the orchestrator remembers between runs."""
