"""Secrets: only those given exist inside, and their values do not leave."""

import base64
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolsmith.sandbox import SandboxError, SandboxExecutor
from toolsmith.sandbox.processes import tree
from toolsmith.sandbox.redaction import Secrets

KEY = "sk-live/4f+9'aB\"c=7d"
GIVEN = {"secrets": {"API_KEY": KEY, "OTHER": "hunter2-hunter2"}}
READ = "import os\nkey = os.environ['API_KEY']\n"


@pytest.fixture
def holder(make_sandbox: Any) -> SandboxExecutor:
    sandbox: SandboxExecutor = make_sandbox(given=GIVEN)
    return sandbox


def test_only_the_secrets_given_exist_inside(
    holder: SandboxExecutor, make_sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOT_GIVEN", "canary-value")
    code = "import os\nsorted(name for name in os.environ if name in ('API_KEY', 'OTHER', 'NOT_GIVEN'))"
    assert holder(code).output == ["API_KEY", "OTHER"]
    assert make_sandbox()(code).output == []
    assert holder(f"{READ}len(key)").output == len(KEY), "inside it is the real value"


def test_what_is_printed_is_masked(holder: SandboxExecutor) -> None:
    logs = holder(f"{READ}print('key', key, [key], repr(key))\nos.system('echo $OTHER')").logs
    assert logs == "key [secret API_KEY] ['[secret API_KEY]'] '[secret API_KEY]'\n[secret OTHER]\n"


def test_results_are_masked_however_deep(holder: SandboxExecutor) -> None:
    value = holder(
        f"{READ}{{key: [(key, {{key}})], 'data': key.encode() + b'!', 'text': Exception(key)}}"
    ).output
    mark = "[secret API_KEY]"
    assert value == {mark: [(mark, {mark})], "data": b"[secret API_KEY]!", "text": mark}


def test_errors_are_masked_with_the_lines_they_quote(holder: SandboxExecutor) -> None:
    with pytest.raises(SandboxError) as caught:
        holder(f"{READ}raise ValueError('no access with ' + key)")
    assert str(caught.value).endswith("ValueError: no access with [secret API_KEY]")
    with pytest.raises(SandboxError) as caught:
        holder("open('hunter2-hunter2')")
    assert "hunter2" not in str(caught.value)


def test_arguments_of_host_tools_are_masked(holder: SandboxExecutor) -> None:
    seen: list[Any] = []
    holder.send_tools({"note": lambda *args, **kwargs: seen.append((args, kwargs))})
    holder(f"{READ}note(key, [key], data=key.encode(), **{{key: 1}})")
    mark = "[secret API_KEY]"
    assert seen == [((mark, [mark]), {"data": mark.encode(), mark: 1})]


def test_the_output_kept_for_smolagents_is_masked(holder: SandboxExecutor) -> None:
    with pytest.raises(SandboxError):
        holder(f"{READ}print(key)\n1 / 0")
    assert holder.state["_print_outputs"] == "[secret API_KEY]\n"


def test_terminal_control_within_a_value_does_not_hide_it(holder: SandboxExecutor) -> None:
    assert holder(f"{READ}print(key[:5] + '\\x1b[31m' + key[5:])").logs == "[secret API_KEY]\n"


def test_a_value_cut_by_a_limit_is_masked_too(make_sandbox: Any) -> None:
    sandbox = make_sandbox(given=GIVEN)
    with pytest.raises(SandboxError) as caught:
        sandbox(f"{READ}raise ValueError('x' * (4000 - 8) + key)")
    assert str(caught.value).endswith("x[secret API_KEY]")


def test_the_values_stand_on_no_command_line(holder: SandboxExecutor) -> None:
    holder("1")
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in tree(os.getpid())[1:]]
    assert len(lines) >= 2
    assert not any(KEY.encode() in line for line in lines)


