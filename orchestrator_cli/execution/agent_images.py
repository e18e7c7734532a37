"""`read_image`: an agent looks at an image of its checkout, such as a chart that it drew.

The image is made small in a sandbox of its own, which reads the checkout, and shown to the model after the
step. Of what was looked at, the model sees the newest; old images are only named.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from memory.knowledge.documents import UnreadableDocument
from orchestrator_cli.durable.foreign import on_one_line
from orchestrator_cli.execution.attempt import AttemptSpec
from orchestrator_cli.models.model import Message, with_images
from orchestrator_cli.plan import READ_IMAGE
from orchestrator_cli.recall.attachments import address, image_form, picture
from orchestrator_cli.tools.files import read_beginning
from orchestrator_cli.values import AttachedFile

MOST_SHOWN = 4
"""Images that a model sees at once."""


def can_look(spec: AttemptSpec) -> bool:
    """Whether an agent is given `read_image`: its model sees, and it may read the files anyway."""
    named = {"read_file", READ_IMAGE}.intersection(spec.subtask.tools)
    return spec.sees and (spec.writes_code or bool(named))


@dataclass
class LookedAt:
    """The images that an agent has looked at."""

    pending: list[AttachedFile] = field(default_factory=list)
    """Those of the present step."""
    by_step: dict[int, list[AttachedFile]] = field(default_factory=dict)

    def end_step(self, number: int) -> None:
        """Those that were looked at belong to the step of this number."""
        if self.pending:
            self.by_step[number] = list(self.pending)
            self.pending.clear()

    def message(self, number: int) -> list[Message]:
        """What the model sees of the images of a step."""
        found = self.by_step.get(number, [])
        later = sum(len(images) for step, images in self.by_step.items() if step > number)
        shown = found[: max(0, MOST_SHOWN - later)]
        return [with_images(f"What {READ_IMAGE} showed:", shown)] if shown else []


def image_reader(
    spec: AttemptSpec, looked: LookedAt, convert: Callable[[str], object]
) -> Callable[[str], str]:
    """The tool. `convert` makes an image small, given its path in the checkout."""

    def read_image(path: str) -> str:
        """Look at an image of the workspace, such as a chart that was drawn. It is shown after this step.

        Args:
            path: The PNG, JPEG, GIF or WebP file, relative to the workspace.
        """
        if len(looked.pending) >= MOST_SHOWN:
            raise ValueError(f"at most {MOST_SHOWN} images are shown after a step")
        if not image_form(read_beginning(spec.place.root, path, 16)):
            raise ValueError(f"{path} is no PNG, JPEG, GIF or WebP image")
        try:
            media, data, about = picture(convert(path))
        except UnreadableDocument as exc:
            raise ValueError(f"{path}: {exc}") from exc
        name = on_one_line(path)
        looked.pending.append(AttachedFile(name=name, line=f"{media}, {about}", image=address(media, data)))
        digest = hashlib.sha256(data).hexdigest()[:12]
        return f"{name} ({media}, {about}, SHA-256 {digest}…) is shown to you after this step."

    return read_image
