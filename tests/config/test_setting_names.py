"""A name that is no setting gets the settings that were probably meant."""

from __future__ import annotations

import pytest

from pipeline.config.base import ConfigError
from pipeline.config.run import Config, load_config
from pipeline.config.setting_names import ELSEWHERE, settings_like


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("lr", ["training.lr"]),
        ("--epochs", ["training.epochs"]),
        ("epoch", ["training.epochs"]),
        ("--batch-size", ["training.batch_size"]),
        ("learning_rate", ["training.lr"]),
        ("output_dir", ["run"]),
        ("hidden", ["core.hidden", "heads.NAME.hidden"]),
        ("banana", []),
    ],
)
def test_the_settings_of_a_name_are_found_in_all_sections(name: str, places: list[str]) -> None:
    assert settings_like(Config, name) == places


@pytest.mark.parametrize("name", ELSEWHERE)
def test_every_name_of_other_programs_leads_to_a_setting(name: str) -> None:
    assert settings_like(Config, name)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("lr=0.1", "lr is not a setting. Write it with its section: training.lr=0.1. Known here: "),
        ("core.lr=0.1", "core.lr is not a setting. Write it with its section: training.lr=0.1. Known here: "),
        ("training.lrr=0.1", "training.lrr is not a setting. Did you mean 'lr'?"),
        ("banana=1", "banana is not a setting. Known here: "),
    ],
)
def test_a_setting_without_its_section_is_shown_with_it(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(None, ["data.path=x", override])
    assert sentence in str(error.value)
