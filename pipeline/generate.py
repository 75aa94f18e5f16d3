"""A model -> what it makes: texts that go on, or files of new sequences.

In: a model folder and wishes. Out: lines to print, and files. Knows nothing of how the model was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.checkpoint import load_model
from pipeline.inference.create import generator_of, make_sequences
from pipeline.inference.generate import continue_text
from pipeline.training.runtime import runtime
from pipeline.writers.made import check_made_formats, on_sheet, write_made

SEQUENCES, TEXTS = ("label", "content_seed", "towards", "image", "truncation"), ("temperature", "top_k", "top_p")


def generate(
    model: Path, *, device: str, say: Callable[[str], None], out: Path | None, format: Sequence[str], **wishes: Any
) -> list[str]:
    """What a model makes: texts that its language head goes on with (see `continue_text`), or the files of sequences that its
    generate head made (see `make_sequences`). Raises ValueError for wishes that are not for such a model.
    """
    checkpoint = load_model(model)
    is_of_sequences = any(section.kind == "generate" for section in checkpoint.recipe.heads.values())
    idle = [f"--{k.replace('_', '-')}" for k in (TEXTS if is_of_sequences else SEQUENCES) if wishes.pop(k) is not None]
    prompt = wishes.pop("prompt")
    idle += ["--prompt"] if is_of_sequences and prompt else ["--out"] if out and not is_of_sequences else []
    if idle:
        raise ValueError(
            f"{idle[0]} is not for this model, which {'makes sequences' if is_of_sequences else 'writes texts'}. Leave it out."
        )
    with runtime(device, 1) as place:
        if not is_of_sequences:
            length, temperature = wishes.pop("length") or 200, wishes.pop("temperature")
            wishes |= {"samples": wishes.pop("count"), "temperature": 0.8 if temperature is None else temperature}
            return continue_text(checkpoint, place.device, prompt=prompt, length=length, **wishes)
        if out is None:
            raise ValueError("Sequences go into files, and no folder was given. Give one with --out DIR.")
        formats = check_made_formats(format, generator_of(checkpoint).makes)
        length, truncation = wishes.pop("length") or 16, wishes.pop("truncation")
        wishes["truncation"] = 1.0 if truncation is None else truncation
        made = make_sequences(checkpoint, place.device, length=length, **wishes)
    written = write_made(out, formats, [m.name for m in made], [m.values for m in made], made[0].rate)
    say(f"{len(made)} sequences, written to {out}")
    first = made[0].values
    if "png" in formats and isinstance(first, np.ndarray) and (shown := on_sheet(first)) < len(first):
        say(f"sheet.png has room for the first {shown:,} of {len(first):,} looks; mp4 and gif hold all")
    return [*(m.values for m in made if isinstance(m.values, str)), *map(str, written)]
