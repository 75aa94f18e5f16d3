"""New sequences from a model with a generate head.

In: a checkpoint, a class, and seeds. Out: sequences of frames, of features, or sentences. Knows nothing of files,
except the image or video that a clip may start from.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from pipeline.checkpoint import Checkpoint, ModelError
from pipeline.data.manifest_rows import normalised_name
from pipeline.data.vocabulary import did_you_mean
from pipeline.heads.generate_features import GenerateFeatures
from pipeline.heads.generate_frames import GenerateFrames
from pipeline.heads.generate_tokens import GenerateTokens
from pipeline.media.decode import decode
from pipeline.media.sniff import MediaError
from pipeline.models.gan.codes import LatentCodes
from pipeline.models.gan.frame_tensors import to_unit_range
from pipeline.models.recurrent.core import State

CHUNK_STEPS = 32
"""Steps that are generated at once; the state continues from chunk to chunk."""

MAX_STEPS = 1_000_000
"""Steps of all sequences together; all of them and their noise are in memory."""

GenerateHead = GenerateFrames | GenerateFeatures | GenerateTokens


class GeneratedSequence(NamedTuple):
    """A generated sequence and its class, or None where the model has no classes.

    values: frames uint8 (T, S, S, 3), features float32 (T, D), or a sentence. rate: steps a second.
    """

    name: str
    label: str | None
    values: np.ndarray | str
    rate: float


def generate_head(checkpoint: Checkpoint) -> GenerateHead:
    """The generate head of a model. Raises ModelError where it has none."""
    model = checkpoint.model
    head = next((h for h in map(model.head, model.heads) if isinstance(h, GenerateHead)), None)
    if head is None:
        kinds = ", ".join(h.kind for h in checkpoint.architecture.heads.values())
        raise ModelError(
            f"This model generates no sequences (its heads: {kinds}). That needs a head of kind generate. Train a "
            "model with one."
        )
    return head


@torch.inference_mode()
def generate_sequences(
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
) -> list[GeneratedSequence]:
    """`count` sequences of `length` steps. The state continues from chunk to chunk, so any length is possible.

    label: a class; None takes all classes in turn. content_seed: the content comes from this seed and the motion from
    `seed`, so the same motion gets another content. towards: the sequences lead in equal steps from the codes of `seed`
    to those of this seed, with the same motion. image: the first frame, for a model that was trained with first_frame.
    truncation: factor on the codes. 1 is as in training; a smaller one gives more usual sequences, of better quality
    and less variety (Brock et al. 2019, Karras et al. 2019, arXiv 1812.04948). Raises ModelError for a model that
    cannot do it, ValueError for a class that the model does not know, for too many steps and for a wrong truncation.
    """
    checkpoint.model.to(device).eval()
    head = generate_head(checkpoint)
    if count * length > MAX_STEPS:
        raise ValueError(
            f"{count} sequences of {length} steps are {count * length:,} steps, and at most {MAX_STEPS:,} are "
            "generated at a time. Ask for fewer or shorter sequences."
        )
    labels = _labels(head, label, count).to(device)
    codes = _draw_codes(head, count, length, seed, device)
    if content_seed is not None:
        codes = codes._replace(content=_draw_codes(head, count, length, content_seed, device).content)
    if towards is not None:
        codes = _interpolate(codes, _draw_codes(head, 1, length, towards, device))
        labels = labels[:1].expand(count)
    codes = _truncate(head, codes, truncation)
    codes = _with_first_frame(checkpoint, head, codes, image, device)
    chunks: list[Tensor] = []
    state: State | None = None
    for start in range(0, length, CHUNK_STEPS):
        part = codes._replace(motion=codes.motion[:, start : start + CHUNK_STEPS])
        chunk, state = head.generate(part, labels, state)
        chunks.append(chunk.cpu())
    return _name_sequences(checkpoint, head, torch.cat(chunks, dim=1), labels.tolist(), seed)


def _labels(head: GenerateHead, label: str | None, count: int) -> Tensor:
    """The index of each sequence's class, (count,)."""
    names = head.vocabulary.names
    if label is None:
        return torch.arange(count) % max(1, len(names))
    label = normalised_name(label)
    if label not in names:
        known = f"It knows: {', '.join(names)}" if names else "It was trained without classes; leave --label out"
        raise ValueError(f"'{label}' is no class of this model.{did_you_mean(label, list(names))} {known}.")
    return torch.full((count,), names.index(label))


