"""The ground floor: files, locks and logs that survive a kill, and small pure measures of texts and rates.

The one part of `orchestrator_cli` that `memory` and `toolsmith` may import. It imports nothing of ours.
"""
