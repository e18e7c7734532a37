"""How a tool is proved: what it has to do, what its code may contain, and the trial.

    cases ─ checker, rules ─ trial, calls, trial_runner ─ mutants

`proving` repeats these steps with a model; nothing else here calls one.
"""
