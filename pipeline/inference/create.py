"""A generator makes new sequences.

In: a checkpoint whose model has a generate head, a wish and seeds. Out: sequences: frames, features or sentences. Knows nothing of files but
the picture that a clip may begin from.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from pipeline.checkpoint import Checkpoint, ModelError
from pipeline.heads.generate import Generate
from pipeline.media.decode import decode
from pipeline.media.sniff import MediaError
from pipeline.models.core import State
from pipeline.models.film import numbers
from pipeline.models.generator import Codes
from pipeline.section import near

CHUNK = 32  # steps in memory at once; the state goes on
MOST_STEPS = 1_000_000  # all of them, and their noise, are in memory at once


class Made(NamedTuple):
    """values: frames uint8 (T, S, S, 3), features float32 (T, D), or a sentence; rate: steps a second."""

    name: str
    label: str | None
    values: np.ndarray | str
    rate: float


def generator_of(checkpoint: Checkpoint) -> Generate:
    """The generate head of a model. Raises ModelError where there is none."""
    model = checkpoint.model
    head = next((h for h in map(model.head, model.heads) if isinstance(h, Generate)), None)
    if head is None:
        kinds = ", ".join(h.kind for h in checkpoint.recipe.heads.values())
        raise ModelError(f"This model makes no sequences (its heads: {kinds}). Train one with a head of kind generate.")
    return head


@torch.inference_mode()
def make_sequences(
    checkpoint: Checkpoint,
    device: torch.device,
    *,
    label: str | None = None,
    count: int = 1,
    length: int = 16,
    seed: int = 0,
    content_seed: int | None = None,
    towards: int | None = None,
    image: Path | None = None,
    truncation: float = 1.0,
) -> list[Made]:
    """`count` sequences of `length` steps, as many as one likes: the state goes on from part to part.

    label: a class, None takes all in turn. content_seed: what is shown comes from this seed, the movement from `seed`: the same
    movement with another content. towards: the sequences lead in even steps from the codes of `seed` to those of this one, of one
    movement. image: the first frame, for a model that was trained with first_frame. truncation: so far from their middle codes lie, 1 as in
    training; nearer ones show what is usual, more surely and less variously (Brock et al. 2019, Karras et al. 2019, arXiv 1812.04948).
    Raises ModelError for a model that cannot, ValueError for a class that it does not know.
    """
    checkpoint.model.to(device).eval()
    head = generator_of(checkpoint)
    if count * length > MOST_STEPS:
        raise ValueError(
            f"{count} sequences of {length} steps are {count * length:,} steps, and at most {MOST_STEPS:,} are made at a time. Make fewer, or "
            "shorter ones."
        )
    labels = _labels(head, label, count).to(device)
    codes = _drawn(head, count, length, seed, device)
    if content_seed is not None:
        codes = codes._replace(content=_drawn(head, count, length, content_seed, device).content)
    if towards is not None:
        codes = _between(codes, _drawn(head, 1, length, towards, device))
        labels = labels[:1].expand(count)
    codes = _truncated(head, codes, truncation)
    if head.first_frame or image is not None:
        codes = _begun_from(checkpoint, head, codes, image, device)
    parts: list[Tensor] = []
    state: State | None = None
    for start in range(0, length, CHUNK):
        made, state = head.make(codes._replace(motion=codes.motion[:, start : start + CHUNK]), labels, state)
        parts.append(made.cpu())
    return _named(checkpoint, head, torch.cat(parts, dim=1), labels.tolist(), seed)


def _labels(head: Generate, label: str | None, count: int) -> Tensor:
    names = head.vocabulary.names
    if label is None:
        return torch.arange(count) % max(1, len(names))
    if label not in names:
        known = f"It knows: {', '.join(names)}" if names else "It was trained without classes; leave --label out"
        raise ValueError(f"'{label}' is no class of this model.{near(label, list(names))} {known}.")
    return torch.full((count,), names.index(label))


def _drawn(head: Generate, count: int, length: int, seed: int, device: torch.device) -> Codes:
    """Each sequence's codes by themselves: the same whatever their count, and a longer one goes on where a shorter one ended."""
    random = torch.Generator(device)
    found = []
    for number in range(count):
        random.manual_seed((seed * 1_000_003 + number) % 2**63)
        found.append(head.generator.draw(1, length, random))
    return Codes(*(torch.cat(parts) for parts in zip(*(codes[:3] for codes in found), strict=True)))


def _truncated(head: Generate, codes: Codes, truncation: float) -> Codes:
    if not 0 < truncation <= 1:
        raise ValueError(
            f"truncation is {truncation:g}. Give a number above 0 and at most 1, which leaves codes as they are drawn."
        )
    if truncation == 1:
        return codes
    if head.makes == "tokens":
        raise ValueError(
            f"truncation is {truncation:g}, and this model makes texts: it is of frames and features. Leave it out."
        )
    return Codes(*(truncation * part for part in codes[:3]))


def _between(codes: Codes, other: Codes) -> Codes:
    """From the first codes to the other ones along an arc, on which codes keep their usual length (White 2016, arXiv 1609.04468)."""
    shares = torch.linspace(0, torch.pi / 2, len(codes.content), device=codes.content.device)[:, None]
    content, start = (
        shares.cos() * a[:1] + shares.sin() * b for a, b in ((codes.content, other.content), (codes.start, other.start))
    )
    return Codes(content, codes.motion[:1].expand_as(codes.motion), start)


def _begun_from(
    checkpoint: Checkpoint, head: Generate, codes: Codes, image: Path | None, device: torch.device
) -> Codes:
    section = checkpoint.recipe.encoder
    if not head.first_frame:
        raise ModelError("This model was trained to draw its content, not to take it from a picture. Leave --image out, or train one with "
                         "first_frame.")  # fmt: skip
    if image is None:
        raise ValueError("This model goes on from a picture, and none was given. Give one with --image.")
    assert section.kind == "frames", "the recipe has looked"
    transform = section.transform()
    try:
        clips = decode(image, clock=checkpoint.recipe.clock.build(), transform=transform, backend=section.decoder)
        frame = next(iter(clips)).frames[0]
    except MediaError:
        data = np.fromfile(image, np.uint8) if image.is_file() else np.empty(0, np.uint8)
        found = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
        if found is None:
            raise
        frame = transform(np.ascontiguousarray(found[..., ::-1]))
    picture = torch.from_numpy(frame.copy()).to(device)[None]
    return head.encode(codes, numbers(picture).expand(len(codes.content), -1, -1, -1))


def _named(checkpoint: Checkpoint, head: Generate, made: Tensor, labels: list[int], seed: int) -> list[Made]:
    found = []
    for number, (one, label) in enumerate(zip(made, labels, strict=True)):
        name = head.vocabulary.names[label] if head.vocabulary.names else None
        values: np.ndarray | str = one.numpy()
        if head.makes == "tokens":
            assert head.words is not None
            values = head.words.decode(one.tolist())
        found.append(Made(f"{name or head.name}_seed{seed}_{number:03d}", name, values, checkpoint.recipe.clock.rate))
    return found
