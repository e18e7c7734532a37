"""How a tool is proved: what it has to do, as cases and properties; what its code may contain; and the trial.

    cases, properties ─ checker, rules, honesty ─ trial, calls, inside ─ judging ─ mutants, probing

`proving` goes these rounds with a model; everything else here asks none.
"""
