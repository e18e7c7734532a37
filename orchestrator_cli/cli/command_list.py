"""The commands of the command line, by name. Imports none of them."""

from typing import NamedTuple


class Lazy(NamedTuple):
    """A command before it is imported."""

    module: str
    """Its module in `commands`."""
    about: str
    """What it does, for the list of commands: one short sentence."""


COMMANDS = {
    "ask": Lazy("ask", "Run one prompt and print the answer."),
    "run": Lazy("ask", "Run one of your processes, without a model."),
    "plan": Lazy("ask", "Show the task graph of a prompt without running it."),
    "demo": Lazy("ask", "Watch a real run with recorded model replies."),
    "doctor": Lazy("doctor", "Check that everything orch needs is there."),
    "init": Lazy("init", "Find a model and a sandbox, and save the model."),
    "config": Lazy("config", "List and change settings, with where each comes from."),
    "trust": Lazy("trust", "Show what this folder asks for, and allow it."),
    "runs": Lazy("runs", "List the runs of this workspace, newest first."),
    "show": Lazy("runs", "Show a run: its graph, changes, agents and cost."),
    "stats": Lazy("stats", "Summarize runs: success, cost, time and tools."),
    "resume": Lazy("resume", "Resume a run that stopped or waits for you."),
    "attach": Lazy("resume", "Watch a run in the background, and answer it."),
    "schedule": Lazy("schedule", "Manage runs that start by themselves."),
    "up": Lazy("up", "Start scheduled runs until Ctrl-C."),
    "deploy": Lazy("deploy", "Have Prefect's workers run schedules."),
    "fork": Lazy("resume", "Start a new run from the finished part of another."),
    "cancel": Lazy("runs", "End a run for good; what it finished stays."),
    "undo": Lazy("runs", "Restore the workspace as it was before a run."),
    "diff": Lazy("runs", "Show what a run changed, as a unified diff."),
    "prune": Lazy("runs", "Remove old runs that have ended."),
    "approve": Lazy("resume", "List the questions of a run, or answer them."),
    "feedback": Lazy("runs", "Say whether a run was good or bad."),
    "ui": Lazy("ui", "Open the page that shows runs as they go."),
    "kb": Lazy("kb", "Manage the documents that agents can search."),
    "log": Lazy("log", "Read, verify or replay fileLog.md."),
    "mcp": Lazy("mcp", "Serve built tools and runs to other programs over MCP."),
    "login": Lazy("login", "Log in to an MCP server in your browser."),
    "memory": Lazy("memory", "List, search, change and move what is remembered."),
    "notify": Lazy("notify", "Test your notifications."),
    "roles": Lazy("roles", "List the roles that agents are made from."),
    "scripts": Lazy("scripts", "Register the scripts of a folder as processes."),
    "schema": Lazy("schema", "Print the JSON Schema of what --json prints."),
    "tools": Lazy("tools", "List, build, test, repair and share built tools."),
}
GROUPS = ("config", "kb", "log", "memory", "notify", "schedule", "scripts", "tools")
"""Commands that have commands of their own."""
