"""`orch scripts`: a folder of real scripts, read without running any, registered and run as processes."""

import json
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, plan, process

REPORT = '''
"""Makes the sales report of a day. It reads sales.csv."""
import argparse, json
p = argparse.ArgumentParser()
p.add_argument("target", help="where it goes")
p.add_argument("--day", "-d", required=True)
p.add_argument("--top", type=int, default=10)
p.add_argument("--format", choices=["csv", "json"])
p.add_argument("--dry-run", action="store_true")
p.add_argument("--color", action=argparse.BooleanOptionalAction, default=True)
p.add_argument("--tag", action="append")
p.add_argument("--names", nargs="+")
p.add_argument("--version", action="version", version="1")
print(json.dumps(vars(p.parse_args())))
'''
LIKE_GIT = """
import argparse
p = argparse.ArgumentParser()
p.add_argument("--verbose", action="store_true")
s = p.add_subparsers()
a = s.add_parser("add", help="Adds files.")
a.add_argument("files", nargs="+")
a = s.add_parser("commit", help="Commits.")
a.add_argument("-m", "--message", required=True)
print(sorted(vars(p.parse_args()).items()))
"""
TYPER = '''
import json
from enum import Enum
from typing import Annotated, Optional
import typer
class Mode(str, Enum):
    fast = "fast"
    slow = "slow"
def main(ctx: typer.Context, target: str, count: int = 3, force: bool = False, mode: Mode = Mode.fast,
         tags: list[str] = [],
         note: Annotated[Optional[str], typer.Option("--remark", help="a note")] = None):
    """Pushes to a target."""
    print(json.dumps([target, count, force, mode.value, list(tags), note]))
typer.run(main)
'''
CLICK = '''
import click, json
@click.group()
def cli(): "Greets."
@cli.command()
@click.option("--count", default=1, help="how often")
@click.option("--shout/--no-shout", default=False)
@click.option("--sure", default=False)
@click.option("--kind", type=click.Choice(["a", "b"]))
@click.option("-p", "--pair", nargs=2, type=int)
@click.argument("names", nargs=-1, required=True)
def hello_all(**given):
    """Greets people."""
    print(json.dumps(given))
cli()
'''
FLOWS = '''
from datetime import date
from prefect import flow
@flow
def inner(x: int): return x
@flow(name="daily")
def daily(day: date, top: int = 3, tags: list[str] | None = None):
    """Makes the daily numbers. Then sends."""
    return [day.isoformat(), inner(top), tags]
'''
ARGV = '''
"""Doubles a number"""
import sys
def main(number: int, times: int = 2) -> None:
    print(number * times)
if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2)
'''
SHELL = """
# Copies a folder to the backup disk.
# Usage: backup.sh [-n] -d DAY SOURCE [TARGET...]
#   -n       only say what would be done
while getopts "nd:h" option; do
  case $option in
    n) dry=1 ;;
    d) day="$OPTARG" ;;
  esac
done
shift $((OPTIND - 1))
echo "dry=$dry day=$day rest=$*"
"""
PYTHON = f"#!{sys.executable}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "scripts"
    place.mkdir()
    return place


def write(folder: Path, name: str, source: str, shebang: str = PYTHON) -> Path:
    """An executable script."""
    path = folder / name
    path.write_text(f"{shebang}\n{source.lstrip()}", encoding="utf-8")
    path.chmod(0o755)
    return path


def proposed(orch: Orch, folder: Path, *args: str) -> dict[str, dict[str, Any]]:
    done = orch("scripts", "add", str(folder), "--json", *args)
    return {row["name"]: row for row in done.envelope["proposals"]}


def kept(orch: Orch) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((orch.home / "orch.toml").read_text())["processes"]
    return found