def _draw_codes(head: GenerateHead, count: int, length: int, seed: int, device: torch.device) -> LatentCodes:
    """The codes of each sequence from a seed of its own.

    They do not depend on how many sequences there are, and a longer sequence begins like a shorter one.
    """
    random = torch.Generator(device)
    codes_of_each = []
    for number in range(count):
        random.manual_seed((seed * 1_000_003 + number) % 2**63)
        codes_of_each.append(head.generator.draw(1, length, random))
    return LatentCodes(*(torch.cat(parts) for parts in zip(*(codes[:3] for codes in codes_of_each), strict=True)))


def _truncate(head: GenerateHead, codes: LatentCodes, truncation: float) -> LatentCodes:
    """The codes times `truncation`."""
    if not 0 < truncation <= 1:
        raise ValueError(
            f"truncation is {truncation:g}. Give a number above 0 and at most 1; 1 leaves the codes as they are drawn."
        )
    if truncation == 1:
        return codes
    if isinstance(head, GenerateTokens):
        raise ValueError(
            f"truncation is {truncation:g}, and this model generates texts. Truncation is for frames and features. "
            "Leave it out."
        )
    return LatentCodes(*(truncation * part for part in codes[:3]))


def _interpolate(codes: LatentCodes, other: LatentCodes) -> LatentCodes:
    """From the first codes to the other ones along an arc, on which codes keep their length (White 2016, arXiv
    1609.04468).
    """
    angles = torch.linspace(0, torch.pi / 2, len(codes.content), device=codes.content.device)[:, None]
    content, start = (
        angles.cos() * a[:1] + angles.sin() * b for a, b in ((codes.content, other.content), (codes.start, other.start))
    )
    return LatentCodes(content, codes.motion[:1].expand_as(codes.motion), start)


def _with_first_frame(
    checkpoint: Checkpoint, head: GenerateHead, codes: LatentCodes, image: Path | None, device: torch.device
) -> LatentCodes:
    """The codes with content and start of an image, for a model that continues a first frame."""
    if not isinstance(head, GenerateFrames) or not head.needs_first_frame:
        if image is None:
            return codes
        raise ModelError(
            "This model draws its content from noise, and --image gives a first frame. Leave --image out, or train a "
            "model with first_frame: true."
        )
    if image is None:
        raise ValueError("This model continues a first frame, and none was given. Give one with --image.")
    frame = torch.from_numpy(_read_first_frame(checkpoint, image)).to(device)[None]
    return head.encode_first_frame(codes, to_unit_range(frame).expand(len(codes.content), -1, -1, -1))


def _read_first_frame(checkpoint: Checkpoint, path: Path) -> np.ndarray:
    """The first frame of a video, or an image, as the model's encoder sees it: uint8 (S, S, 3). MediaError where it is
    neither.
    """
    section = checkpoint.architecture.encoder
    assert section.kind == "frames", "the architecture checks this"
    transform = section.transform()
    try:
        clips = decode(path, clock=checkpoint.architecture.clock.build(), transform=transform, backend=section.decoder)
        return next(iter(clips)).frames[0].copy()
    except MediaError:
        data = np.fromfile(path, np.uint8) if path.is_file() else np.empty(0, np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
        if image is None:
            raise
        return transform(np.ascontiguousarray(image[..., ::-1])).copy()


def _name_sequences(
    checkpoint: Checkpoint, head: GenerateHead, generated: Tensor, labels: list[int], seed: int
) -> list[GeneratedSequence]:
    """Generated values (B, T, ...) as sequences with names."""
    sequences = []
    for number, (one, index) in enumerate(zip(generated, labels, strict=True)):
        label = head.vocabulary.names[index] if head.vocabulary.names else None
        values = head.tokenizer.decode(one.tolist()) if isinstance(head, GenerateTokens) else one.numpy()
        name = f"{label or head.name}_seed{seed}_{number:03d}"
        sequences.append(GeneratedSequence(name, label, values, checkpoint.architecture.clock.rate))
    return sequences
