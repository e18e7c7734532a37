"""What lasts between runs, looked after by its user: `orch tools`, `orch memory`, `orch kb`."""
