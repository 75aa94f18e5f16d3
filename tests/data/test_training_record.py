"""The record of what a model was trained on: content counts and names of files do not, and damage is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.data.manifest_rows import Row
from pipeline.data.training_record import TrainingRecord, content_digest, name_digest, row_digest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, content in {"a": "one", "b": "two", "sub/copy of a": "one"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def test_a_copy_under_another_name_has_the_same_digest_and_another_file_has_not(root: Path) -> None:
    digests = {name: row_digest(Row(name), root) for name in ("a", "b", "sub/copy of a", "missing", "lost")}
    assert digests["a"] == digests["sub/copy of a"] and len(set(digests.values())) == 4
    assert row_digest(Row("copy of a"), root / "sub") == digests["a"], "the folder does not count"
    (root / "a").write_text("another content")
    assert row_digest(Row("a"), root) != digests["a"], "a changed file is read again"


def test_texts_are_equal_by_their_words(root: Path) -> None:
    digest = row_digest(Row("x", text="a good  film"), root)
    assert digest == row_digest(Row("y", text=" a good\nfilm "), root) != row_digest(Row("x", text="a film good"), root)
    assert row_digest(Row("a"), root, is_text=True) == row_digest(Row("z", text="one"), root)


def test_a_record_holds_training_rows_and_their_groups_and_survives_json(root: Path) -> None:
    rows = [
        Row("a", "train", "g1", "run"),
        Row("b", "val", "g2", "jump"),
        Row("missing", "test", "g3", "fall"),
    ]
    record = TrainingRecord.of(rows, root)
    assert record.rows == {row_digest(rows[0], root)} and record.validation_rows == {row_digest(rows[1], root)}
    assert record.groups == {name_digest("g1")} and record.labels == {name_digest("run")}
    assert TrainingRecord.from_json(json.loads(json.dumps(record.as_json()))) == record
    assert len(str(record.as_json()["rows"])) == 12, "8 bytes a row, as base64"


def test_a_chain_forgets_nothing_and_knows_whether_it_is_complete(root: Path) -> None:
    first = TrainingRecord.of([Row("a", "train", "g1", "run")], root)
    second = TrainingRecord.of([Row("b", "train", "g2", "jump")], root).joined(first)
    assert second.rows == {row_digest(Row(name), root) for name in "ab"} and len(second.groups) == 2
    assert second.is_complete and not second.joined(None).is_complete
    assert not first.joined(second.joined(None)).is_complete


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": "no base64!"}, "its rows are no digests"),
        ({"groups": None}, "its groups are no digests"),
        ({"labels": "YWJj"}, "its labels hold 3 bytes"),
    ],
)
def test_a_damaged_record_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingRecord.from_json({**TrainingRecord().as_json(), **change})
    with pytest.raises(ValueError, match="it is not an object"):
        TrainingRecord.from_json([])


def test_the_digest_of_the_files_sees_exchanged_files_and_another_start(root: Path) -> None:
    rows = [Row("a", "train"), Row("b", "train")]
    record = TrainingRecord.of(rows, root)
    before = content_digest(rows, root, record)
    assert content_digest(rows, root, record.joined(TrainingRecord(groups=frozenset({b"12345678"})))) != before
    one, two = (root / "a").read_text(), (root / "b").read_text()
    (root / "a").write_text(two + " ")
    (root / "b").write_text(one + " ")
    (root / "a").write_text(two)
    (root / "b").write_text(one)
    assert TrainingRecord.of(rows, root) == record and content_digest(rows, root, record) != before
