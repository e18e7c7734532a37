"""Hand-written tools: plain functions with types and a docstring, made for one checkout.

To add a tool, add a module with a function that returns the tools by name. A planner is shown their
signatures and first lines; an agent also `Args:`.
"""
