"""The default settings for a manifest that comes without a config."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.commands.default_config import defaults_for
from pipeline.commands.prepare_data import read_rows, split_rows
from pipeline.config.run import load_config
from pipeline.data.manifest import write_manifest
from pipeline.data.manifest_rows import Row, Span


def split_sizes(folder: Path, splits: list[str]) -> dict[str, int]:
    """Rows of each split, after the defaults for a manifest with these splits were applied."""
    rows = [Row(path=f"{i}.npy", split=s, group=f"g{i}", label="ab"[i % 2]) for i, s in enumerate(splits)]
    write_manifest(rows, folder / "manifest.jsonl")
    base, lines = defaults_for(folder / "manifest.jsonl")
    config = load_config(None, base=base)
    manifest = split_rows(config, read_rows(config, lines.append), lines.append)
    return {split: len(manifest.select(split).rows) for split in ("train", "val", "test")}  # type: ignore[arg-type]


@pytest.mark.parametrize("copies", [1, 30])
def test_a_manifest_keeps_its_own_validation_rows(tmp_path: Path, copies: int) -> None:
    splits = (["train"] * 8 + ["val"] * 4 + ["test"] * 4) * copies
    assert split_sizes(tmp_path, splits) == {"train": 8 * copies, "val": 4 * copies, "test": 4 * copies}


def test_few_videos_without_a_validation_split_are_all_trained_on(tmp_path: Path) -> None:
    assert split_sizes(tmp_path, ["train"] * 12 + ["test"] * 4) == {"train": 12, "val": 0, "test": 4}


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


@pytest.mark.parametrize("annotation", TEXTS)
def test_a_manifest_of_texts_gets_the_head_that_its_annotations_can_teach(tmp_path: Path, annotation: str) -> None:
    row, kind, settings = TEXTS[annotation]
    write_manifest([replace(row, path=str(i)) for i in range(8)], tmp_path / "manifest.jsonl")
    base, lines = defaults_for(tmp_path / "manifest.jsonl")
    config = load_config(None, base=base)
    (head,) = config.heads.values()
    assert (config.encoder.kind, config.data.window, head.kind) == ("tokens", None, kind)
    assert {name: getattr(head, name) for name in settings} == settings
    assert lines[-1] == "  encoder.kind=tokens: the rows are texts"


@pytest.mark.parametrize(
    ("row", "kind"), [(Row("0.mp4", spans=(Span(0, 1, "a"),)), "segment"), (Row("0.mp4", captions=("a",)), "caption")]
)
def test_videos_without_labels_get_the_head_that_their_annotations_can_teach(
    tmp_path: Path, row: Row, kind: str
) -> None:
    write_manifest([replace(row, path=f"{i}.mp4") for i in range(8)], tmp_path / "manifest.jsonl")
    base, lines = defaults_for(tmp_path / "manifest.jsonl")
    (head,) = load_config(None, base=base).heads.values()
    assert head.kind == kind and any("8 of 8 rows have a" in line for line in lines)
