"""What is chosen for a manifest that comes without a config."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config import Config, load_config
from pipeline.data.manifest import Row, Span, write_manifest
from pipeline.prepare import defaults_for, read_rows, split_rows
from pipeline.section import validate


def chosen_parts(folder: Path, splits: list[str]) -> dict[str, int]:
    rows = [Row(path=f"{i}.npy", split=s, group=f"g{i}", label="ab"[i % 2]) for i, s in enumerate(splits)]
    write_manifest(rows, folder / "manifest.jsonl")
    base, said = defaults_for(folder / "manifest.jsonl")
    config = load_config(None, base=base)
    split = split_rows(config, read_rows(config, said.append), said.append)
    return {part: len(split.select(part).rows) for part in ("train", "val", "test")}  # type: ignore[arg-type]


@pytest.mark.parametrize("copies", [1, 30])
def test_a_manifest_keeps_its_own_validation_rows(tmp_path: Path, copies: int) -> None:
    splits = (["train"] * 8 + ["val"] * 4 + ["test"] * 4) * copies
    assert chosen_parts(tmp_path, splits) == {"train": 8 * copies, "val": 4 * copies, "test": 4 * copies}


def test_few_videos_without_a_validation_part_all_learn(tmp_path: Path) -> None:
    assert chosen_parts(tmp_path, ["train"] * 12 + ["test"] * 4) == {"train": 12, "val": 0, "test": 4}


TEXTS = {
    "label": (Row("0", label="a", text="x y"), "classify", {}),
    "parts of speech": (
        Row("0", spans=(Span(0, 1, "N"), Span(1, 2, "V")), text="x y"),
        "segment",
        {"scheme": "each", "background": None},
    ),
    "entities": (Row("0", spans=(Span(0, 2, "PER"),), text="x y z"), "segment", {"scheme": "iob2", "background": "O"}),
    "translations": (Row("0", captions=("z",), text="x y"), "caption", {}),
    "nothing": (Row("0", text="x y"), "language", {}),
}


@pytest.mark.parametrize("what", TEXTS)
def test_a_manifest_of_texts_is_read_and_asked_what_it_can_teach(tmp_path: Path, what: str) -> None:
    row, kind, settings = TEXTS[what]
    write_manifest([replace(row, path=str(i)) for i in range(8)], tmp_path / "manifest.jsonl")
    base, said = defaults_for(tmp_path / "manifest.jsonl")
    config = load_config(None, base=base)
    (head,) = config.heads.values()
    assert (config.encoder.kind, config.data.window, head.kind) == ("tokens", None, kind)
    assert {name: getattr(head, name) for name in settings} == settings
    assert said[-1] == "  encoder.kind=tokens: the rows are texts"


@pytest.mark.parametrize(
    ("row", "kind"), [(Row("0.mp4", spans=(Span(0, 1, "a"),)), "segment"), (Row("0.mp4", captions=("a",)), "caption")]
)
def test_videos_without_labels_are_asked_what_is_known_of_them(tmp_path: Path, row: Row, kind: str) -> None:
    write_manifest([replace(row, path=f"{i}.mp4") for i in range(8)], tmp_path / "manifest.jsonl")
    base, said = defaults_for(tmp_path / "manifest.jsonl")
    (head,) = load_config(None, base=base).heads.values()
    assert head.kind == kind and any("8 of 8 rows have a" in line for line in said)


@pytest.mark.parametrize("split", ["group", "random", "folds"])
def test_who_is_tested_does_not_hang_on_the_seed_of_the_training(tmp_path: Path, split: str) -> None:
    groups = [None if split == "random" else f"g{i}" for i in range(24)]
    rows = [Row(path=f"{i}.npy", split=None, group=group, label="ab"[i % 2]) for i, group in enumerate(groups)]
    write_manifest(rows, tmp_path / "rows.jsonl")
    tested = set()
    for seed in range(3):
        settings = {"path": str(tmp_path / "rows.jsonl"), "split": split}
        config = validate(Config, {"encoder": {"kind": "series"}, "data": settings, "training": {"seed": seed}}, "x")
        done = split_rows(config, read_rows(config, lambda text: None), lambda text: None)
        tested.add(tuple(row.path for row in done.select("test").rows))
    assert len(tested) == 1 and tested.pop()
