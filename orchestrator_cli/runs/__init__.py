"""Past runs: find, verify, fork, undo, and record feedback on them."""
