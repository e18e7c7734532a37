"""How a tool is proved: what it has to do, what its code may contain, and the trial.

    cases ─ checker, rules, overfitting_rules ─ trial, calls, trial_runner ─ compare ─ mutants, mutation_score

`proving` repeats these steps with a model; nothing else here calls one.
"""
