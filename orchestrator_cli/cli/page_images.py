"""The images that the page of a run shows."""

from orchestrator_cli.journal.journal import BlobMissing, blobs_of
from orchestrator_cli.recall.attachments import address
from orchestrator_cli.recall.run_images import small_images
from orchestrator_cli.runs.find import PastRun
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import RunState
from orchestrator_cli.views.report import PageImages

MOST_ON_PAGE = 12
"""Images of a run on its page."""
MAX_ATTACHED = 400_000
"""Bytes of an attached image on the page; of a larger one there is its name."""
MAX_PAGE = 4_000_000
"""Bytes of all images on the page."""


def page_images(past: PastRun, state: RunState, settings: Settings) -> PageImages:
    """The images that the page of a run shows: attached ones as they are kept, then those that it wrote."""
    left, attached, written = MAX_PAGE, dict[str, str](), dict[str, str]()
    for one in state.attachments:
        if one.kind != "image":
            continue
        try:
            content = blobs_of(past.journal).content(one.kept)
        except BlobMissing:
            continue
        if len(content) <= min(left, MAX_ATTACHED):
            left -= len(content)
            attached[one.name] = address(one.media, content)
    for image in small_images(past.root, state.changes.values(), settings, MOST_ON_PAGE):
        if len(image.png) > left:
            break
        left -= len(image.png)
        written[image.path] = address("image/png", image.png)
    return PageImages(attached, written)
