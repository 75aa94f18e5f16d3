"""The baselines of the report: mean pooling, which does not use the order of the steps.

In: a config. Out: the configs of its baselines. `commands.train` trains them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from pipeline.config.run import Config, load_config

BASELINES: dict[str, dict[str, dict[str, Any]]] = {
    "mean-pool linear": {"encoder": {"project": 0}, "core": {"cell": "mean", "layers": 0}},
    "mean-pool MLP": {
        "encoder": {"project": 0},
        "core": {"cell": "mean", "layers": 1, "hidden": 256, "input_dropout": 0.5},
    },
}
"""The sections that a baseline changes, by its name in the report.

A baseline is trained on the same features by the same loop. Its heads read the mean over all steps. A recurrent core is
useful only where it is better.
"""

WITHOUT_BASELINE = ("caption", "transcribe", "language", "generate")
"""Kinds of heads that cannot use mean pooling. Their baselines are in scripts/proofs."""


def baseline_configs(config: Config, log: Callable[[str], None]) -> dict[str, Config]:
    """The config of each baseline, by its name in the report. `log` gets a sentence about heads without a baseline.

    Raises ConfigError where a baseline cannot be built from the config.
    """
    if config.encoder.kind == "frames" and config.encoder.train_blocks > 0:
        log("baselines: none, because the CNN is trained; run the config with encoder.train_blocks=0 for its baselines")
        return {}
    values = config.model_dump(mode="json")
    heads = {
        name: values["heads"][name] | ({"pool": "last"} if section.kind == "classify" else {})
        for name, section in config.heads.items()
        if section.kind not in WITHOUT_BASELINE
    }
    if others := [name for name in config.heads if name not in heads]:
        log(f"baselines: none for {', '.join(others)}, which generate texts or sequences")
    if not heads:
        return {}
    configs = {}
    for name, sections in BASELINES.items():
        changed = {section: {**values[section], **changes} for section, changes in sections.items()}
        core = {key: changed["core"][key] for key in ("cell", "hidden", "layers", "input_dropout")}
        training = values["training"] | ({} if _is_monitored(config, heads) else {"monitor": None})
        sections = {**values, **changed, "core": core, "heads": heads, "training": training}
        configs[name] = load_config(None, base=sections)
    return configs


def _is_monitored(config: Config, heads: Collection[str]) -> bool:
    """Whether one of these heads has the metric of training.monitor."""
    return (config.training.monitor or "").partition("/")[0] in heads