CALLS = [
    (
        "report.py",
        REPORT,
        {"report": ["--day={day}", "--top={top}", "--format={format}", "--dry-run={dry_run}",
                    "--color/--no-color={color}", "--tag={tag}", "--names {names}", "--", "{target}"]},
        {"target": "string", "day": "string", "top": "integer", "format": ["csv", "json"],
         "dry_run": "boolean",
         "color": "boolean", "tag": "array", "names": "array"},
        ["target", "day"],
    ),
    (
        "git.py",
        LIKE_GIT,
        {"git_add": ["--verbose={verbose}", "add", "--", "{files}"],
         "git_commit": ["--verbose={verbose}", "commit", "--message={message}"]},
        {"verbose": "boolean", "files": "array"},
        ["files"],
    ),
    (
        "push.py",
        TYPER,
        {"push": ["--count={count}", "--force/--no-force={force}", "--mode={mode}", "--tags={tags}",
                  "--remark={note}", "--", "{target}"]},
        {"target": "string", "count": "integer", "force": "boolean", "mode": ["fast", "slow"],
         "tags": "array",
         "note": "string"},
        ["target"],
    ),
    (
        "greet.py",
        CLICK,
        {"greet": ["hello-all", "--count={count}", "--shout/--no-shout={shout}", "--sure={sure}",
                   "--kind={kind}", "--pair {pair}", "--", "{names}"]},
        {"count": "integer", "shout": "boolean", "sure": ["true", "false"], "kind": ["a", "b"],
         "pair": "array", "names": "array"},
        ["names"],
    ),
    ("double.py", ARGV, {"double": ["{number}", "{times}"]}, {"number": "integer", "times": "integer"},
     ["number"]),
    ("count.py", "import sys\nfor name in sys.argv[1:]:\n    print(name)", {"count": ["{name}"]},
     {"name": "array"}, []),
    ("plain.py", "print(1)", {"plain": []}, {}, []),
]  # fmt: skip


@pytest.mark.parametrize(("name", "source", "calls", "inputs", "required"), CALLS, ids=[c[0] for c in CALLS])
def test_parameters_of_a_python_script(
    orch: Orch,
    folder: Path,
    name: str,
    source: str,
    calls: dict[str, list[str]],
    inputs: dict[str, Any],
    required: list[str],
) -> None:
    path = write(folder, name, source)
    found = proposed(orch, folder)
    assert {one: row["arguments"] for one, row in found.items()} == calls
    first = next(iter(found.values()))
    assert first["command"] == [str(path)]
    assert first["effects"] is True
    shown = {one: row.get("enum", row.get("type")) for one, row in first["inputs"]["properties"].items()}
    assert shown == inputs
    assert first["inputs"].get("required", []) == required


def test_parameters_of_other_scripts(orch: Orch, folder: Path) -> None:
    write(folder, "backup.sh", SHELL, "#!/bin/sh")
    (folder / "greet.js").write_text("/**\n * Greets.\n * Usage: greet.js --name NAME [--loud] FILE\n */\n")
    (folder / "silent.sh").write_text("echo $1")
    (folder / "old.py").write_text(FLOWS)
    found = proposed(orch, folder)
    assert found["backup"]["arguments"] == ["-n={dry}", "-d {day}", "--", "{source}", "{target}"]
    assert found["backup"]["when"] == "Copies a folder to the backup disk"
    assert found["backup"]["inputs"]["required"] == ["day", "source"]
    assert found["backup"]["inputs"]["properties"]["dry"]["description"] == "only say what would be done"
    assert found["greet"]["command"] == ["node", str(folder / "greet.js")]
    assert found["greet"]["arguments"] == ["--name={name}", "--loud={loud}", "{file}"]
    assert len(found["silent"]["notes"]) == 1
    assert found["old"]["flow"] == f"{folder / 'old.py'}:daily"
    assert found["old"]["inputs"]["properties"]["day"] == {"type": "string", "format": "date"}
    assert found["old"]["when"] == "Makes the daily numbers"


@pytest.mark.parametrize(
    ("usage", "arguments"),
    [
        (
            "# Usage: x [-v] --name NAME <in file> [more...]",
            ["-v={v}", "--name={name}", "{in_file}", "{more}"],
        ),
        ("# usage: x [OPTION]... [FILE]...", ["{file}"]),
        ("# Usage: x FILE [FILE ...]", ["{file}"]),
        ('echo "Usage: $0 SOURCE" >&2', ["{source}"]),
        ("# Cleans. Usage: see below\n# Usage: x [-n] DIR", ["-n={n}", "{dir}"]),
        ("# Usage: run it with a folder\n# Usage: x.pl folder", ["{folder}"]),
        ("# Usage: x $(cat)\n# usage: old-name DIR", ["{dir}"]),
        ("# Usage: x A | B", []),
        ("# Usage: x $(cat)", []),
        ('echo "$usage"; exit 1', []),
    ],
)
def test_usage_lines(orch: Orch, folder: Path, usage: str, arguments: list[str]) -> None:
    write(folder, "x.pl", usage, "#!/usr/bin/perl")
    assert proposed(orch, folder)["x"]["arguments"] == arguments


def test_words_about_the_licence_say_nothing(orch: Orch, folder: Path) -> None:
    write(folder, "x.sh", "# Copyright 2026 Ada\n#\n# Counts files. And more.\necho 1", "#!/bin/sh")
    assert proposed(orch, folder)["x"]["when"] == "Counts files"


