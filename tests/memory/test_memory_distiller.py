"""What is kept of a run and of a tool, and what is taken out of it first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import Scope, run_record, scrub, tool_record
from memory.distiller import REMOVED

ME = Scope(user="ada", project="engine")

SECRETS = [
    "sk-proj-abcdefghijklmnop1234567890",
    "sk-ant-api03-abcdefghij_klmnop-1234567890",
    "sk_live_abcdefghij1234567890",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuv",
    "glpat-abcdefghij1234567890",
    "xoxb-123456789012-abcdefghij",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "AKIAIOSFODNN7EXAMPLE",
    "hf_abcdefghijklmnopqrstuvwxyz",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_key_of_a_known_form_is_removed_and_the_words_around_it_kept(secret: str) -> None:
    assert scrub(f"use {secret} to log in") == f"use {REMOVED} to log in"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Authorization: Bearer abcdefghijklmnop.qrstuv", f"Authorization: Bearer {REMOVED}"),
        ("postgres://ada:hunter22@db/app", f"postgres://ada:{REMOVED}@db/app"),
        ("api_key = 'q1w2e3r4t5'", f"api_key = '{REMOVED}'"),
        ('{"password": "correct-horse"}', f'{{"password": "{REMOVED}"}}'),
        ("OPENAI_API_KEY=abcdef123456 orch ask", f"OPENAI_API_KEY={REMOVED} orch ask"),
    ],
)
def test_a_value_with_a_telling_name_is_removed(text: str, kept: str) -> None:
    assert scrub(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "Generate a password with 20 characters",
        "set max_tokens=100000 and count tokens: 123456",
        "https://example.com/a:b/c@d",
        "task-1234567890-abcdefghijk",
        "the bearer of bad news",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert scrub(text) == text


@given(st.text() | st.sampled_from(SECRETS).map(lambda secret: f"token={secret} {secret}"))
def test_scrubbing_twice_changes_nothing_more(text: str) -> None:
    assert scrub(scrub(text)) == scrub(text)


def test_secrets_are_taken_out_of_every_text_of_a_run() -> None:
    secret = SECRETS[0]
    record = run_record(
        run="r",
        prompt=f"log in with {secret}",
        outcome="failed",
        answer=f"{secret} was refused",
        plan=[{"id": "a", "title": f"try {secret}", "kind": "agent", "instruction": secret}],
        lesson=f"{secret} is stale",
        scope=ME,
    )
    assert secret not in record.model_dump_json()
    assert record.text == f"log in with {REMOVED}"
    assert record.data["plan"] == [{"id": "a", "title": f"try {REMOVED}", "kind": "agent"}]


def test_secrets_are_taken_out_of_a_tool_but_its_types_are_not() -> None:
    record = tool_record(
        name="login",
        version="1",
        purpose=f"Log in with {SECRETS[0]}",
        signature=f"login(password: SecretStr, key: str = '{SECRETS[1]}') -> None",
        prompts=[f"token={SECRETS[3]}"],
        scope=ME,
    )
    assert not any(secret in record.model_dump_json() for secret in SECRETS)
    assert record.data["signature"] == f"login(password: SecretStr, key: str = '{REMOVED}') -> None"


def test_a_record_is_the_same_whenever_it_is_written() -> None:
    def write(answer: str) -> object:
        return run_record(run="r", prompt="p", outcome="completed", answer=answer, plan=[], scope=ME).id

    assert write("one") == write("two")


def test_a_long_answer_is_shortened_and_a_broken_one_mended() -> None:
    record = run_record(
        run="r", prompt="p\ud800", outcome="completed", answer="word " * 1000, plan=[], scope=ME
    )
    summary = record.data["answer_summary"]
    assert isinstance(summary, str)
    assert len(summary) <= 800
    assert summary.endswith("word…")
    assert record.text == "p?"


def test_the_latest_twenty_requests_of_a_tool_are_kept() -> None:
    prompts = [f"request number {number}" for number in range(30)]
    record = tool_record(name="t", version="1", purpose="", signature="", prompts=prompts, scope=ME)
    assert record.data["prompts"] == prompts[10:]
