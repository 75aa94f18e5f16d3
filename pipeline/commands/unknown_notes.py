"""What is said once about a model whose heads never answer `unknown`.

In: a model. Out: sentences. Knows nothing of data or training.
"""

from __future__ import annotations

from pipeline.checkpoint import Checkpoint
from pipeline.heads.classify import Classify


def notes_on_unknown(checkpoint: Checkpoint) -> list[str]:
    """A sentence for each head that classifies and never calls a video unknown, with the reason of its training."""
    notes = []
    for name in checkpoint.model.heads:
        head = checkpoint.model.head(name)
        if isinstance(head, Classify) and not head.confidence.has_threshold:
            reason = checkpoint.notes.get("calibration", {}).get(name, {}).get("unknown_is_off")
            notes.append(
                f"note: '{name}' never says `unknown`, so a video of no known class gets a known label: "
                f"{reason or 'the model has no threshold'}"
            )
    return notes
