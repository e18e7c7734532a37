"""Runs that are over or were left: found, looked into, checked, gone on from, taken back."""
