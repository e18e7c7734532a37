"""Draws the images of a run after its answer, on terminals that can."""

from pathlib import Path

from orchestrator_cli.recall.run_images import small_images
from orchestrator_cli.settings import Settings
from orchestrator_cli.views.console import Console
from orchestrator_cli.views.inline_image import image_protocol

MOST_DRAWN = 4
"""Images on a terminal."""


def draw_images(console: Console, settings: Settings) -> None:
    """Draw the images of the run that the console has shown, if its terminal is known to draw them."""
    protocol = image_protocol()
    if protocol and settings.show_images and console.can_draw:
        state = console.state
        for image in small_images(Path(state.workspace), state.changes.values(), settings, MOST_DRAWN):
            console.draw(protocol, image.path, image.png, image.width)