def test_nothing_of_the_folder_is_run(orch: Orch, folder: Path) -> None:
    ran = folder.parent / "ran"
    write(folder, "a.py", f"import b\nopen({str(ran)!r}, 'w')")
    write(folder, "b.py", f"open({str(ran)!r}, 'w')")
    write(folder, "c.sh", f"touch {ran}", "#!/bin/sh")
    write(folder, "d", f"touch {ran}", "#!/bin/sh")
    done = orch("scripts", "add", str(folder), "-y")
    assert (done.code, sorted(kept(orch))) == (0, ["a", "b", "c", "d"])
    assert not ran.exists()


def test_what_is_left_out_is_named(orch: Orch, folder: Path) -> None:
    write(folder, "good.py", "print(1)")
    (folder / "module.py").write_text('"""Helps."""\nimport os\nX = 1\ndef f(): pass\n')
    (folder / "broken.py").write_text("x = (")
    (folder / "open.sh").write_text("echo")
    (folder / "open.sh").chmod(0o666)
    (folder / "out.py").symlink_to("/etc/passwd")
    (folder / "notes.txt").write_text("no script")
    (folder / "bytes.py").write_bytes(b"\0\1")
    Path(os.fsdecode(bytes(folder) + b"/\xff.py")).write_text("print(1)")
    (folder / "below").mkdir()
    done = orch("scripts", "add", str(folder), "--json")
    left = {Path(row["path"]).name: row["why"] for row in done.envelope["left_out"]}
    assert left.keys() == {"module.py", "broken.py", "open.sh", "out.py", "bytes.py", "\udcff.py"}
    assert "out of the folder" in left["out.py"]
    assert [row["name"] for row in done.envelope["proposals"]] == ["good"]


@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_a_folder_of_others_is_refused(orch: Orch, folder: Path, mode: int) -> None:
    write(folder, "good.py", "print(1)")
    below = folder / "below"
    below.mkdir()
    write(below, "good.py", "print(1)")
    folder.chmod(mode)
    assert {orch("scripts", "add", str(place), "-y").code for place in (folder, below)} == {3}
    assert not (orch.home / "orch.toml").exists()


def test_what_models_wrote_is_not_registered(orch: Orch) -> None:
    place = orch.home / "tools" / "x" / "v1"
    place.mkdir(parents=True)
    write(place, "tool.py", "print(1)")
    assert orch("scripts", "add", str(place), "-y").code == 2


def test_scripts_are_registered_once_and_changes_are_shown(orch: Orch, folder: Path) -> None:
    double, own = write(folder, "double.py", ARGV), orch.home / "orch.toml"
    own.write_text(
        '# mine\nmax_calls = 50 # few\n\n[processes.plain]\nwhen = "x"\ncommand = ["true"] # yes\n'
    )
    own.chmod(0o640)
    write(folder, "plain.py", "print(1)")
    before = own.read_text()
    asked = orch("scripts", "add", str(folder))
    assert (asked.code, own.read_text()) == (6, before)
    assert f"orch scripts add {folder} --yes" in asked.error
    assert orch("scripts", "add", str(folder), "-y", "--read-only", "double").code == 0
    assert own.read_text().startswith(before.rstrip())
    assert own.stat().st_mode & 0o777 == 0o640
    assert kept(orch)["plain"]["command"] == ["true"]
    assert kept(orch)["plain_py"]["command"] == [str(folder / "plain.py")]
    assert kept(orch)["double"]["effects"] is False
    assert proposed(orch, folder) == {}
    own.write_text(own.read_text().replace("Doubles a number", "My own words"))
    double.write_text(double.read_text().replace("number", "figure"))
    assert proposed(orch, folder)["double"]["changes"] == ["arguments", "inputs"]
    assert orch("scripts", "add", str(folder), "-y").code == 0
    row = kept(orch)["double"]
    assert (row["when"], row["effects"], row["arguments"]) == ("My own words", False, ["{figure}", "{times}"])
    assert own.read_text().startswith("# mine\nmax_calls = 50 # few\n")
    assert orch("scripts", "remove", "double", "-y").code == 0
    assert sorted(kept(orch)) == ["plain", "plain_py"]
    assert "# yes" in own.read_text()
    assert orch("scripts", "remove", "double", "-y").code == 2
    rows: Any = orch("scripts", "list", "--json").envelope
    assert [row["name"] for row in rows] == ["plain", "plain_py"]


