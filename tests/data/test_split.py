"""Splits keep groups together and every class in training, and depend on the seed alone. Leaks are found."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.copies import equal_files
from pipeline.data.finding import Finding
from pipeline.data.label_findings import similar_labels, split_folders
from pipeline.data.leaks import check_leaks
from pipeline.data.manifest import Manifest
from pipeline.data.manifest_rows import Row, Span
from pipeline.data.near_duplicates import difference_hash
from pipeline.data.split import (
    LeakError,
    SplitMethod,
    apply_split,
    folds_by_group,
    split_by_group,
    split_random,
    split_random_ignoring_groups,
    validation_from_training,
)


def random_rows(seed: int, with_groups: bool = True) -> list[Row]:
    """Some labels, each with clips of 6 to 40 groups. For odd seeds, a group is a person who occurs in all labels."""
    generator = random.Random(seed)
    rows = []
    for label in range(generator.randrange(2, 12)):
        for group in range(generator.randrange(6, 41)):
            name = f"p{group}" if seed % 2 else f"c{label}_g{group}"
            for clip in range(generator.randrange(1, 8)):
                rows.append(
                    Row(f"c{label}/g{group}_{clip}.mp4", group=name if with_groups else None, label=f"c{label}")
                )
    generator.shuffle(rows)
    return rows


def groups_of(rows: Sequence[Row], split: str) -> set[str | None]:
    return {row.group for row in rows if row.split == split}


def labels_of(rows: Sequence[Row], split: str) -> Counter[str | None]:
    return Counter(row.label for row in rows if row.split == split)


@pytest.mark.parametrize("seed", range(30))
def test_split_by_group_puts_whole_groups_into_the_test(seed: int) -> None:
    rows = random_rows(seed)
    split = split_by_group(rows, 0.25, seed)
    assert [replace(row, split=None) for row in split] == rows  # the same rows in the same order
    assert not groups_of(split, "train") & groups_of(split, "test")
    assert labels_of(split, "train").keys() == {row.label for row in rows}
    assert labels_of(split, "test").total() == pytest.approx(0.25 * len(rows), abs=0.05 * len(rows) + 7)
    for label, count in Counter(row.label for row in rows).items():
        assert labels_of(split, "test")[label] == pytest.approx(0.25 * count, abs=0.15 * count + 7)
    assert split_by_group(rows, 0.25, seed) == split
    shuffled = random.Random(seed).sample(rows, len(rows))
    assert set(split_by_group(shuffled, 0.25, seed)) == set(split)  # the order of the rows does not count
    assert split_by_group(rows, 0.25, seed + 1) != split


@pytest.mark.parametrize("seed", range(20))
def test_every_row_is_in_the_test_of_one_fold(seed: int) -> None:
    rows, folds = random_rows(seed), 2 + seed % 5
    splits = [folds_by_group(rows, folds, fold, seed) for fold in range(folds)]
    tested = Counter(row.path for split in splits for row in split if row.split == "test")
    assert tested == Counter(row.path for row in rows)
    for split in splits:
        assert not groups_of(split, "train") & groups_of(split, "test")
        assert labels_of(split, "test").total() == pytest.approx(len(rows) / folds, rel=0.2, abs=10)
    assert folds_by_group(rows, folds, 0, seed) == splits[0]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("with_groups", [True, False])
def test_validation_rows_come_from_training_rows_alone(seed: int, with_groups: bool) -> None:
    rows = split_random_ignoring_groups(random_rows(seed, with_groups), 0.2, seed)
    split = validation_from_training(rows, 0.15, seed)
    assert [row.path for row in split if row.split == "test"] == [row.path for row in rows if row.split == "test"]
    assert labels_of(split, "train").keys() == labels_of(rows, "train").keys()
    training = labels_of(rows, "train")
    assert labels_of(split, "val").total() == pytest.approx(0.15 * training.total(), abs=0.05 * training.total() + 7)
    if with_groups:
        assert not groups_of(split, "train") & groups_of(split, "val")
    else:  # in exact proportion to the labels
        assert all(abs(labels_of(split, "val")[label] - 0.15 * count) <= 1 for label, count in training.items())
    assert validation_from_training(rows, 0.15, seed) == split


def test_many_small_classes_still_give_validation_rows() -> None:
    rows = [Row(f"{label}_{clip}", "train", label=str(label)) for label in range(100) for clip in range(2)]
    split = validation_from_training(rows, 0.2, 0)
    assert labels_of(split, "val").total() == 40 and len(labels_of(split, "train")) == 100
    grouped = [replace(row, group=row.path) for row in rows]
    assert labels_of(validation_from_training(grouped, 0.2, 0), "val").total() == 40


def test_rows_without_labels_split_too() -> None:
    split = split_random([Row(f"{number}.mp4") for number in range(50)], 0.2, 0)
    assert labels_of(split, "test").total() == 10


def test_a_class_of_one_group_stays_in_training() -> None:
    rows = [Row(f"a{number}", group="only", label="rare") for number in range(5)]
    rows += [Row(f"b{number}", group=f"g{number}", label="common") for number in range(20)]
    for seed in range(10):
        assert "rare" not in labels_of(split_by_group(rows, 0.3, seed), "test")


def test_a_random_split_of_shared_groups_is_refused() -> None:
    rows = [
        Row(f"c_g{group:02d}_{clip}", group=f"c_g{group:02d}", label="c") for group in range(25) for clip in range(6)
    ]
    with pytest.raises(LeakError) as error:
        split_random(rows, 0.3, 0)
    leaking = split_random_ignoring_groups(rows, 0.3, 0)
    shared = groups_of(leaking, "train") & groups_of(leaking, "test")
    expected = f"of these 150 rows would put {len(shared)} of 25 groups into both train and test (e.g. 'c_g"
    assert expected in str(error.value) and "'random_ignoring_groups'" in str(error.value)
    with pytest.raises(LeakError, match="groups into both train and test"):
        apply_split(rows, "random", test_share=0.3)
    assert apply_split(rows, "random_ignoring_groups", test_share=0.3) == leaking
    singles = [replace(row, group=row.path) for row in rows]  # groups of one row cannot leak
    assert labels_of(split_random(singles, 0.3, 0), "test").total() == 45
    one_pair = [replace(singles[0], group=singles[1].path), *singles[1:]]  # one group of two leaks already
    for draw in (split_random, lambda rows, share, seed: apply_split(rows, "random", test_share=share, seed=seed)):
        with pytest.raises(LeakError, match=r"would put [01] of 149 groups into both train and test"):
            draw(one_pair, 0.3, 0)


def test_apply_split_calls_the_function_of_each_method() -> None:
    rows = random_rows(3)
    assert apply_split(rows, "group", test_share=0.3, seed=5) == split_by_group(rows, 0.3, 5)
    assert apply_split(rows, "folds", folds=4, fold=2, seed=5) == folds_by_group(rows, 4, 2, 5)
    split = apply_split(rows, "group", test_share=0.3, validation_share=0.2, seed=5)
    assert split == validation_from_training(split_by_group(rows, 0.3, 5), 0.2, 5)
    assert apply_split(split, "manifest", validation_share=0.5) == split  # it has validation rows already
    ungrouped = [replace(row, group=None) for row in rows]
    assert apply_split(ungrouped, "random", test_share=0.3, seed=5) == split_random(ungrouped, 0.3, 5)


def test_rows_that_cannot_be_split_are_errors() -> None:
    rows = random_rows(1)
    ungrouped = [replace(row, group=None) for row in rows]
    with pytest.raises(ValueError, match="No row has a split .*'manifest' every row needs.*or split by 'group'"):
        apply_split(rows, "manifest")
    with pytest.raises(ValueError, match="1 of 2 rows have no split .e.g. 'b'.*or split by 'random'"):
        apply_split([Row("a", "train"), Row("b")], "manifest")
    with pytest.raises(ValueError, match="The split 'groups' is not known. Use one of manifest, group, folds"):
        apply_split(rows, "groups")  # pyright: ignore[reportArgumentType]
    for method in ("group", "folds"):
        with pytest.raises(ValueError, match="rows have no group .*needs one in every row"):
            apply_split([*rows, *ungrouped[:3]], method)
    for share in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="The test share is .* between 0 and 1"):
            split_by_group(rows, share, 0)
    with pytest.raises(ValueError, match="No test rows can be taken from 4 rows in 2 groups: each group has all"):
        split_by_group([Row(f"{name}{n}", group=name, label=name) for name in "ab" for n in range(2)], 0.5, 0)
    with pytest.raises(ValueError, match="1 folds of .* are requested.* Change the number"):
        folds_by_group(rows, 1, 0)
    with pytest.raises(ValueError, match="999 folds of"):
        folds_by_group(rows, 999, 0)
    with pytest.raises(ValueError, match="Fold 5 of 5 is requested. Folds are counted from 0 to 4"):
        folds_by_group(rows, 5, 5)
    with pytest.raises(ValueError, match="No row has the split 'train'"):
        validation_from_training(rows, 0.1, 0)
    with pytest.raises(ValueError, match="1 rows are already for validation"):
        validation_from_training([Row("a", "train"), Row("b", "val")], 0.1, 0)


def findings(root: Path, rows: Sequence[Row], **options) -> dict[str, Finding]:
    return {finding.kind: finding for finding in check_leaks(Manifest(tuple(rows), root), **options)}


def make(root: Path, rows: Sequence[Row]) -> None:
    for number, row in enumerate(rows):
        (root / row.path).write_bytes(b"video %d" % number)


def test_a_clean_split_has_no_findings(tmp_path: Path) -> None:
    rows = split_by_group([Row(f"{n}.mp4", group=f"g{n // 2}", label="ab"[n % 2]) for n in range(40)], 0.2, 0)
    make(tmp_path, rows)
    assert findings(tmp_path, rows) == {}


def test_groups_in_two_splits_are_found(tmp_path: Path) -> None:
    rows = [Row("a", "train", "film"), Row("b", "test", "film"), Row("c", "val", "film"), Row("d", "test", "own")]
    make(tmp_path, rows)
    leaks = check_leaks(Manifest(tuple(rows), tmp_path))
    assert [leak.kind for leak in leaks] == ["group"] * 3
    assert [leak.paths for leak in leaks] == [("a", "c"), ("a", "b"), ("c", "b")]
    assert leaks[1].message.startswith("1 of 2 groups are in both train and test (1 test rows): 'film'.")


def test_classes_in_one_split_missing_files_and_imbalance_are_found(tmp_path: Path) -> None:
    rows = [Row(f"{n}", "train", label="common") for n in range(10)]
    rows += [Row("x", "train", label="rare"), Row("y", "test", label="common"), Row("z", "test", label="new")]
    make(tmp_path, rows[:-1])
    leaks = check_leaks(Manifest(tuple(rows), tmp_path))
    assert [leak.paths for leak in leaks if leak.kind == "missing_class"] == [("x",), ("z",)]
    assert "1 classes are in test but not in train: 'new'. A model cannot learn them." in leaks[1].message
    by_kind = {leak.kind: leak for leak in leaks}
    assert by_kind["missing_file"].paths == ("z",)
    assert "1 of 13 files are missing under" in by_kind["missing_file"].message
    assert "'common' has 10 rows, 'rare' has 1" in by_kind["imbalance"].message


def test_equal_files_are_found_across_splits_across_classes_and_within_both(tmp_path: Path) -> None:
    rows = [Row("a", "train", label="x"), Row("b", "test", label="x"), Row("c", "train", label="x")]
    rows += [Row("d", "train", label="x"), Row("e", "test", label="y"), Row("f", "test", label="x")]
    make(tmp_path, rows)
    for copy, source in (("b", "a"), ("d", "c"), ("f", "e")):
        (tmp_path / copy).write_bytes((tmp_path / source).read_bytes())
    leaks = [leak for leak in check_leaks(Manifest(tuple(rows), tmp_path)) if leak.kind == "identical"]
    assert [leak.paths for leak in leaks] == [("e", "f"), ("a", "b"), ("c", "d")]
    assert leaks[0].message.startswith(
        "1 of 3 groups of equal files under several names, WITH DIFFERENT LABELS: 'e' (y) = 'f' (x). A label is wrong"
    )
    assert "1 of 3 groups of equal files under several names, in two splits: 'a' (x) = 'b' (x)." in leaks[1].message
    assert "1 of 3 groups of equal files under several names, with one label: 'c' (x) = 'd' (x)." in leaks[2].message


def test_files_of_one_size_with_equal_ends_are_no_copies_and_empty_files_are_none(tmp_path: Path) -> None:
    rows = [Row(name) for name in ("a", "b", "c", "d", "e", "gone")]
    for name, middle in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / name).write_bytes(b"h" * 70_000 + middle + b"t" * 70_000)
    (tmp_path / "d").touch()
    (tmp_path / "e").touch()
    assert [[row.path for row in same] for same in equal_files(Manifest(tuple(rows), tmp_path))] == [["a", "c"]]


@pytest.mark.parametrize("method", ["random", "random_ignoring_groups", "group", "folds", "manifest"])
@pytest.mark.parametrize("seed", range(6))
def test_a_drawn_split_keeps_equal_files_together(method: SplitMethod, seed: int) -> None:
    is_grouped = method in ("group", "folds")
    rows = [Row(f"{n}.mp4", "train", f"g{n // 2}" if is_grouped else None, "ab"[n % 2]) for n in range(60)]
    copies = [(rows[0], rows[7]), (rows[7], rows[21], rows[34]), (rows[40], rows[50]), (rows[2], rows[59])]
    split = apply_split(rows, method, test_share=0.4, validation_share=0.3, seed=seed, copies=copies)
    assert [replace(row, split="train") for row in split] == rows  # with the groups that they had
    splits = {row.path: row.split for row in split}
    assert set(splits.values()) == ({"train", "val"} if method == "manifest" else {"train", "val", "test"})
    for paths in ((0, 7, 21, 34), (40, 50), (2, 59)):
        assert len({splits[f"{n}.mp4"] for n in paths}) == 1
    if is_grouped:
        assert not groups_of(split, "train") & groups_of(split, "test")
    unknown = [(Row("other.mp4"), Row("another.mp4"))]  # rows that a head has left out
    assert apply_split(rows, method, seed=seed, copies=unknown) == apply_split(rows, method, seed=seed)


def test_labels_that_differ_in_case_or_accents_only_are_found() -> None:
    labels = ["lève", "Lève", "leve", "sit down", "sit_down", "run", "walk", "9", "東京", "東大"]
    rows = [Row(f"{n}", label=label) for n, label in enumerate(labels)] + [Row("s", spans=(Span(0, 1, "RUN"),))]
    found = similar_labels(rows)
    assert [finding.paths for finding in found] == [("0", "1", "2"), ("5", "s"), ("3", "4")]
    assert "3 labels differ only in case, accents or blanks: 'Lève' (1), 'leve' (1), 'lève' (1)." in found[0].message


@pytest.mark.parametrize(
    ("paths", "count"),
    [
        (["Train/run/1", "Test/run/1", "extra/run/1"], 2),
        (["train_set/1", "test_set/2"], 2),
        (["trainset/run/1", "other/run/1"], 1),
        (["train/1", "bus/2"], 0),  # a class of vehicles
        (["run/train/1", "run/test/2", "sit/train/3"], 3),
        (["restraint/1/x", "contest/2/x"], 0),
    ],
)
def test_folders_that_look_like_splits_and_are_classes_are_found(paths: list[str], count: int) -> None:
    rows = [Row(path, label=path.split("/")[0]) for path in paths]
    assert sum(len(finding.paths) for finding in split_folders(rows)) == count
    assert split_folders([replace(row, split="train") for row in rows]) == []


def test_near_duplicates_in_two_splits_are_found(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = [Row(str(number), "train" if number < 6 else "test") for number in range(12)]
    make(tmp_path, rows)
    videos = {
        row.path: [np.kron(generator.integers(0, 255, (6, 8)), np.ones((20, 20))) for _ in range(3)] for row in rows
    }
    copy = [np.kron(frame[::2, ::2], np.ones((3, 3))) for frame in videos["2"]]  # scaled, brighter, noisy
    videos["7"] = [np.clip(0.8 * frame + 20 + generator.normal(0, 3, frame.shape), 0, 255) for frame in copy]
    videos["0"] = videos["8"] = [np.zeros((90, 90))] * 3  # black videos are not compared

    def read_frames(path: Path) -> list[np.ndarray]:
        if path.name == "11":
            raise ValueError("corrupt")
        return [] if path.name == "10" else [frame.astype(np.uint8) for frame in videos[path.name]]

    leaks = findings(tmp_path, rows, read_frames=read_frames)
    assert leaks["near_duplicate"].paths == ("2", "7") and "'2' and '7'" in leaks["near_duplicate"].message
    assert leaks["unreadable"].paths == ("10", "11") and "2 files gave no frames" in leaks["unreadable"].message


def test_one_common_title_frame_is_no_near_duplicate(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = [Row(str(number), "train" if number < 3 else "test") for number in range(6)]
    make(tmp_path, rows)

    def frame() -> np.ndarray:
        return np.kron(generator.integers(0, 255, (6, 8)), np.ones((20, 20))).astype(np.uint8)

    title = frame()
    videos = {row.path: [title, frame(), title, frame()] for row in rows}  # the first and a middle frame are common
    videos["4"] = videos["1"]
    leaks = findings(tmp_path, rows, read_frames=lambda path: videos[path.name])
    assert leaks["near_duplicate"].paths == ("1", "4")
    videos["4"] = [*videos["1"][:3], frame()]
    assert "near_duplicate" not in findings(tmp_path, rows, read_frames=lambda path: videos[path.name])


@pytest.mark.parametrize("distance", [0, 9, 10, 11, 64])
def test_the_largest_difference_of_a_near_duplicate_is_the_one_asked_for(tmp_path: Path, distance: int) -> None:
    rows = [Row("a", "train"), Row("b", "test")]
    make(tmp_path, rows)
    steps = np.full((8, 9), 10).cumsum(1)
    changed = steps.copy()
    for number in range(distance):  # each bit of the hash is a step up; here so many are steps down
        y, x = divmod(number, 8)
        changed[y, x + 1 :] -= 20
    videos = {"a": [np.kron(steps, np.ones((4, 4)))], "b": [np.kron(changed + 200, np.ones((4, 4)))]}
    found = check_leaks(Manifest(tuple(rows), tmp_path), read_frames=lambda path: videos[path.name], max_distance=10)
    assert any(finding.kind == "near_duplicate" for finding in found) is (distance <= 10)


def test_the_difference_hash_equals_one_computed_by_hand() -> None:
    rising = np.tile(np.arange(90, dtype=np.uint8), (80, 1))
    assert difference_hash(rising) == 2**64 - 1 and difference_hash(rising[:, ::-1]) == 0
    half = rising.copy()
    half[:40] = rising[:40, ::-1]  # the upper half falls: the first 32 bits are 0
    assert difference_hash(half) == 2**32 - 1
    assert difference_hash(np.full((80, 90), 7, np.uint8)) == 0
    with pytest.raises(ValueError, match="A frame is 90x8. A hash needs 9x9 pixels or more."):
        difference_hash(rising[:8])
