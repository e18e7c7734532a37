"""Hand-written tools: plain functions with types and a docstring, made for one checkout.

Whoever adds a tool adds a module here with a function that returns its functions by name. Their
signatures and first lines are what a planner is shown; `Args:` is what an agent is shown.
"""
