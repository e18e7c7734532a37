"""The prompts, as files: rendered strictly, so that a name nobody gave is an error and not a gap."""

import re
from functools import cache
from importlib import resources

import jinja2


def render(prompt: str, /, **values: object) -> str:
    """The prompt `prompts/PROMPT.md` with its names filled in. Raises `jinja2.UndefinedError`."""
    return _environment().get_template(f"{prompt}.md").render(**values)


def source(prompt: str) -> str:
    """The text of a prompt as it stands, for a library that renders it itself."""
    return resources.files(__name__).joinpath(f"{prompt}.md").read_text(encoding="utf-8")


def as_data(text: object) -> str:
    """A text that stands between <untrusted> marks, unable to end them."""
    return re.sub(r"<(/?\s*untrusted)", r"< \1", str(text), flags=re.IGNORECASE)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: source(name.removesuffix(".md"))),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # plain text for a model, not HTML
    )
    environment.filters["data"] = as_data
    return environment
