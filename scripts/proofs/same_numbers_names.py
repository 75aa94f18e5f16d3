"""The tables of the promise same-numbers: what each thing of unreel 0.2 was called in 0.1.

All keys are new names, all values old ones. A name that is in no table is the same in both trees. The cases are
written in new names. What the new tree writes is put into old names before it is compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from same_numbers_rules import STATE_RULES, Rules

MODULES: Mapping[str, str] = {
    "pipeline.commands.train": "pipeline.run",
    "pipeline.config.run": "pipeline.config",
    "pipeline.data.tokenizer": "pipeline.data.words",
    "pipeline.inference.generate_sequences": "pipeline.inference.create",
    "pipeline.inference.generate_text": "pipeline.inference.generate",
    "pipeline.metrics.early_recognition": "pipeline.metrics.early",
    "pipeline.metrics.generation_probes": "pipeline.metrics.probes",
    "pipeline.metrics.generation_report": "pipeline.metrics.made",
    "pipeline.metrics.negative_controls": "pipeline.metrics.controls",
    "pipeline.metrics.quantile_loss": "pipeline.metrics.quantile",
    "pipeline.models.crf.crf": "pipeline.models.crf",
    "pipeline.models.crf.fixed_lag": "pipeline.models.fixed_lag",
    "pipeline.models.crf.fixed_lag_marginals": "pipeline.models.lagged_marginals",
    "pipeline.models.gan.diff_augment": "pipeline.models.disguise",
    "pipeline.models.gan.pca": "pipeline.models.directions",
    "pipeline.models.recurrent.core": "pipeline.models.core",
    "pipeline.models.recurrent.mean_pool": "pipeline.models.mean",
    "pipeline.models.text.attention_decoder": "pipeline.models.decoder",
    "pipeline.models.text.beam_search": "pipeline.models.beam",
    "pipeline.models.text.ctc": "pipeline.models.ctc",
    "pipeline.models.text.ngram": "pipeline.models.ngram",
    "pipeline.models.text.sampling": "pipeline.models.sampling",
}
"""Modules that the probe imports."""

OBJECTS: Mapping[str, str] = {
    "AttentionDecoder": "Decoder",
    "BigramModel": "Bigrams",
    "CRF": "Crf",
    "FeaturePCA": "Directions",
    "FixedLagMarginals": "LaggedMarginals",
    "FixedLagViterbi": "FixedLag",
    "MeanPoolCore": "MeanCore",
    "Tokenizer": "Words",
    "diff_augment": "disguise",
    "generate_sequences": "make_sequences",
    "principal_components": "spread",
}
"""Classes and functions that the probe calls."""

MEMBERS: Mapping[str, Sequence[str]] = {
    "character_ids": ("spell",),
    "train": ("learn",),
    "predict_file": ("watch",),
    "predict_text": ("read",),
    "watch_features": ("follow",),
    "attention_memory": ("memory", "glimpse"),
    "split_content": ("apart",),
    "initial_state": ("begin",),
    "next_state": ("after",),
    "next_log_probabilities": ("row",),
    "negative_log_likelihood": ("nats",),
    "bigram_table": ("table",),
}
"""Methods that the probe calls, with all the names that they may have instead."""

PARAMETERS: Mapping[str, Sequence[str]] = {
    "chrono_steps": ("memory_steps",),
    "embedding": ("embedding_size", "size"),
    "input_feeding": ("feed",),
    "length_penalty": ("length_power",),
    "lowercase": ("lower",),
    "min_count": ("minimum",),
    "min_steps": ("minimum_steps",),
    "no_repeat_ngram": ("no_repeated",),
    "pre_tokenizer": ("cut",),
    "vocabulary_size": ("vocabulary",),
    "with_characters": ("spelled",),
}
"""Parameters of functions, with all the names that they may have instead."""

_ADVERSARIAL = {"gan_loss": "game", "gradient_penalty": "penalty", "pca_components": "directions"}

SETTINGS: Mapping[str, Mapping[str, str]] = {
    "training": {
        "init_from": "start",
        "grad_clip": "clip",
        "tbptt": "carry",
        "critic_lr_factor": "opponent_lr",
        "backbone_lr_factor": "backbone_lr",
        "sample_every": "show_every",
    },
    "data": {
        "test_share": "test",
        "validation_share": "validation",
        "on_error": "failed",
        "feature_store": "features",
    },
    "evaluation": {"order_controls": "orders", "unknown_classes": "unknown"},
    "core": {"chrono_steps": "memory_steps"},
    "encoder.frames": {"resize": "fit"},
    "encoder.series": {"subtract_last": "from_last"},
    "encoder.tokens": {
        "vocabulary_size": "vocabulary",
        "min_count": "minimum",
        "pre_tokenizer": "cut",
        "lowercase": "lower",
        "add_bos_eos": "ends",
        "pretrained_vectors": "vectors",
        "embedding_dropout": "token_dropout",
        "character_hidden": "characters",
    },
    "heads.classify": {"step_loss_share": "step_loss"},
    "heads.segment": {"step_loss_weight": "step_loss", "min_seconds": "minimum_seconds"},
    "heads.forecast": {
        "horizon": "steps",
        "segment_steps": "segment",
        "subtract_last": "from_last",
        "adversarial": "adversary",
    },
    "heads.caption": {
        "attend_to": "over",
        "input_feeding": "feed",
        "vocabulary_size": "vocabulary",
        "min_count": "minimum",
        "pre_tokenizer": "cut",
        "lowercase": "lower",
        "scheduled_sampling": "sampling",
        "length_penalty": "length_power",
        "no_repeat_ngram": "no_repeated",
        "segment_head": "describes",
        "monitor": "watch",
    },
    "heads.language": {"tie_weights": "tied"},
    "heads.generate": {
        **_ADVERSARIAL,
        "class_conditional": "labels",
        "ema_decay": "averaging",
        "gradient_penalty_share": "penalty_share",
        "diff_augment": "disguise",
        "reconstruction_weight": "remake",
        "kl_weight": "surprise",
        "free_nats": "free",
        "image_critic_weight": "pictures",
        "max_skip": "later",
        "pretrain_share": "alone",
        "style_size": "manner_size",
    },
    "adversarial": _ADVERSARIAL,
    "critic": {"spectral_norm": "spectral"},
}
"""Settings by section; a section of an encoder or of a head has its kind behind a dot."""

SETTING_VALUES: Mapping[str, Mapping[str, str]] = {
    "encoder.tokens.level": {"subword": "piece"},
    "heads.caption.level": {"subword": "piece"},
}
"""Values of settings, by section and new setting."""

ROW_RULES: Rules = (
    # Keys of metrics.jsonl, of the rows of report.json and of what metrics return; the first rule that meets counts.
    (r"^split$", "part"),
    (r"^loss/(\w+)_reconstruction$", r"loss/\1_remake"),
    (r"^loss/(\w+)_kl$", r"loss/\1_surprise"),
    (r"^loss/(feat\w*)_nll$", r"loss/\1_surprise"),  # the cases call a head feat where it makes features
    (r"^loss/(\w+)_nll$", r"loss/\1_likelihood"),
    (r"^loss/(\w+)_gradient_penalty$", r"loss/\1_penalty"),
    (r"^loss/(\w+)_adversarial$", r"loss/\1_judged"),
    (r"^gate_saturation/", "saturated/"),
    (r"^(\w+/)?monitor$", r"\1watched"),
    (r"^(\w+/)?confidence_interval$", r"\1interval"),
    (r"^(\w+/)?early_accuracy$", r"\1early"),
    (r"^(\w+/)?decision_share$", r"\1settled_share"),
    (r"^(\w+/)?decision_steps$", r"\1settled_steps"),
    (r"^(\w+/)?open_set$", r"\1unknown"),
    (r"^(\w+/)?frechet_change_score$", r"\1closeness"),
    (r"^(\w+/)?frechet_mean_score$", r"\1closeness_pooled"),
)

ROW_VALUES: Mapping[str, Mapping[str, str]] = {
    "watched": {"frechet_change_score": "closeness", "frechet_mean_score": "closeness_pooled"},
}
"""Texts in rows, by old key."""


def old_settings(settings: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """A config of new names in old ones."""
    names = SETTINGS.get(section, {})
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            value = old_settings(value, _section(section, key, value))
        elif isinstance(value, str):
            value = SETTING_VALUES.get(f"{section}.{key}", {}).get(value, value)
        found[names.get(key, key)] = value
    return found


def _section(section: str, key: str, values: Mapping[str, Any]) -> str:
    """The name of the section that stands under a key of a section; the root is ''."""
    if section == "" and key == "encoder":
        return f"encoder.{values.get('kind', 'frames')}"
    if section == "heads":
        return f"heads.{values.get('kind', 'classify')}"
    return key


def old_weight(name: str) -> str:
    """The name of a tensor of a new state dict in the old one."""
    for pattern, replacement in STATE_RULES:
        name = re.sub(pattern, replacement, name)
    return name


def old_key(key: str) -> str:
    """A key of a row of numbers in old names."""
    for pattern, replacement in ROW_RULES:
        if re.search(pattern, key):
            return re.sub(pattern, replacement, key)
    return key


def old_rows(value: Any) -> Any:
    """Rows of numbers with their keys, and the texts that name a key, in old names.

    Raises ValueError where two keys of a row become one.
    """
    if isinstance(value, Mapping):
        renamed = {old_key(key): old_rows(inner) for key, inner in value.items()}
        if len(renamed) < len(value):
            raise ValueError(f"two keys of {sorted(value)} have one old name")
        return {
            key: ROW_VALUES.get(key, {}).get(inner, inner) if isinstance(inner, str) else inner
            for key, inner in renamed.items()
        }
    return [old_rows(inner) for inner in value] if isinstance(value, list) else value
