"""What people and programs see of a run: every view is made from events and the state after each.

A view is called with each event in order and closed once at the end, never from two threads at once: see
`journal.View`.
"""
