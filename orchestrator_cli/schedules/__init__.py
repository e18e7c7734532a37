"""Prompts and processes that run by themselves: at a time, after another, or when a file changes."""
