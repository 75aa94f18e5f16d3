"""`unreel generate`: texts that continue a prompt, or files of new sequences.

In: a model folder and what to generate. Out: lines to print, and files. Knows nothing of how the model was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.atomic import check_output_folder
from pipeline.checkpoint import Checkpoint, load_model
from pipeline.inference.generate_sequences import GeneratedSequence, generate_head, generate_sequences
from pipeline.inference.generate_text import continue_text
from pipeline.training.distributed import distributed
from pipeline.writers.generated import check_formats, num_frames_on_sheet, write_sequences

SEQUENCE_OPTIONS = ("label", "content_seed", "towards", "image", "truncation")
TEXT_OPTIONS = ("temperature", "top_k", "top_p")
TEXT_LENGTH, SEQUENCE_LENGTH = 200, 16
TEMPERATURE = 0.8


def generate(
    model: Path, *, device: str, log: Callable[[str], None], out: Path | None, format: Sequence[str], **options: Any
) -> list[str]:
    """The texts that a model's language head continues (see `continue_text`), or the paths of the files with the
    sequences of its generate head (see `generate_sequences`). Generated sentences come before the paths.

    Raises ValueError for an option that does not fit the model.
    """
    if out is not None:
        check_output_folder(out, "--out")
    checkpoint = load_model(model)
    has_sequences = any(section.kind == "generate" for section in checkpoint.architecture.heads.values())
    prompt = options.pop("prompt")
    unused = _pop_unused(options, TEXT_OPTIONS if has_sequences else SEQUENCE_OPTIONS)
    unused += ["--prompt"] if has_sequences and prompt else ["--out"] if out and not has_sequences else []
    if unused:
        raise ValueError(
            f"{unused[0]} is not for this model, which generates {'sequences' if has_sequences else 'texts'}. Leave it "
            "out."
        )
    with distributed(device, 1) as context:
        if not has_sequences:
            length, temperature = options.pop("length") or TEXT_LENGTH, options.pop("temperature")
            options["samples"] = options.pop("count")
            options["temperature"] = TEMPERATURE if temperature is None else temperature
            return continue_text(checkpoint, context.device, prompt=prompt, length=length, **options)
        if out is None:
            raise ValueError("Sequences are written into files, and no folder was given. Give one with --out DIR.")
        formats = check_formats(format, generate_head(checkpoint).makes)
        sequences = _generate_sequences(checkpoint, context.device, options)
    written = write_sequences(
        out, formats, [s.name for s in sequences], [s.values for s in sequences], sequences[0].rate
    )
    log(f"{len(sequences)} sequences, written to {out}")
    first = sequences[0].values
    if "png" in formats and isinstance(first, np.ndarray) and (shown := num_frames_on_sheet(first)) < len(first):
        log(f"sheet.png has room for the first {shown:,} of {len(first):,} looks; mp4 and gif hold all")
    return [*(s.values for s in sequences if isinstance(s.values, str)), *map(str, written)]


def _pop_unused(options: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Remove options that do not fit the model; the flags of those that were given."""
    return [f"--{name.replace('_', '-')}" for name in names if options.pop(name) is not None]


def _generate_sequences(
    checkpoint: Checkpoint, device: torch.device, options: dict[str, Any]
) -> list[GeneratedSequence]:
    """The sequences, with default length and truncation where none were given."""
    length, truncation = options.pop("length") or SEQUENCE_LENGTH, options.pop("truncation")
    options["truncation"] = 1.0 if truncation is None else truncation
    return generate_sequences(checkpoint, device, length=length, **options)
