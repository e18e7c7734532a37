"""The values of the user's own keys: no request to a model has one, wherever it comes from."""

import json
import time
from pathlib import Path

from command import Orch
from endpoint import Endpoint, call
from fake_embeddings import meanings
from scripted_model import Cast, answered, caller, plan

from orchestrator_cli.models.model import ModelRequest
from orchestrator_cli.models.own_keys import known_keys, without_keys

KEY = "sk-abcdef-1234567"
WIDE = "".join(chr(ord(sign) + 0xFEE0) for sign in KEY)
MARK = "[secret MY_API_KEY]"


def test_a_key_in_a_file_of_the_workspace_stays_here(orch: Orch, endpoint: Endpoint) -> None:
    (orch.workspace / "a.txt").write_text(f"begins: {KEY}.\nin between\nwide: {WIDE}.")
    (orch.workspace / "split.txt").write_text(f"split: {KEY[:6]}\n  {KEY[6:]}.")
    (orch.workspace / f"{KEY}.txt").write_text("named after it")
    endpoint.embed = lambda request: meanings(request["input"])
    endpoint.reply = Cast(
        planner=[plan(caller("look", tools=["read_file"]))],
        agents={"Do look": [call("read_file", {"path": "a.txt"}), call("final_answer", {"answer": "seen"})]},
    )
    dense = {"ORCH_MEMORY__DENSE": "openai/embedding"}
    done = orch("ask", f"What of {KEY}?", "--attach", "a.txt", MY_API_KEY=KEY, **dense)
    assert done.code == 0, done.err
    planner, *agent = endpoint.exchanges
    assert planner.text.count(MARK) >= 4  # the prompt, the attached file, its name and how it begins
    assert f"begins: {MARK}." in agent[-1].text
    sent = [json.dumps(one.request, ensure_ascii=False) for one in endpoint.exchanges]
    sent += [json.dumps(one, ensure_ascii=False) for one in endpoint.embeddings]
    assert endpoint.embeddings
    assert not any(KEY in text or WIDE in text or KEY[3:] in text for text in sent)


def test_a_key_is_not_spoken(orch: Orch, endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.speak = lambda _: b"sound"
    endpoint.reply = Cast(planner=[answered(f"It is {KEY}.")])
    speaks = {"ORCH_SPEECH_MODEL": "openai/tts-1", "MY_API_KEY": KEY}
    assert orch("ask", "Which?", "--speak", str(tmp_path / "a.mp3"), **speaks).code == 0
    assert [row["input"] for row in endpoint.speeches] == [f"It is {MARK}."]


def test_every_part_of_a_request_is_masked_and_images_are_left() -> None:
    address = {"url": f"data:image/png;base64,{KEY}"}
    parts = [{"type": "text", "text": f"see {KEY}"}, {"type": "image_url", "image_url": address}]
    calls = [{"id": "1", "function": {"name": "f", "arguments": json.dumps({"key": KEY})}}]
    request = ModelRequest(
        role="agent",
        messages=({"role": "user", "content": parts}, {"role": "assistant", "tool_calls": calls}),
        tools=({"function": {"description": f"needs {KEY}"}},),
        reply_schema={"description": KEY},
    )
    masked = without_keys(request, known_keys({"MY_API_KEY": KEY}, ())).model_dump_json()
    assert (masked.count(KEY), masked.count(MARK)) == (1, 4)
    assert without_keys(request, known_keys({}, ())) == request


def test_a_long_request_is_masked_at_once() -> None:
    keys = known_keys({f"N{n}_API_KEY": f"sk-{n}{'abcdef0123' * 5}" for n in range(6)}, ())
    text = Path(__file__).read_text(encoding="utf-8") + "\n größer"
    request = ModelRequest(
        role="agent", messages=({"role": "user", "content": text * (1_000_000 // len(text))},)
    )
    started = time.process_time()
    without_keys(request, keys)
    assert time.process_time() - started < 1.0


def test_variables_are_keys_by_any_part_of_their_names_and_paths_are_none(tmp_path: Path) -> None:
    keys = "OPENAI_API_KEY_2 AWS_ACCESS_KEY_ID SECRET_KEY_BASE MY_PASSPHRASE SSHPASS PGPASSWORD GITHUBTOKEN"
    keys += " A_PAT NPM_CONFIG__AUTH REDISCLI_AUTH AWS_SECRET_ACCESS_KEY npm_token LDAP_PASSWORDS"
    others = "GIT_AUTHOR_NAME TOKENIZERS_PARALLELISM KEYBOARD PWD OLDPWD XAUTHORITY PATTERN"
    named = known_keys(dict.fromkeys(f"{keys} {others}".split(), "/wJalr+XUtn"), ())
    assert set(named.values) == set(keys.split())
    assert known_keys({"SSH_AUTH_TOKEN": str(tmp_path)}, ()).values == {}
