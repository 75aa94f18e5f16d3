"""Configs: each one of the repository loads, each mistake is a sentence with place, value and a similar name, and each
setting has a description.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic.fields import FieldInfo

from pipeline.config.base import ConfigError, Section, fixed_values, sections_in
from pipeline.config.describe import (
    default_text,
    describe_settings,
    inner_sections,
    own_settings,
    settings_markdown,
    type_name,
)
from pipeline.config.run import Config, dump_config, load_config

REPOSITORY = Path(__file__).resolve().parents[2]
YAMLS = sorted((REPOSITORY / "configs").rglob("*.y*ml"))
HERE = ["data.path=videos"]


def mistakes(*overrides: str, text: str = "data: {path: videos}\n", tmp_path: Path | None = None) -> str:
    if tmp_path is None:
        with pytest.raises(ConfigError) as caught:
            load_config(None, overrides, base=yaml.safe_load(text))
    else:
        (tmp_path / "c.yaml").write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_config(tmp_path / "c.yaml", overrides)
    return str(caught.value)


# every config of the repository


@pytest.mark.parametrize("path", YAMLS, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_a_config_of_the_repository_loads_and_begins_with_its_command(path):
    config = load_config(path)
    assert load_config(None, base=yaml.safe_load(dump_config(config))) == config
    header = re.match(r"(#[^\n]*\n)+", path.read_text())
    assert header, f"{path} opens with no comment"
    command = re.search(r"unreel train (\S+\.yaml)", header[0])
    assert command, f"the header of {path} holds no command"
    assert (REPOSITORY / command[1]) == path


def test_no_config_of_the_repository_holds_an_absolute_path():
    assert YAMLS
    for path in YAMLS:
        assert not re.search(r"(?m)^\s*[\w.]+:\s*/", path.read_text()), f"{path} holds a path of one machine"


def test_a_config_of_the_package_is_found_by_its_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(REPOSITORY / "configs/yoga6/action.yaml")
    assert load_config("yoga6/action.yaml") == load_config("configs/yoga6/action.yaml") == config


# valid configs


def test_a_dumped_config_loads_as_the_same_config():
    config = load_config(
        None,
        [
            *HERE,
            "core.cell=lstm",
            "training.lr=3e-4",
            "heads.action.pool=attention",
            "tracking.wandb=off",
            "evaluation.pairs=[[a, b]]",
            "tracking.tags=[x, 'ü']",
            "training.patience=3",
            "run=é/ü",
        ],
    )
    again = load_config(None, base=yaml.safe_load(dump_config(config)))
    assert again == config and config.core.cell == "lstm" and config.training.lr == 3e-4
    assert config.heads["action"].pool == "attention" and config.tracking.wandb == "off"
    assert config.evaluation.pairs == (("a", "b"),) and config.run == "é/ü"


def test_overrides_replace_settings_and_change_neither_file_nor_base(tmp_path):
    text = "data: {path: videos, test_share: 0.5}\ncore:\n  cell: lstm\n  hidden: 64\n"
    (tmp_path / "c.yaml").write_text(text)
    config = load_config(
        tmp_path / "c.yaml", ["core.hidden=32", "encoder={kind: series, project: 7}", "encoder.dropout=0.1"]
    )
    assert (config.core.cell, config.core.hidden, config.data.test_share) == ("lstm", 32, 0.5)
    assert config.encoder.kind == "series" and (config.encoder.project, config.encoder.dropout) == (7, 0.1)
    assert (tmp_path / "c.yaml").read_text() == text
    base = {"data": {"path": "videos"}}
    load_config(None, ["data.path=others"], base=base)
    assert base == {"data": {"path": "videos"}}


def test_an_encoder_without_a_kind_is_of_kind_frames():
    assert load_config(None, [*HERE, "encoder.size=96"]).encoder.kind == "frames"


# mistakes

ONE_MISTAKE = [
    (
        "training.epoch=3",
        "training.epoch is not a setting. Did you mean 'epochs'? Known here: augment, backbone_lr_factor, batch_size",
    ),
    (
        "trainin.epochs=3",
        "trainin is not a setting. Did you mean 'training'? Known here: clock, core, data, encoder, evaluation",
    ),
    (
        "training.augment.flp=true",
        "training.augment.flp is not a setting. Did you mean 'flip'? Known here: colour, crop, flip",
    ),
    ("encoder.siz=64", "encoder.siz is not a setting. Did you mean 'size'?"),
    (
        "encoder={kind: series, size: 64}",
        "encoder.size is not a setting. It is a setting of kind: frames. Known here: dropout, kind, normalise, patch",
    ),
    ("heads.classify.drop=0.1", "heads.classify.drop is not a setting. Did you mean 'dropout'?"),
    (
        "core.cell=lstn",
        "core.cell = 'lstn' is not known. Did you mean 'lstm'? "
        "One of: rnn_tanh, rnn_relu, lstm, gru, mingru, minlstm, mean.",
    ),
    (
        "encoder.kind=frame",
        "encoder.kind = 'frame' is not known. Did you mean 'frames'? One of: frames, series, tokens.",
    ),
    (
        "heads.action.kind=clasify",
        "heads.action.kind = 'clasify' is not known. Did you mean 'classify'? "
        "One of: anticipate, caption, classify, forecast, generate, language, segment, transcribe.",
    ),
    ("core.hidden=0", "core.hidden = 0: input should be greater than 0."),
    ("core.hidden=many", "core.hidden = 'many': input should be a valid integer"),
    ("training.lr=-1", "training.lr = -1: input should be greater than 0."),
    ("training.lr=.nan", "training.lr = nan: input should be a finite number."),
    (
        "training.seed=99999999999999999999",
        "training.seed = 99999999999999999999: input should be less than 2147483648.",
    ),
    ("data.test_share=1.5", "data.test_share = 1.5: input should be less than 1."),
    ("encoder.size=1.5", "encoder.size = 1.5: input should be a valid integer, got a number with a fractional part."),
    ("training=fast", "training = 'fast': input should be a section of settings"),
    ("heads={}", "heads = {}: dictionary should have at least 1 item"),
    ("evaluation.pairs=[[a, b, c]]", "evaluation.pairs.0 = "),
    ("core.layers=0", "cell gru needs layers of 1 or more; only cell mean may have 0."),
    (
        "core={cell: mean, bidirectional: true}",
        "cell mean has neither directions, residual connections, layer norm nor recurrent dropout; leave them out.",
    ),
    (
        "core={cell: mingru, recurrent_dropout: 0.2}",
        "cell mingru has no recurrent weights, so there is nothing to drop h_{t-1} from; "
        "leave core.recurrent_dropout at 0, or use core.input_dropout.",
    ),
    ("core.layer_norm=true", "layer_norm stands between layers; give layers of 2 or more, or leave it out."),
    (
        "core={cell: rnn_tanh, chrono_steps: 50}",
        "chrono_steps is 50 and cell is rnn_tanh; it would be 3 or more, for one of lstm, gru, mingru, minlstm.",
    ),
    ("core.chrono_steps=2", "chrono_steps is 2 and cell is gru; it would be 3 or more"),
    ("core.recurrent_mask=row", "core.recurrent_mask = 'row' is not known. One of: batch, sequence."),
    ("heads={path: {}}", "a head cannot be called 'path': it names columns and parameters. Use letters, digits and _"),
    ("heads={a.b: {}}", "a head cannot be called 'a.b'"),
    ("heads={items: {}}", "a head cannot be called 'items'"),
    ("training.augment.mirror={swap: [[0, 1], [1, 2]]}", "swap names channel 1 twice; name each channel once."),
    ("training.augment.mirror={negate: [3, 3]}", "negate names channel 3 twice; name each channel once."),
    (
        "training.augment.mirror={swap: [[0, 1]], negate: [1]}",
        "channels 0 and 1 change places and one of them alone changes sign, so a mirror's mirror would not be the "
        "series again; negate both or neither.",
    ),
    ("training.augment.mirror={negate: [-1]}", "input should be greater than or equal to 0."),
    (
        "training.augment.mirror={negate: [1]}",
        "training.augment.mirror is for series, and encoder.kind = frames reads none; leave it out (crop, flip and "
        "colour change pixels).",
    ),
    ("data.path=", "data.path = None: input should be a valid string."),
]


@pytest.mark.parametrize(("override", "sentence"), ONE_MISTAKE, ids=[o for o, _ in ONE_MISTAKE])
def test_a_mistake_is_a_sentence_with_place_and_value(override, sentence):
    text = mistakes(override)
    assert "1 mistake in the configuration." in text
    assert sentence in text, text
    assert len(text.splitlines()) == 2


def test_a_missing_setting_without_a_default_is_named(tmp_path):
    assert "data is missing. It has no default, so give it a value." in mistakes("core.cell=gru", text="{}")
    assert "data.path is missing. It has no default, so give it a value." in mistakes(
        text="data: {test_share: 0.3}", tmp_path=tmp_path
    )


def test_all_mistakes_are_listed_at_once_with_the_file(tmp_path):
    config = "data: {path: v, pth: w}\nencoder: {size: 7}\nheads: {action: {pool: men}}\n"
    text = mistakes("training.lr=fast", "core.cell=lstn", text=config, tmp_path=tmp_path)
    assert text.startswith(f"{tmp_path / 'c.yaml'}: 5 mistakes in the configuration.\n")
    for part in (
        "training.lr = 'fast'",
        "core.cell = 'lstn'",
        "data.pth is not a setting. Did you mean 'path'?",
        "encoder.size = 7",
        "heads.action.pool = 'men' is not known. Did you mean 'mean'?",
    ):
        assert part in text


def test_a_conflict_of_settings_is_named_without_the_whole_section():
    with pytest.raises(ConfigError) as error:
        load_config(None, [*HERE, "heads={a: {kind: caption}}", "data.window=9"])
    assert str(error.value).splitlines()[1].startswith("  data.window = 9 is a part of a row, and")
    with pytest.raises(ConfigError) as error:
        load_config(None, [*HERE, "core={cell: mean, bidirectional: true}"])
    assert "\n  core: cell mean has neither directions" in str(error.value)


def test_classes_of_the_evaluation_are_normalised_as_labels_are():
    settings = ["data.path=x.csv", "evaluation.unknown_classes=['cafe\u0301 ']", "evaluation.pairs=[[' a', 'b\u200b']]"]
    evaluation = load_config(None, settings).evaluation
    assert evaluation.unknown_classes == ("caf\u00e9",)
    assert evaluation.pairs == (("a", "b"),)


@pytest.mark.parametrize("kind", ["segment", "anticipate"])
def test_spans_of_texts_with_an_added_start_token_are_refused(kind):
    settings = ["data.path=x.jsonl", "encoder.kind=tokens", "core.bidirectional=false"]
    base = {"heads": {"tags": {"kind": kind}}}
    with pytest.raises(ConfigError, match="every label would be one token late; set encoder.add_bos_eos: false"):
        load_config(None, [*settings, "encoder.add_bos_eos=true"], base=base)
    assert load_config(None, settings, base=base).heads["tags"].kind == kind
    labels = load_config(None, [*settings, "encoder.add_bos_eos=true"], base={"heads": {"tags": {"kind": "classify"}}})
    assert labels.heads["tags"].kind == "classify"


def test_long_values_are_shortened():
    assert max(map(len, mistakes(f"core.hidden={'x' * 100_000}").splitlines())) < 300


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("core.cell", "'core.cell' is no override. Write key=value, such as core.cell=lstm or training.lr=3e-4."),
        ("=3", "'=3' is no override."),
        ("core.cell=[a", "The value of 'core.cell=[a' is no valid YAML"),
        ("core.cell=!!python/object/apply:os.system [ls]", "is no valid YAML: could not determine a constructor"),
        (
            "data.path.x=3",
            "'data.path.x=3': data.path is 'videos', so it has nothing inside. Name a setting of a section.",
        ),
        (f"core.cell={'[' * 500_000}", "it nests deeper than 20 levels"),
        ("core.cell=*x", "it uses an alias"),
    ],
    ids=range(7),
)
def test_a_wrong_override_is_a_sentence(override, sentence):
    assert sentence in mistakes(override)


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (BOMB, "is no valid YAML: it uses an alias (*name); write the values out"),
        (
            "data: !!python/object/apply:os.system ['touch exploded']\n",
            "is no valid YAML: could not determine a constructor for the tag",
        ),
        ("data: !unreel {path: x}\n", "is no valid YAML: could not determine a constructor for the tag '!unreel'"),
        ("- a\n- b\n", "holds list, not settings. Begin with lines such as `data:`."),
        ("", "holds NoneType, not settings."),
        ("just words", "holds str, not settings."),
        ("data: {path: x\n", "is no valid YAML"),
        ("a:\n\tb: 1\n", "is no valid YAML"),
        ("data: {path: x}\ncore: {cell: gru}\ncore: {cell: lstm}\n", "is no valid YAML: the key 'core' is repeated"),
        ("data: {path: x}\ncore: {cell: gru, cell: lstm}\n", "the key 'cell' is repeated"),
        ("data: {path: x}\ntraining: {seed: " + "9" * 5000 + "}\n", "Exceeds the limit"),
        ("data: " + "[" * 500_000, "it nests deeper than 20 levels"),
        ("x: " + "y" * (1 << 20), "1,048,579 bytes; a config is a page of text. Give another file."),
        ("data: {path: x}\n1: 2\n", "1 mistake"),
        ("data: {path: x}\n? [a, b]\n: 2\n", "found unhashable key"),
    ],
    ids=range(15),
)
def test_a_file_that_is_no_config_is_refused_with_a_sentence(text, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sentence in mistakes(text=text, tmp_path=tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_a_file_that_is_no_text_and_a_missing_file_are_refused(tmp_path):
    (tmp_path / "c.yaml").write_bytes(b"data: \xff\xfe")
    with pytest.raises(ConfigError, match="is no valid YAML: .*utf-8"):
        load_config(tmp_path / "c.yaml")
    with pytest.raises(
        ConfigError,
        match=r"The config '.*/d.yaml' does not exist. Did you mean '.*/c.yaml'\? Give the path of a YAML file.",
    ):
        load_config(tmp_path / "d.yaml")


# the descriptions of settings


def all_settings(section: type[Section] = Config, prefix: str = "") -> list[tuple[str, FieldInfo]]:
    """Every setting with its place, a setting of several kinds once for each of them."""
    settings = [(prefix + name, info) for name, info in own_settings(section).items()]
    for place, inner, _ in inner_sections(section, prefix):
        settings += all_settings(inner, f"{place}.")
    return settings


def all_sections(section: type[Section] = Config) -> list[type[Section]]:
    inner = [one for _, one, _ in inner_sections(section)]
    return [section, *(deeper for one in inner for deeper in all_sections(one))]


def test_every_setting_and_every_section_has_a_description():
    for place, info in all_settings():
        assert info.description, f"{place} has no description"
    assert all((section.__doc__ or "").strip() for section in all_sections())


def test_the_list_of_settings_has_every_field_with_its_type_and_default():
    lines = [line for line in describe_settings(Config).splitlines() if line.startswith("  ")]
    settings = all_settings()
    assert len(lines) == len(settings)
    for line, (place, info) in zip(lines, settings, strict=True):
        assert line.split()[0] == place
        assert type_name(info.annotation) in line and (info.description or "") in line
        assert ("required" if info.is_required() else f"default {default_text(info)}") in line
    for section in all_sections():
        with_sections = {name for name, info in section.model_fields.items() if sections_in(info.annotation)}
        assert {*own_settings(section), *fixed_values(section), *with_sections} == set(section.model_fields)


def test_types_and_defaults_are_written_as_in_yaml():
    assert type_name(int | None) == "int or null" and type_name(tuple[str, ...]) == "list"
    lines = {line.split()[0]: line for line in describe_settings(Config).splitlines() if line.startswith("  ")}
    assert "lstm|gru" in lines["core.cell"] and "default gru" in lines["core.cell"]
    assert "default null" in lines["data.root"] and "default false" in lines["core.residual"]
    assert "default [0.9, 0.999]" in lines["training.betas"] and "required" in lines["data.path"]


def test_the_markdown_has_a_table_for_each_section_and_kind():
    text = settings_markdown(Config)
    for title in ("encoder (kind: tokens)", "heads.NAME (kind: generate, makes: frames)", "training.augment.mirror"):
        assert re.search(rf"(?m)^#+ {re.escape(title)}$", text), title
    assert "| `cell` | `rnn_tanh\\|rnn_relu\\|lstm" in text
    for row in (line for line in text.splitlines() if line.startswith("|")):
        assert len(re.findall(r"(?<!\\)\|", row)) == 5, row


def test_docs_config_is_up_to_date():
    written = (REPOSITORY / "docs" / "config.md").read_text(encoding="utf-8")
    assert written == settings_markdown(Config), "run: unreel config --markdown > docs/config.md"