def test_secrets_are_there_again_after_a_restart(holder: SandboxExecutor) -> None:
    with pytest.raises(SandboxError):
        holder("import os, sys\nos.write(int(sys.argv[2]), b'\\xff' * 8)\nwhile True: pass")
    assert holder(f"{READ}key").output == "[secret API_KEY]"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("A-B", "long enough", "cannot be called 'A-B'"),
        ("PATH", "long enough", "steers programs"),
        ("LD_PRELOAD", "long enough", "steers programs"),
        ("https_proxy", "long enough", "steers programs"),
        ("KEY", "12345", "too short to be masked"),
        ("KEY", "with\0zero", "zero byte"),
    ],
)
def test_a_secret_that_cannot_be_kept_is_refused_without_telling_it(
    make_sandbox: Any, name: str, value: str, why: str
) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        make_sandbox(given={"secrets": {name: value}})
    assert value not in str(caught.value)


PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqh\nkiG9w0BAQEFAASCBK\n-----END KEY-----\n"


@pytest.mark.parametrize(
    "written",
    [
        KEY,
        repr(KEY),
        KEY.replace("/", "%2F")
        .replace("+", "%2B")
        .replace("'", "%27")
        .replace('"', "%22")
        .replace("=", "%3D"),
        KEY[:9] + "\n" + KEY[9:],
        KEY[:4] + "\r\n    " + KEY[4:12] + "\n\t" + KEY[12:],
        PEM,
        repr(PEM),
        "MIIEvQIBADANBgkqh",
    ],
)
def test_a_value_is_masked_in_each_way_it_is_usually_written(written: str) -> None:
    masked = Secrets({"KEY": KEY, "PEM": PEM}).mask(f"before {written} after")
    assert "[secret " in masked
    assert not any(part in masked for part in (KEY[:9], KEY[-9:], "MIIE", "kiG9"))


@pytest.mark.parametrize(
    "written",
    [
        "".join(f"\\u{ord(sign):04x}" for sign in KEY),
        "\\u" + f"{ord(KEY[0]):04X}" + KEY[1:],
        "\u00ad".join(KEY),
        KEY[:5] + "\u200b\u2060" + KEY[5:],
        "".join(chr(ord(sign) + 0xFEE0) if "!" <= sign <= "~" else sign for sign in KEY),
        "\u200b\n  ".join((KEY[:7], KEY[7:])),
        KEY[:7] + " ⏎ " + KEY[7:],
    ],
    ids=("json", "json-first", "soft", "invisible", "wide", "both", "shown"),
)
def test_a_value_is_masked_in_disguise_and_nothing_else_is(written: str) -> None:
    before, after = "größer: \\u00fc\u00ad\n   x\u200by\t", "\n  ｅｎｄ"
    masked = Secrets({"KEY": KEY, "OTHER": "quite-another-one"}).mask(before + written + after)
    assert masked == f"{before}[secret KEY]{after}"


def test_what_is_not_covered_is_not_masked() -> None:
    secrets = Secrets({"KEY": KEY})
    for form in (base64.b64encode(KEY.encode()).decode(), KEY[::-1], KEY.encode().hex(), "-".join(KEY)):
        assert secrets.mask(form) == form


@given(
    st.text(min_size=6).filter(lambda text: len(text.strip()) >= 6 and "\0" not in text), st.text(), st.text()
)
def test_value_is_masked_in_any_context(value: str, before: str, after: str) -> None:
    marked = Secrets({"KEY": value}).mask(before + value + after)
    assert value not in marked or value in "[secret KEY]" or value in before + "[secret KEY]" + after


@given(st.text())
def test_without_secrets_texts_stay_as_they_are(text: str) -> None:
    assert Secrets({}).mask(text) == text


@pytest.mark.parametrize("value", ["/home/ada/projects/notes.txt", "https://ada.example/projects/a-b-c-d-e"])
def test_of_a_path_or_an_address_no_part_is_masked(value: str) -> None:
    other = value[:-4]
    secrets = Secrets({"NOTES": value})
    assert secrets.mask(f"{other} is the folder") == f"{other} is the folder"
    assert secrets.mask(f"read {value}") == "read [secret NOTES]"
