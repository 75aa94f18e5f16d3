"""A model for every kind of head, over series, over texts and over frames, and rows that teach all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.architecture import TOKENS, Architecture
from pipeline.config.base import validate
from pipeline.config.heads import build_vocabulary
from pipeline.data.dataset import RowSource, StoredSeries
from pipeline.data.manifest_rows import Row, Span
from pipeline.data.texts import StoredText
from pipeline.data.tokenizer import Tokenizer
from pipeline.models.model import Model

WIDTH = 5
WORDS = [f"word{i:04d}" for i in range(2000)]
"""So many words that a caption head has megabytes of weights."""
CORE = {"hidden": 8, "input_dropout": 0}
SERIES_HEADS: dict[str, dict[str, Any]] = {
    "classify": {"kind": "classify"},
    "classify_last": {"kind": "classify", "pool": "last", "step_loss_share": 0.5},
    "classify_attention": {"kind": "classify", "pool": "attention"},
    "segment": {"kind": "segment"},
    "segment_steps": {"kind": "segment", "crf": False},
    "anticipate": {"kind": "anticipate", "leads": [0.5]},
    "forecast": {"kind": "forecast", "horizon": 2, "quantiles": [0.1, 0.9]},
    "forecast_recursive": {"kind": "forecast", "horizon": 3, "mode": "recursive", "segment_steps": 2},
    "forecast_critic": {"kind": "forecast", "horizon": 2, "adversarial": {}},
    "caption": {"kind": "caption", "vocabulary_size": 3000},
    "caption_spans": {"kind": "caption", "attend_to": "spans", "segment_head": "segment", "hidden": 8, "embedding": 8},
    "transcribe": {"kind": "transcribe"},
    "generate_features": {"kind": "generate", "makes": "features", "hidden": 8},
}
TEXT_HEADS: dict[str, dict[str, Any]] = {
    "language": {"kind": "language"},
    "language_untied": {"kind": "language", "tie_weights": False},
    "generate_tokens": {"kind": "generate", "makes": "tokens"},
}
FRAME_HEADS: dict[str, dict[str, Any]] = {
    "generate_frames": {"kind": "generate", "makes": "frames", "channels": 8, "critic": {"hidden": 8, "channels": 8}}
}


def make_rows(count: int = 8) -> list[Row]:
    """Rows with a label, spans, captions and a text."""
    return [
        Row(
            f"{i}.npy",
            "train",
            label=("down", "up")[i % 2],
            spans=(Span(0.1, 0.4, "down"), Span(0.5, 0.8, "up")),
            captions=(" ".join(WORDS[i * 250 : i * 250 + 250]), "word0001 word0002"),
            text=" ".join(WORDS[i : i + 5 + i]),
        )
        for i in range(count)
    ]


def series_source(folder: Path, rows: list[Row]) -> StoredSeries:
    """Random series of 12 to 19 steps, 10 a second."""
    rng = np.random.default_rng(0)
    for i, row in enumerate(rows):
        np.save(folder / row.path, rng.standard_normal((12 + i, WIDTH)).astype(np.float32))
    return StoredSeries(folder, 10.0)


def text_source(rows: list[Row], tokenizer: Tokenizer) -> RowSource:
    """The texts of the rows, with start and end."""
    return StoredText(Path(), tokenizer, add_bos_eos=True)


def build(
    encoder: dict[str, Any], heads: Mapping[str, Mapping[str, Any]], rows: list[Row], core: Mapping[str, Any] = CORE
) -> tuple[Model, Tokenizer]:
    """A model with all these heads, and the tokenizer of the texts. core: settings beside those of CORE."""
    tokenizer = Tokenizer.train([row.text or "" for row in rows])
    values = {"encoder": encoder, "core": {**CORE, **core}, "heads": heads}
    architecture = validate(
        Architecture, values if encoder["kind"] == "tokens" else {"clock": {"rate": 10}, **values}, "x"
    )
    counts = {n: Counter(la for r in rows for la in h.taught_labels(r)) for n, h in architecture.heads.items()}
    vocabularies: dict[str, Any] = {n: build_vocabulary(h, rows, counts[n]) for n, h in architecture.heads.items()}
    model = architecture.build({**vocabularies, TOKENS: tokenizer}, input_size=WIDTH, counts=counts)
    return model, tokenizer


def series_model(rows: list[Row], *names: str) -> Model:
    """A model of series with these heads of SERIES_HEADS, or with all of them."""
    heads = {name: SERIES_HEADS[name] for name in names or SERIES_HEADS}
    return build({"kind": "series", "project": 0, "normalise": "none"}, heads, rows)[0]


def text_model(rows: list[Row], *names: str) -> tuple[Model, Tokenizer]:
    """A model of texts with these heads of TEXT_HEADS, or with all of them."""
    heads = {name: TEXT_HEADS[name] for name in names or TEXT_HEADS}
    return build({"kind": "tokens", "add_bos_eos": True, "embedding": 8}, heads, rows)


def frames_model(rows: list[Row]) -> Model:
    """A model of pixels with the heads of FRAME_HEADS."""
    encoder = {"kind": "frames", "backbone": "pixels", "size": 16, "project": 0}
    return build(encoder, FRAME_HEADS, rows)[0]
