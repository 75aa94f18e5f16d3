"""The names of the previous version: each old setting leads to its new one, by the kind of the encoder or the head.

A config with an old setting, and a model folder of the previous version, are answered with the new names.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.checkpoint import ModelError, load_model
from pipeline.cli import main
from pipeline.config.base import ConfigError, retired_settings
from pipeline.config.retired import KEYS, NAMES, SETTINGS, VALUES, renamed, renamed_value
from pipeline.config.run import load_config


@pytest.mark.parametrize("old", SETTINGS)
def test_each_retired_setting_leads_to_its_new_name(old: str) -> None:
    place, _, word = old.replace("*", "clip").rpartition(".")
    new = renamed(place, word)
    bare = SETTINGS[old].replace("*", "clip")
    for kind in ("frames", "series", "tokens", "classify", "segment", "forecast", "caption", "language", "generate"):
        bare = bare.replace(f"({kind})", "")
    assert new == bare


def test_no_new_name_is_retired_itself() -> None:
    for new in (*SETTINGS.values(), *VALUES.values()):
        place, _, word = new.partition("=")[0].replace("*", "clip").rpartition(".")
        assert renamed(place, word) is None or new in VALUES.values(), new
    single = {key for key in KEYS.values() if " " not in key}
    assert not single & set(KEYS)
    assert not {name for name in NAMES.values() if name[0].isupper()} & set(NAMES)


@pytest.mark.parametrize(
    ("place", "word", "new"),
    [
        ("training", "start", "training.init_from"),
        ("heads.x(classify)", "step_loss", "heads.x.step_loss_share"),
        ("heads.x(segment)", "step_loss", "heads.x.step_loss_weight"),
        ("heads.x", "step_loss", "heads.x.step_loss_share or heads.x.step_loss_weight"),
        ("heads.clip", "game", "heads.clip.gan_loss"),
        ("heads.load(forecast).adversarial", "directions", "heads.load.adversarial.pca_components"),
        ("heads.load(forecast).adversary", "directions", "heads.load.adversarial.pca_components"),
        ("encoder", "from_last", "encoder.subtract_last"),
    ],
)
def test_the_place_and_the_kind_decide(place: str, word: str, new: str) -> None:
    assert renamed(place, word) == new


@pytest.mark.parametrize(
    ("place", "word"),
    [
        ("training", "epochs"),
        ("core", "start"),
        ("training.augment", "clip"),
        ("encoder(series)", "vectors"),
        ("heads.x(classify)", "watch"),
        ("", "training"),
        ("heads", "start"),
    ],
)
def test_other_words_are_not_retired(place: str, word: str) -> None:
    assert renamed(place, word) is None


def test_a_value_is_retired_in_its_setting_only() -> None:
    assert renamed_value("encoder(tokens)", "level", "piece") == "encoder.level=subword"
    assert renamed_value("heads.english(caption)", "level", "piece") == "heads.english.level=subword"
    assert renamed_value("encoder(tokens)", "level", "word") is None
    assert renamed_value("heads.english(caption)", "cell", "piece") is None


# a config with old settings


def nested(setting: str, value: Any = 1) -> dict[str, Any]:
    """A setting in the notation of SETTINGS as a config: "heads.*(caption).cut" is the setting of a head "clip"."""
    config: dict[str, Any] = {"data": {"path": "videos"}}
    *sections, word = setting.split(".")
    section = config
    for part in sections:
        name, _, kind = part.partition("(")
        section = section.setdefault("clip" if name == "*" else name, {})
        section |= {"kind": kind.rstrip(")")} if kind else {}
    section[word] = value
    return config


def plain(setting: str) -> str:
    """A setting in the notation of SETTINGS as people write it."""
    return re.sub(r"\(\w+\)", "", setting).replace("*", "clip")


def mistakes(config: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(None, base=config)
    return str(caught.value)


@pytest.mark.parametrize("old", SETTINGS)
def test_each_retired_setting_in_a_config_is_answered_with_its_new_name(old: str) -> None:
    text = mistakes(nested(old))
    assert f"\n  {plain(old)} is called {plain(SETTINGS[old])} since 0.2." in text
    assert f"{plain(old)} is not a setting" not in text


@pytest.mark.parametrize("old", VALUES)
def test_each_retired_value_in_a_config_is_answered_with_its_new_form(old: str) -> None:
    setting, _, value = old.partition("=")
    assert f"\n  {plain(old)} is called {plain(VALUES[old])} since 0.2." in mistakes(nested(setting, value))


def test_a_retired_section_is_one_mistake_and_each_setting_inside_it_another() -> None:
    critic = {"spectral": True, "core": {"memory_steps": 5}}
    text = mistakes(nested("heads.*(forecast).adversary", {"game": "hinge", "weight": 1, "critic": critic}))
    names = {
        "adversary": "adversarial",
        "adversary.game": "adversarial.gan_loss",
        "adversary.critic.spectral": "adversarial.critic.spectral_norm",
        "adversary.critic.core.memory_steps": "adversarial.critic.core.chrono_steps",
    }
    assert text.splitlines() == [
        "the command line: 5 mistakes in the configuration.",
        "  heads.clip.horizon is missing. It has no default, so give it a value.",
        *(f"  heads.clip.{old} is called heads.clip.{new} since 0.2." for old, new in names.items()),
    ]


def test_a_required_setting_under_its_old_name_is_not_missing() -> None:
    text = mistakes(nested("heads.*(forecast).steps"))
    assert "1 mistake in the configuration." in text and "is missing" not in text


def test_a_section_without_a_kind_has_the_default_kind() -> None:
    assert retired_settings({"encoder": {"fit": "crop", "cut": "spaces"}}) == {"encoder.fit": "encoder.resize"}
    config = {"heads": {"a": {"step_loss": 1}, "b": {"kind": "segment", "step_loss": 1}}}
    assert retired_settings(config) == {
        "heads.a.step_loss": "heads.a.step_loss_share",
        "heads.b.step_loss": "heads.b.step_loss_weight",
    }


def test_an_override_with_an_old_name_is_answered_too() -> None:
    with pytest.raises(ConfigError, match=r"training\.start is called training\.init_from since 0\.2\."):
        load_config(None, ["training.start=runs/x"], base={"data": {"path": "videos"}})


def test_the_command_answers_an_old_setting_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "puppets/action.yaml", "training.start=runs/x"]) == 2
    assert "training.start is called training.init_from since 0.2." in capsys.readouterr().err


def test_present_settings_are_not_retired() -> None:
    config = load_config(None, ["data.path=x", "heads={a: {}, b: {kind: segment}}"])
    assert retired_settings(config.model_dump(mode="json")) == {}


# a model folder of the previous version


@pytest.mark.parametrize("number", [1, 2])
def test_a_model_of_the_previous_version_is_refused_with_the_new_names_of_its_settings(
    number: int, tmp_path: Path
) -> None:
    recipe = {
        "clock": {"rate": 4.0},
        "encoder": {"kind": "tokens", "level": "piece", "ends": False},
        "core": {"cell": "gru", "memory_steps": 0},
        "heads": {"clip": {"kind": "generate", "makes": "tokens", "labels": True, "critic": {"spectral": True}}},
    }
    description = {"format": number, "unreel": "0.1.0", "recipe": recipe, "vocabularies": {}}
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path)
    assert str(caught.value) == (
        f"'{tmp_path}' was written by unreel 0.1.0 (format {number}); this version reads format 3, in which settings "
        "and weights have other names. Since 0.2 encoder.level=piece is called encoder.level=subword; encoder.ends is "
        "called encoder.add_bos_eos; core.memory_steps is called core.chrono_steps; heads.clip.labels is called "
        "heads.clip.class_conditional; heads.clip.critic.spectral is called heads.clip.critic.spectral_norm. Train the "
        "model again from its config, or use unreel 0.1."
    )


def test_a_model_of_the_previous_version_with_a_broken_recipe_is_refused_as_well(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps({"format": 2, "recipe": [1]}))
    with pytest.raises(ModelError, match=r"was written by unreel 0\.1 \(format 2\); .* other names\. Train the model"):
        load_model(tmp_path)
