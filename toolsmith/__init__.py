"""The tools an agent lacks, built and proved at run time.

    need ─ spec ─ cases ─ code ─ check ─ trial in the sandbox ─ library ─ SandboxedTool

Of the orchestrator the package imports only its ground floor. It is given a model as `complete`, and reports
its steps through `emit`. `build` is where to begin; importing the package itself costs nothing.
"""