def test_a_table_of_another_make_is_not_changed(orch: Orch, folder: Path) -> None:
    path, own = write(folder, "plain.py", "print(1)"), orch.home / "orch.toml"
    text = f"[processes.mine]\nwhen = 'x'\ncommand = ['python3', '-u', '{path}']\n"
    own.write_text(text)
    done = orch("scripts", "add", str(folder), "-y", "--json")
    assert (done.envelope["proposals"], done.envelope["registered"]) == ([], ["mine"])
    assert own.read_text() == text
    own.write_text(f"{text}arguments = []\n")
    assert proposed(orch, folder)["mine"]["changes"] == ["command", "inputs"]


@pytest.mark.parametrize(
    ("typed", "names"), [("y\n", ["a", "b", "c"]), ("n\n", []), ("\n", []), ("s\ny\nr\nn\n", ["a", "b"])]
)
def test_a_person_accepts_them_at_the_terminal(
    orch: Orch, folder: Path, typed: str, names: list[str]
) -> None:
    for name in "abc":
        write(folder, f"{name}.py", "print(1)")
    done = orch.at_terminal("scripts", "add", str(folder), typed=typed)
    assert done.code == 0, done.out
    rows = kept(orch) if (orch.home / "orch.toml").exists() else {}
    assert sorted(rows) == names
    assert [rows[name].get("effects", True) for name in names] == [True, "r" not in typed, True][: len(names)]


@pytest.mark.parametrize(
    "text", ["processes = {}\n", "processes = {a = {when = 'x', command = ['y']}}\nmodel = 'm'\n"]
)
def test_a_file_that_cannot_take_more_tables_stays_as_it_is(orch: Orch, folder: Path, text: str) -> None:
    write(folder, "plain.py", "print(1)")
    (orch.home / "orch.toml").write_text(text)
    done = orch("scripts", "add", str(folder), "-y")
    assert (done.code, (orch.home / "orch.toml").read_text()) == (3, text)


def test_a_link_to_the_settings_stays_one(orch: Orch, folder: Path) -> None:
    write(folder, "plain.py", "print(1)")
    real = folder.parent / "dotfile.toml"
    real.write_text("max_calls = 5\n")
    (orch.home / "orch.toml").symlink_to(real)
    assert orch("scripts", "add", str(folder), "-y").code == 0
    assert (orch.home / "orch.toml").is_symlink()
    assert "max_calls = 5" in real.read_text()
    assert "[processes.plain]" in real.read_text()


def test_words_of_a_file_cannot_control_the_terminal(orch: Orch, folder: Path) -> None:
    write(folder, "a.py", '"""Does \x1b[31m\u202ered."""\nprint(1)')
    done = orch("scripts", "add", str(folder))
    assert "\x1b" not in done.out
    assert "\u202e" not in done.out


def test_registered_scripts_run_with_their_arguments(orch: Orch, endpoint: Endpoint, folder: Path) -> None:
    for name, source in (
        ("report.py", REPORT),
        ("push.py", TYPER),
        ("greet.py", CLICK),
        ("git.py", LIKE_GIT),
    ):
        write(folder, name, source)
    write(folder, "backup.sh", SHELL, "#!/bin/sh")
    (folder / "daily.py").write_text(FLOWS)
    assert orch("scripts", "add", str(folder), "-y", "--read-only", "all").code == 0
    calls: dict[str, dict[str, Any]] = {
        "report": {
            "target": "--x",
            "day": "-1",
            "top": 3,
            "color": False,
            "tag": ["-a"],
            "names": ["b", "c"],
        },
        "push": {"target": "-t", "count": -2, "force": True, "mode": "slow", "tags": ["a", "--force"]},
        "greet": {"names": ["--shout", "b"], "pair": [1, 2], "shout": False},
        "git_commit": {"message": "--verbose"},
        "backup": {"day": "today", "dry": True, "source": "-n", "target": ["b c"]},
        "daily": {"day": "2026-01-02", "tags": ["x"]},
    }
    endpoint.reply = Cast(planner=[plan(*(process(name, name, inputs=row) for name, row in calls.items()))])
    done = orch("ask", "--json", "All.")
    found = {row["result"]["subtask"]: row["result"]["value"] for row in orch.events("SubtaskFinished")}
    assert found.keys() == calls.keys(), (done.err, orch.events("SubtaskFailed"))
    expected = {"format": None, "dry_run": False, **calls["report"]}
    assert found["report"] == expected
    assert found["push"] == ["-t", -2, True, "slow", ["a", "--force"], None]
    assert found["greet"]["names"] == ["--shout", "b"]
    assert found["greet"]["pair"] == [1, 2]
    assert found["git_commit"] == "[('message', '--verbose'), ('verbose', False)]"
    assert found["backup"] == "dry=1 day=today rest=-n b c"
    assert found["daily"] == ["2026-01-02", 3, ["x"]]
    assert json.dumps(found)
