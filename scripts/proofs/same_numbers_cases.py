"""The trainings of the promise same-numbers, in the names of the new tree: every head, every cell, every encoder.

In: a seed. Out: configs by name. Paths are relative to the folder that a probe works in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from same_numbers_data import FRAMES_RATE, LABELS, SERIES_RATE

Config = dict[str, Any]

COMMON: Config = {
    "data": {"split": "manifest", "window": None, "feature_store": "features"},
    "training": {
        "epochs": 4,
        "batch_size": 4,
        "lr": 0.01,
        "log_every": 1,
        "sample_every": 10,
        "threads": 1,
        "device": "cpu",
        "precision": "float32",
    },
    "tracking": {"wandb": "off"},
    "evaluation": {"baselines": False},
    "core": {"cell": "gru", "hidden": 8, "input_dropout": 0.1},
}
"""5 batches of 4 rows in each of 4 epochs: 20 steps."""

KINDS: dict[str, Config] = {
    "series": {
        "data": {"path": "data/series/manifest.jsonl"},
        "clock": {"rate": SERIES_RATE},
        "encoder": {"kind": "series", "project": 6, "dropout": 0.1},
    },
    "clips": {
        "data": {"path": "data/clips/manifest.jsonl"},
        "clock": {"rate": FRAMES_RATE},
        "encoder": {"kind": "frames", "size": 32, "backbone": "pixels", "grid": 4, "runtime": "torch", "project": 8},
    },
    "texts": {
        "data": {"path": "data/texts/manifest.jsonl"},
        "encoder": {"kind": "tokens", "embedding": 8, "dropout": 0.1},
    },
}
KINDS["tags"] = {**KINDS["texts"], "data": {"path": "data/tags/manifest.jsonl"}}

CELLS: dict[str, Config] = {
    "rnn_tanh": {"cell": "rnn_tanh"},
    "rnn_relu": {"cell": "rnn_relu"},
    "lstm": {"cell": "lstm"},
    "gru": {"cell": "gru"},
    "mingru": {"cell": "mingru"},
    "minlstm": {"cell": "minlstm"},
    "mean": {"cell": "mean", "layers": 0},
    "mean_mlp": {"cell": "mean", "layers": 1},
    "lstm_bidirectional": {"cell": "lstm", "bidirectional": True},
    "mingru_bidirectional": {"cell": "mingru", "bidirectional": True},
    "rnn_tanh_deep": {"cell": "rnn_tanh", "layers": 2, "layer_norm": True, "residual": True},
    "lstm_deep": {"cell": "lstm", "layers": 2, "layer_norm": True, "residual": True},
    "gru_deep_bidirectional": {
        "cell": "gru",
        "layers": 2,
        "layer_norm": True,
        "residual": True,
        "bidirectional": True,
    },
    "minlstm_deep": {"cell": "minlstm", "layers": 2, "layer_norm": True, "residual": True},
    "rnn_relu_dropped": {"cell": "rnn_relu", "recurrent_dropout": 0.3, "recurrent_mask": "sequence"},
    "lstm_dropped": {"cell": "lstm", "recurrent_dropout": 0.3, "recurrent_mask": "batch"},
    "lstm_dropped_by_row": {"cell": "lstm", "recurrent_dropout": 0.3, "recurrent_mask": "sequence"},
    "gru_dropped": {"cell": "gru", "recurrent_dropout": 0.3, "recurrent_mask": "batch"},
    "gru_dropped_by_row": {"cell": "gru", "recurrent_dropout": 0.3, "recurrent_mask": "sequence", "layers": 2},
    "lstm_chrono": {"cell": "lstm", "chrono_steps": 20},
    "gru_chrono": {"cell": "gru", "chrono_steps": 20},
    "mingru_chrono": {"cell": "mingru", "chrono_steps": 20},
}

CAPTION: Config = {"kind": "caption", "hidden": 8, "embedding": 8, "max_length": 12, "beam": 3, "level": "word"}
PLAYERS: Config = {"kind": "generate", "critic": {"hidden": 8, "channels": 8}}
CLIP: Config = {
    **PLAYERS,
    "makes": "frames",
    "channels": 8,
    "hidden": 12,
    "content_size": 6,
    "pose_size": 4,
    "embedding": 4,
}
FEATURES: Config = {**PLAYERS, "makes": "features", "hidden": 12, "motion_size": 4, "embedding": 4, "style_size": 6}
TEXT: Config = {**PLAYERS, "makes": "tokens", "content_size": 6, "motion_size": 4, "embedding": 4}
FEATURE_DATA: Config = {"window": 10}
FRAME_DATA: Config = {"read": "pixels", "window": 8}
PENALIZED: Config = {"gan_loss": "relativistic", "gradient_penalty": 0.5}
SEGMENT: Config = {"kind": "segment"}


def merged(*parts: Mapping[str, Any]) -> Config:
    """Nested settings of several parts; the last one that says something counts."""
    found: Config = {}
    for part in parts:
        for key, value in part.items():
            old = found.get(key)
            found[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return found


def cases(seed: int) -> dict[str, Config]:
    """Every training, by name, in the order in which they run."""
    found = {
        f"cell_{name}": _case("series", {"action": {"kind": "classify"}}, core=core) for name, core in CELLS.items()
    }
    found |= _of_classes() | _of_spans() | _of_numbers() | _of_words() | _of_frames()
    found |= _of_made_frames() | _of_made_features() | _of_made_texts()
    return {name: merged(config, {"run": f"runs/{name}", "training": {"seed": seed}}) for name, config in found.items()}


def _case(kind: str, heads: Config, *, core: Config | None = None, **sections: Config) -> Config:
    """A config for data of a kind. core: in place of the usual cell."""
    base = merged(COMMON, KINDS[kind])
    if core is not None:
        base["core"] = {"hidden": 8, "input_dropout": 0.1, **core}
    return merged(base, {"heads": heads}, sections)


def _of_classes() -> dict[str, Config]:
    full = {"kind": "classify", "pool": "attention", "class_weights": "balanced", "step_loss_share": 0.3}
    other = {"split": "group", "test_share": 0.3, "validation_share": 0.3}
    asked = {"baselines": True, "pairs": [["left", "down"]], "unknown_classes": ["up"]}
    mirror = {"augment": {"mirror": {"swap": [[0, 1]], "negate": [2]}}}
    plain = {"action": {"kind": "classify"}}
    half = {"precision": "bf16", "patience": 1, "warmup": 0.0}
    vectors = {"pretrained_vectors": "data/vectors.txt", "normalise": "layer"}
    return {
        "classify_half": _case("series", plain, data={"split": "folds", "folds": 4, "fold": 1}, training=half),
        "classify_drawn": _case(
            "series", plain, encoder={"normalise": "layer"}, data={"split": "random_ignoring_groups", "window": 9}
        ),
        "classify_vectors": _case("texts", plain, encoder=vectors),
        "classify_last": _case("series", {"action": {"kind": "classify", "pool": "last", "label_smoothing": 0.0}}),
        "classify_attention": _case("series", {"action": full}, training={"grad_clip": 0.1, **mirror}),
        "classify_report": _case("series", plain, data=other, evaluation=asked, training={"epochs": 5}),
        "classify_tbptt": _case(
            "series", plain, data={"window": 6}, training={"tbptt": True, "batch_size": 8, "epochs": 2}
        ),
        "classify_stride": _case("series", plain, data={"window": 8, "stride": 6}, training={"batch_size": 16}),
        "classify_kept_last": _case(
            "series", plain, data={"validation_share": 0}, training={"batch_size": 8, "epochs": 5}
        ),
        "classify_text": _case("texts", plain, encoder={"pre_tokenizer": "punctuation", "lowercase": True}),
        "classify_spelled": _case(
            "texts", plain, encoder={"character_hidden": 4, "embedding_dropout": 0.1, "min_count": 2, "project": 6}
        ),
        "classify_subwords": _case("texts", plain, encoder={"level": "subword", "vocabulary_size": 40}),
    }


def _of_spans() -> dict[str, Config]:
    ruled = {**SEGMENT, "min_seconds": 0.4, "delay_seconds": 0.2, "lag_seconds": 0.4, "step_loss_weight": 0.2}
    tagged = {"min_count": 1}
    return {
        "segment_crf": _case("series", {"timeline": SEGMENT}, evaluation={"baselines": True}),
        "segment_steps": _case("series", {"timeline": {**SEGMENT, "crf": False}}),
        "segment_ruled": _case("series", {"timeline": ruled}),
        "segment_tiled": _case(
            "series", {"timeline": {**SEGMENT, "background": None}}, core=CELLS["lstm_bidirectional"]
        ),
        "segment_iob2": _case("texts", {"tags": {**SEGMENT, "scheme": "iob2", "background": "O"}}, encoder=tagged),
        "segment_iob2_steps": _case("texts", {"tags": {**SEGMENT, "scheme": "iob2", "background": "O", "crf": False}}),
        "segment_each": _case("tags", {"tags": {**SEGMENT, "scheme": "each", "background": None}}),
        "anticipate": _case("series", {"soon": {"kind": "anticipate", "leads": [0.2, 0.5], "label_smoothing": 0.1}}),
        "many_heads": _case(
            "series",
            {
                "action": {"kind": "classify"},
                "timeline": SEGMENT,
                "next": {"kind": "forecast", "horizon": 3},
                "soon": {"kind": "anticipate", "leads": [0.3]},
            },
            evaluation={"baselines": True},
        ),
    }


def _of_numbers() -> dict[str, Config]:
    ahead = {"kind": "forecast", "horizon": 4, "context": 4}
    hinge = {"weight": 0.2, "critic": {"hidden": 8}}
    other = {"critic": {"core": {"cell": "gru", "hidden": 6}, "spectral_norm": False, "hidden": 8}, **PENALIZED}
    return {
        "forecast_direct": _case("series", {"next": {**ahead, "quantiles": [0.1, 0.9], "dropout": 0.1}}),
        "forecast_recursive": _case(
            "series",
            {"next": {**ahead, "mode": "recursive", "segment_steps": 2, "point": "median"}},
            encoder={"patch": 2, "subtract_last": True},
        ),
        "forecast_plain": _case(
            "series", {"next": {**ahead, "mode": "recursive", "subtract_last": False}}, encoder={"normalise": "none"}
        ),
        "forecast_critic": _case(
            "series", {"next": {**ahead, "adversarial": hinge}}, training={"critic_lr_factor": 0.5}
        ),
        "forecast_critic_core": _case("series", {"next": {**ahead, "adversarial": {**other, "pca_components": 3}}}),
    }


def _of_words() -> dict[str, Config]:
    over_spans = {"timeline": SEGMENT, "told": {**CAPTION, "attend_to": "spans", "segment_head": "timeline"}}
    described = {"timeline": SEGMENT, "told": {**CAPTION, "segment_head": "timeline"}}
    spelling = {"level": "subword", "vocabulary_size": 60, "pre_tokenizer": "punctuation", "lowercase": True}
    critical = {**CAPTION, "self_critical": True}
    fed = {**CAPTION, "input_feeding": True, "cell": "lstm", "scheduled_sampling": 0.3, "monitor": "bleu_4"}
    language = {"kind": "language"}
    return {
        "caption_soft": _case("series", {"told": CAPTION}),
        "caption_critical": _case("series", {"told": critical}, training={"init_from": "runs/caption_soft"}),
        "caption_mean": _case("series", {"told": {**CAPTION, "attention": "mean", **spelling}}),
        "caption_none": _case("series", {"told": {**CAPTION, "attention": "none", "no_repeat_ngram": 2}}),
        "caption_fed": _case("series", {"told": {**fed, "length_penalty": 0.3}}),
        "caption_over_spans": _case("series", over_spans),
        "caption_described": _case("series", described),
        "translate": _case("texts", {"told": {**CAPTION, "min_count": 2}}),
        "transcribe": _case("series", {"words": {"kind": "transcribe", "beam": 4, "word_bonus": 0.2}}),
        "transcribe_greedy": _case("series", {"words": {"kind": "transcribe", "beam": 1, "lm_weight": 0}}),
        "language_words": _case("texts", {"next": language}, encoder={"add_bos_eos": True}),
        "language_characters": _case(
            "texts", {"next": {**language, "tie_weights": False}}, encoder={"level": "character"}
        ),
    }


def _of_frames() -> dict[str, Config]:
    plain = {"action": {"kind": "classify"}}
    told = {**plain, "timeline": SEGMENT, "told": {**CAPTION, "segment_head": "timeline"}}
    bundled = {"backbone": "tf_efficientnet_lite0", "grid": 2}
    learns = {"backbone": "test_resnet", "weights": "none", "train_blocks": 1, "grid": 1}
    return {
        "frames_stored": _case("clips", plain, encoder={"resize": "crop", "normalise": "fitted"}),
        "frames_bundled": _case("clips", plain, encoder=bundled),
        "frames_read": _case("clips", plain, encoder={"resize": "squash"}, data={"read": "pixels"}),
        "frames_told": _case("clips", told),
        "frames_forecast": _case("clips", {"next": {"kind": "forecast", "horizon": 2}}, encoder={"grid": 1}),
        "frames_learned": _case(
            "clips", plain, encoder=learns, training={"backbone_lr_factor": 0.5, "augment": {"flip": True}}
        ),
    }


def _of_made_frames() -> dict[str, Config]:
    heads: dict[str, Config] = {
        "hinge": {"diff_augment": 0.5, "ema_decay": 0.9},
        "relativistic": {**PENALIZED, "gradient_penalty_share": 0.5, "critic": {"spectral_norm": False}},
        "pretrained": {"pretrain_share": 0.5, "free_nats": 0.1, "kl_weight": 0.01},
        "first_frame": {"first_frame": True, "guidance": 2.0, "diff_augment": 0.3},
        "first_frame_pretrained": {"first_frame": True, "pretrain_share": 0.5, "image_critic_weight": 0.1},
        "images": {"image_critic_weight": 0.5, "reconstruction_weight": 10.0, **PENALIZED},
        "skipping": {"max_skip": 2, "class_conditional": False, "core": {"cell": "lstm", "hidden": 6}},
        "independent": {"motion": "independent", "critic": {"core": {"cell": "gru", "hidden": 6}}},
    }
    sections = {"data": FRAME_DATA, "encoder": {"size": 16, "project": 0}, "training": {"betas": [0, 0.99]}}
    return {
        f"make_frames_{name}": _case("clips", {"clip": merged(CLIP, head)}, **sections) for name, head in heads.items()
    }


def _of_made_features() -> dict[str, Config]:
    heads: dict[str, Config] = {
        "plain": {"diff_augment": 0.5},
        "pca": {"pca_components": 3, "max_skip": 1},
        "pretrained": {"pretrain_share": 0.5, "core": {"cell": "lstm", "hidden": 6, "layers": 2}},
        "relativistic": {**PENALIZED, "class_conditional": False, "critic": {"spectral_norm": False}},
    }
    found = {
        f"make_features_{name}": _case("series", {"feat": merged(FEATURES, head)}, data=FEATURE_DATA)
        for name, head in heads.items()
    }
    found["make_features_clips"] = _case("clips", {"feat": {**FEATURES, "pca_components": 8}}, data=FEATURE_DATA)
    return found


def _of_made_texts() -> dict[str, Config]:
    whole = {"add_bos_eos": True}
    free = {**TEXT, **PENALIZED, "class_conditional": False, "temperature": 0.7}
    return {
        "make_texts_hinge": _case("texts", {"text": TEXT}, encoder=whole),
        "make_texts_relativistic": _case("texts", {"text": free}, encoder={**whole, "level": "character"}),
    }


assert len(LABELS) == 3, "the case classify_report names two classes to tell apart and one to leave out"
