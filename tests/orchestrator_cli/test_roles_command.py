"""`orch roles`: each role with its model and its file."""

from typing import Any

from command import Orch

OWN = "---\nname: {name}\nwhen: w\nagent: tools\nmodel: {model}\n---\nDo it."


def rows(orch: Orch, **env: str) -> dict[str, dict[str, Any]]:
    found: Any = orch("roles", "--json", **env).envelope
    return {row["name"]: row for row in found}


def test_roles_have_their_model_and_file(orch: Orch) -> None:
    folder = orch.home / "roles"
    folder.mkdir()
    (folder / "mine.md").write_text(OWN.format(name="mine", model="openai/own"))
    (folder / "writer.md").write_text(OWN.format(name="writer", model="deepseek/lacks-its-key"))
    found = rows(orch)
    assert (found["coder"]["model"], found["coder"]["file"]) == ("openai/agent", None)
    assert (found["mine"]["model"], found["mine"]["file"]) == ("openai/own", str(folder / "mine.md"))
    writer = found["writer"]
    assert (writer["model"], writer["own_model"]) == ("openai/agent", "deepseek/lacks-its-key")
    assert "DEEPSEEK_API_KEY" in writer["fault"]
    assert "final_answer" in writer["tools"]
    done = orch("roles")
    assert done.code == 0
    assert str(folder / "mine.md") in done.out
    assert "DEEPSEEK_API_KEY" in done.out
    (folder / "mine.md").write_text("---\nname: mine\n---\n")
    assert orch("roles").code == 3


def test_without_a_model_roles_are_listed_too(orch: Orch) -> None:
    bare = {**dict.fromkeys(orch.env, ""), "OLLAMA_API_BASE": "http://127.0.0.1:9"}
    found = rows(orch, **bare, LLAMAFILE_API_BASE="http://127.0.0.1:9/v1")
    assert found["coder"]["model"] is None
