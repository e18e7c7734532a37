"""The values of the user's own keys: no request to a model has one, wherever it comes from."""

import json
import time
from pathlib import Path

import pytest
from command import Orch
from endpoint import Endpoint, call
from fake_embeddings import meanings
from scripted_model import Cast, answered, caller, code, coder, plan

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


def test_half_a_key_in_a_line_that_is_cut_stays_here(orch: Orch, endpoint: Endpoint) -> None:
    long, short = "Zk" + "0123456789abcdef" * 7, "Qw1-short-one"
    (orch.workspace / "a.txt").write_text(f"service: {long}\n")
    (orch.workspace / "b.txt").write_text(f"{'x' * 110} {short}\n")
    (orch.workspace / "c.txt").write_text(f"{'y' * 1980}\nc: {long}\n")
    step = f"print('{'z' * 3000}', open('a.txt').read()[:60])"
    endpoint.reply = Cast(
        planner=[plan(coder("look"))], agents={"Do look": [code(step), code("final_answer('seen')")]}
    )
    done = orch("ask", "What is it?", SERVICE_TOKEN=long, B_KEY=short)
    assert done.code == 0, done.err
    sent = "".join(json.dumps(one.request) for one in endpoint.exchanges)
    assert "begins: service: [secret SERVICE_TOKEN]" in sent
    assert not any(part in sent for part in (long[:10], short[:6]))


@pytest.mark.parametrize("keep", [16, 40, 99])
def test_long_beginnings_and_ends_are_masked_anywhere_and_short_ones_are_not(keep: int) -> None:
    jwt = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
    found = {"A_TOKEN": jwt + "ab12" * 20, "B_TOKEN": jwt + "cd34" * 25}
    keys = known_keys(found, ())
    for name, value in found.items():
        for part in (value[:keep], value[-keep:]):
            assert "secret" in keys.mask(f"see {part} there")
            assert not any(row in keys.mask(f"see {part} there") for row in (part[:9], part[-9:], "cd34"))
        assert keys.mask(f"see {value} there") == f"see [secret {name}] there"
    assert keys.mask("see eyJhbGciOiJIUzI there") == "see eyJhbGciOiJIUzI there"


def test_an_address_begins_as_others_do() -> None:
    keys = known_keys(
        {"AUTH_URL": "https://login.example.org/of/mine", "PEM_KEY": "-----BEGIN X KEY-----\nab"}, ()
    )
    for text in ("https://login.example.org/other", "-----BEGIN X KEYS", "ssh://host/of/mine"):
        assert keys.mask(text) == text
    assert "mine" not in keys.mask("at https://login.example.org/of/mine")


def test_requests_are_masked_at_once_with_many_variables() -> None:
    found = {f"N{n}_API_KEY": f"sk-{n:03}{'abcdef0123' * 5}" for n in range(200)}
    found |= {f"N{n}_URL": f"postgres://user:{n:03}+pass word/{n:03}@host/db" for n in range(100)}
    started = time.process_time()
    keys = known_keys(found, ())
    text = Path(__file__).read_text(encoding="utf-8") + "\n größer"
    messages = [text * (500_000 // len(text)), *(text[:5000] for _ in range(60)), "sk-" * 70_000]
    messages.append(f"{found['N1_API_KEY'][:30]} " * 5_000)
    request = ModelRequest(role="agent", messages=[{"role": "user", "content": one} for one in messages])
    without_keys(request, keys)
    assert time.process_time() - started < 3.0


def test_variables_whose_names_differ_in_a_sign_are_two() -> None:
    found = {name: f"K-{n}-secret" for n, name in enumerate(("A_B_KEY", "A-B_KEY", "A.B_KEY", "A_B_KEY_2"))}
    masked = known_keys(found, ()).mask(" ".join(found.values()))
    assert "K-" not in masked
    assert len(set(masked.split("]"))) == 5


@pytest.mark.parametrize(
    ("address", "password"),
    [
        ("postgres://u:p4ss-word@h/db", "p4ss-word"),
        ("redis://:p4ss-word@h:1,redis://:0ther-word@h", "0ther-word"),
        ("http://u:p4ss%40word@proxy:3128/", "p4ss@word"),
        ("amqp://u:p4ss/word@h", "p4ss/word"),
        ("mysql://u:p@ss-w0rd@h/db?x=y@z", "p@ss-w0rd"),
        ("https://ghp_0123456789abcdef@github.com/x", "ghp_0123456789abcdef"),
        ("url = 'postgres://u:p4ss-word@h/db'", "p4ss-word"),
        ("https://host:4873/@scope/package-1", ""),
        ("https://host/a:package-1@2", ""),
        ("ssh://deploy-2@host/x", ""),
        ("postgres://postgres:postgres@h", ""),
        ("://@:@://", ""),
    ],
)
def test_the_password_of_an_address_is_a_key(address: str, password: str) -> None:
    keys = known_keys({"DATABASE": address}, ())
    assert (password in keys.values.values()) if password else not keys.values


def test_variables_are_keys_by_any_part_of_their_names_and_paths_are_none(tmp_path: Path) -> None:
    keys = "OPENAI_API_KEY_2 AWS_ACCESS_KEY_ID SECRET_KEY_BASE MY_PASSPHRASE SSHPASS PGPASSWORD GITHUBTOKEN"
    keys += " DB_URL_PASSWORD2 TOKEN2 KEY1 apikey"
    keys += " A_PAT NPM_CONFIG__AUTH REDISCLI_AUTH AWS_SECRET_ACCESS_KEY npm_token LDAP_PASSWORDS"
    others = "GIT_AUTHOR_NAME TOKENIZERS_PARALLELISM KEYBOARD PWD OLDPWD XAUTHORITY PATTERN"
    named = known_keys(dict.fromkeys(f"{keys} {others}".split(), "/wJalr+XUtn"), ())
    assert set(named.values) == set(keys.split())
    assert known_keys({"SSH_AUTH_TOKEN": str(tmp_path)}, ()).values == {}
