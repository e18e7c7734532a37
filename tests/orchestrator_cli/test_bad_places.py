"""Prompts, folders and files that cannot be used: one clear message, the remedy, and nothing lost."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, answered, code, coder, plan


@pytest.mark.parametrize("prompt", ["", "   \n\t "])
def test_an_empty_prompt_is_a_usage_error(orch: Orch, endpoint: Endpoint, prompt: str) -> None:
    for done in (orch("ask", prompt), orch("ask", "-", stdin=prompt)):
        assert done.code == 2
        assert "The prompt is empty." in done.error
        assert "Say what you want done" in done.error
    assert endpoint.arrived == 0


def test_a_prompt_of_a_megabyte_is_refused_and_kept_in_a_file(orch: Orch, endpoint: Endpoint) -> None:
    prompt = "ü word " * 150_000
    done = orch("ask", "-", stdin=prompt)
    assert (done.code, endpoint.arrived) == (2, 0)
    assert "at most 200,000 are sent" in done.error
    (kept,) = (orch.home / "prompts").iterdir()
    assert kept.read_text() == prompt
    assert str(kept) in done.error.replace(" ", "") or kept.name in done.error


def test_bytes_that_are_no_text_are_a_usage_error(orch: Orch) -> None:
    done = subprocess.run(
        [*orch.command, "ask", "-"],
        input=b"\xff\xfe\x00hello",
        capture_output=True,
        env=orch.environment(),
        cwd=orch.workspace,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert b"UTF-8" in done.stderr


def test_a_missing_workspace_is_named_with_the_remedy(orch: Orch) -> None:
    done = orch("ask", "-C", "no/such/folder", "Hello?")
    assert done.code == 2
    assert "There is no folder" in done.error
    assert "no/such/folder" in done.error
    assert "-C" in done.error


def test_a_workspace_that_is_a_file_is_named_and_stays_as_it_is(orch: Orch) -> None:
    (orch.workspace / "notes.txt").write_text("mine")
    done = orch("ask", "-C", "notes.txt", "Hello?")
    assert done.code == 2
    assert "is a file, not a folder" in done.error
    assert orch.file("notes.txt") == "mine"


def test_a_log_that_is_a_folder_is_named_and_stays_as_it_is(orch: Orch, endpoint: Endpoint) -> None:
    (orch.workspace / "fileLog.md").mkdir()
    (orch.workspace / "fileLog.md" / "mine.txt").write_text("mine")
    done = orch("ask", "Hello?")
    assert (done.code, endpoint.arrived) == (2, 0)
    assert "fileLog.md" in done.error
    assert "out of the way" in done.error
    assert orch.file("fileLog.md/mine.txt") == "mine"


def test_a_log_that_is_a_link_is_not_followed(orch: Orch, tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    (orch.workspace / "fileLog.md").symlink_to(precious)
    done = orch("ask", "Hello?")
    assert done.code == 2
    assert precious.read_text() == "mine"


def test_a_home_that_is_a_file_is_named(orch: Orch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = orch("ask", "Hello?", ORCH_HOME=str(tmp_path / "file"))
    assert done.code == 3
    assert f"The data folder {tmp_path / 'file'} cannot be written to" in done.error
    assert "ORCH_HOME" in done.error


@pytest.mark.parametrize("command", [("up",), ("schedule", "add", "a", "Go.")])
def test_a_home_that_cannot_be_made_is_named(orch: Orch, command: tuple[str, ...]) -> None:
    done = orch(*command, ORCH_HOME="/proc/orch")
    assert done.code == 3
    assert "/proc/orch" in done.error
    assert "Errno" not in done.error


# --- places that need a mount


@contextmanager
def mounted(folder: Path, *how: str) -> Iterator[None]:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount")
    done = subprocess.run(["mount", *how, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_read_only_workspace_is_named_with_the_remedy(orch: Orch, endpoint: Endpoint) -> None:
    (orch.workspace / "notes.txt").write_text("mine")
    with mounted(orch.workspace, "--bind", str(orch.workspace)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(orch.workspace)], check=True)
        done = orch("ask", "Hello?")
    assert (done.code, endpoint.arrived) == (2, 0)
    assert "cannot be written to" in done.error or "Cannot write" in done.error
    assert "-C" in done.error


def test_a_full_disk_under_the_home_is_said_before_anything_is_done(orch: Orch, endpoint: Endpoint) -> None:
    with mounted(orch.home, "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs"):
        with suppress(OSError):
            (orch.home / "ballast").write_bytes(b"x" * (2 << 20))
        done = orch("ask", "Write much.")
    assert (done.code, endpoint.arrived) == (3, 0)
    assert "The data folder" in done.error
    assert "No space left" in done.error
    assert "ORCH_HOME" in done.error


def test_full_disk_under_a_checkout_stops_the_run_until_there_is_space(
    orch: Orch, endpoint: Endpoint
) -> None:
    big = code("open('big.bin', 'wb').write(b'x' * (8 << 20))\nfinal_answer('made')")
    endpoint.reply = Cast(planner=[plan(coder("one"))], agents={"Do one": [big] * 2})
    # The journal has room.
    (orch.home / "checkouts").mkdir(mode=0o700)
    with mounted(orch.home / "checkouts", "-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs"):
        done = orch("ask", "-q", "Write much.")
        (failed,) = [row for row in orch.events("CodeRan") if row["error"]]
    assert (done.code, done.out, orch.events("SubtaskFailed")) == (3, "", [])
    assert str(orch.home / "checkouts") in done.error
    assert "No space left" in failed["error"]
    assert orch.files() == []
    assert orch("resume", "last").code == 0
    assert orch.files() == ["big.bin"]


def test_a_disk_on_which_the_record_of_the_run_finds_no_room_ends_the_run(
    orch: Orch, endpoint: Endpoint
) -> None:
    endpoint.reply = Cast(planner=[{"content": answered(" ".join(map(hex, range(28_000))))}])
    with mounted(orch.home, "-t", "tmpfs", "-o", "size=160k,mode=700", "tmpfs"):
        done = orch("ask", "Write much.")
    assert done.code == 3
    assert "No space left" in done.error
    assert "Free some space" in done.error
    assert "Traceback" not in done.err


def test_a_full_disk_under_the_workspace_changes_nothing(orch: Orch, endpoint: Endpoint) -> None:
    big = code(
        "open('small.txt', 'w').write('x')\n"
        "open('big.bin', 'wb').write(b'x' * (8 << 20))\n"
        "final_answer('made')"
    )
    endpoint.reply = Cast(
        planner=[plan(coder("one"))],
        agents={"Do one": [big, big]},
    )
    with mounted(orch.workspace, "-t", "tmpfs", "-o", "size=3m", "tmpfs"):
        (orch.workspace / "mine.txt").write_text("mine")
        done = orch("ask", "Write much.")
        assert (done.code, endpoint.arrived) == (3, 2), done.err
        assert str(orch.workspace) in done.error
        assert "No space left" in done.error
        assert orch.files() == ["mine.txt"]
        assert orch.remains() == []
    # On the disk below, there is room. It is another folder, so the user has to name it.
    assert orch("resume", "last").code == 2
    assert orch("resume", orch.journal().parent.name, "-C", str(orch.workspace)).code == 0
    assert orch.files() == ["big.bin", "small.txt"]


# --- settings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model = ", "orch.toml cannot be read"),
        ("modle = 'openai/x'", "modle"),
        ("max_parallel = 'many'", "max_parallel"),
        ("[models]\npoet = 'openai/x'", "models.poet"),
        ("max_parallel = 0", "max_parallel"),
    ],
)
def test_a_broken_orch_toml_is_named_with_the_field(
    orch: Orch, endpoint: Endpoint, text: str, said: str
) -> None:
    (orch.workspace / "orch.toml").write_text(text)
    done = orch("ask", "Hello?")
    assert (done.code, endpoint.arrived) == (3, 0)
    assert said in done.error
    assert "orch.toml" in done.error
    assert (orch.workspace / "orch.toml").read_text() == text


@pytest.mark.parametrize("content", [b"\xff\xfe\0", b'session = "caf\xe9"', b"\0\1"])
def test_an_orch_toml_that_is_no_text_is_no_crash(orch: Orch, endpoint: Endpoint, content: bytes) -> None:
    endpoint.reply = Cast(planner=[answered("hello")])
    (orch.workspace / "orch.toml").write_bytes(content)
    done = orch("ask", "Hello?")
    assert done.code == 3
    assert "orch.toml cannot be read" in done.error


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_an_orch_toml_with_a_byte_order_mark_is_read(orch: Orch, encoding: str) -> None:
    (orch.workspace / "orch.toml").write_bytes("max_calls = 0".encode(encoding))
    done = orch("ask", "Hello?")
    assert done.code == 3
    assert "max_calls" in done.error


def test_without_a_model_the_three_ways_to_set_one_are_shown(orch: Orch) -> None:
    nothing = {name: "" for name in orch.env if name.startswith(("ORCH_MODELS", "OPENAI"))}
    done = orch("ask", "Hello?", **nothing)
    assert done.code == 3
    assert "No model is set, and none was found." in done.error
    for way in ("-m ", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL", "orch demo"):
        assert way in done.error
    assert list(orch.workspace.iterdir()) == []


def test_a_server_at_openai_base_url_is_found_where_no_model_is_set(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = lambda request, n: answered(f"I am {request['model']}.")
    nothing = {name: "" for name in orch.env if name.startswith("ORCH_MODELS")}
    done = orch("ask", "-q", "Who?", **nothing)
    assert (done.code, done.out) == (0, "I am found.\n")


def test_a_broken_role_file_is_named(orch: Orch) -> None:
    (orch.home / "roles").mkdir()
    (orch.home / "roles" / "poet.md").write_text("---\nname: poet\nagent: verse\n---\n")
    done = orch("ask", "Hello?")
    assert done.code == 3
    assert "poet.md" in done.error


@pytest.mark.parametrize("args", [("ask", "Hello?"), ("memory", "import", "roles/poet.md")])
def test_a_pipe_instead_of_a_file_of_the_users_is_not_waited_for(orch: Orch, args: tuple[str, ...]) -> None:
    (orch.home / "roles").mkdir()
    os.mkfifo(orch.home / "roles" / "poet.md")
    (orch.workspace / "roles").symlink_to(orch.home / "roles")
    done = orch(*args)
    assert done.code in (2, 3)
    assert "poet.md" in done.error


def test_a_folder_that_is_gone_is_named(orch: Orch) -> None:
    gone = ['mkdir gone; cd gone; rmdir ../gone; "$@"', "-", *orch.command, "runs"]
    done = subprocess.run(
        ["bash", "-c", *gone], capture_output=True, text=True, cwd=orch.workspace, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 2), done.stderr


def test_a_negative_limit_is_a_usage_or_settings_error(orch: Orch) -> None:
    done = orch("ask", "--max-calls", "0", "Hello?")
    assert done.code in (2, 3)
    assert "max_calls" in done.error or "max-calls" in done.err


def test_no_error_shows_a_traceback_unless_debug_asks_for_it(orch: Orch) -> None:
    assert "Traceback" not in orch("ask", "-C", "gone", "Hello?").err
    assert "Traceback" in orch("ask", "--debug", "-C", "gone", "Hello?").err


def test_json_gives_an_envelope_of_an_error_too(orch: Orch) -> None:
    done = orch("ask", "--json", "-C", "gone", "Hello?")
    assert done.code == 2
    assert done.envelope["exit_code"] == 2
    assert "There is no folder" in done.envelope["error"]["message"]


@pytest.mark.parametrize("asked", ["--help", "--version"])
def test_a_full_standard_output_is_one_line(orch: Orch, asked: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*orch.command, asked], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "No space left" in done.stderr


def test_a_result_that_a_full_standard_output_does_not_take_has_a_code_of_ours(orch: Orch) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*orch.command, "runs", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=orch.workspace,
            env=orch.environment(),
        )
    assert done.returncode == 3, done.stderr
    assert "Exception ignored" not in done.stderr
