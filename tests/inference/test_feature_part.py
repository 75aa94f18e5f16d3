"""Long videos keep their features on the disk while they are read, and a job that was killed goes on from there."""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from folder_engine import Shuffled, answers_of, in_process, make_model, one_by_one, source_of
from made_videos import make_video
from streaming import CPU

from pipeline.data.feature_store import FeatureStore
from pipeline.encoders.frames import FramesEncoder
from pipeline.inference import core_thread
from pipeline.inference.engine import answer_files, extract_files
from pipeline.inference.engine_settings import EngineSettings
from pipeline.inference.feature_part import FeaturePart
from pipeline.inference.predictor import Predictor
from pipeline.media.folder import InputFile


@pytest.fixture(scope="module")
def causal() -> Predictor:
    return Predictor(make_model(bidirectional=False), CPU)


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    return FeatureStore(tmp_path / "store", {"backbone": "x"})


@pytest.fixture(scope="module")
def long_video(tmp_path_factory) -> InputFile:
    """200 looks: three windows and a bit."""
    path = make_video(tmp_path_factory.mktemp("long") / "long.ts", 750, rate=Fraction(15))
    return InputFile(path, "long.ts")


def answer_until(predictor: Predictor, file: InputFile, parts: Path, num_frames: int, **options: int) -> Shuffled:
    """Answer for a file, and close the job when so many frames went to the CNN and a part was written."""
    reached = threading.Event()

    class Counting(Shuffled):
        def submit(self, frames, on_done):
            super().submit(frames, on_done)
            while self.num_frames > num_frames and not reached.is_set():
                time.sleep(0.01)
                if any(parts.glob("*.part")):
                    reached.set()

    requests = Counting(predictor, is_shuffled=False)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(predictor, "take_requests", lambda: requests)
        patched.setattr(predictor, "give_requests_back", lambda requests: None)
        pool = in_process(predictor, 1, **options)
        answers = answer_files([file], predictor, pool=pool, parts=parts)  # type: ignore[arg-type]
        assert reached.wait(60)
        answers.close()
    return requests


@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_interrupted_long_video_is_resumed_to_the_same_bits(long_video, bidirectional, tmp_path, monkeypatch):
    monkeypatch.setattr(core_thread, "PART_SECONDS", 16.0)
    predictor = Predictor(make_model(bidirectional=bidirectional), CPU)
    expected = one_by_one(predictor, long_video)
    assert expected.looks == 200
    answer_until(predictor, long_video, tmp_path, 170)
    (part,) = tmp_path.iterdir()
    records = list(FeaturePart(part).read(4.0))
    assert records and all(values.shape[0] == 64 for _, values in records)
    with open(part, "ab") as file:
        file.write(part.read_bytes()[: len(part.read_bytes()) // 2])  # a torn record, or that of another job
    requests = Shuffled(predictor)
    with monkeypatch.context() as patched:
        patched.setattr(predictor, "take_requests", lambda: requests)
        resumed = answers_of(answer_files([long_video], predictor, EngineSettings(workers=1), parts=tmp_path))
    assert resumed == {"long.ts": expected}
    assert requests.num_frames == 200 - 64 * len(records) < 150
    pool = in_process(predictor, die_at=5)
    again = answers_of(answer_files([long_video], predictor, pool=pool, parts=tmp_path))  # type: ignore[arg-type]
    assert again == {"long.ts": expected}  # the worker died; all windows were in the part


def test_a_part_is_of_one_file_and_one_cnn(long_video, causal, tmp_path, monkeypatch):
    monkeypatch.setattr(core_thread, "PART_SECONDS", 16.0)
    answer_until(causal, long_video, tmp_path, 170)
    other = Predictor(make_model(bidirectional=False), CPU)
    with torch.no_grad():
        encoder = other.model.encoder
        assert isinstance(encoder, FramesEncoder)
        next(encoder.backbone.parameters()).mul_(2)
    assert answers_of(answer_files([long_video], other, parts=tmp_path))["long.ts"] == one_by_one(other, long_video)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_part_ends_with_the_features_in_the_store(long_video, causal, store, monkeypatch):
    monkeypatch.setattr(core_thread, "PART_SECONDS", 16.0)
    (one,) = extract_files([long_video], source_of(causal), store)
    stored = store.read(long_video.path)
    assert stored is not None and one.answer.looks == len(stored.times) == 200
    assert not list((store.folder / "parts").iterdir())


def test_the_records_of_a_part_that_are_whole_are_read_and_the_rest_is_cut_off(tmp_path):
    rng = np.random.default_rng(0)
    records = [(np.arange(8 * n, 8 * n + 8) / 4, rng.normal(size=(8, 3)).astype(np.float16)) for n in range(3)]
    part = FeaturePart(tmp_path / "parts/x.part")
    assert list(part.read(4.0)) == []
    for times, values in records:
        part.append(times, values)
    whole = part.path.read_bytes()
    size = len(whole) // 3

    def read(data: bytes, *limits: int) -> int:
        part.path.write_bytes(data)
        found = list(part.read(4.0, *limits))
        for (times, values), (right_times, right_values) in zip(found, records, strict=False):
            assert np.array_equal(times, right_times) and np.array_equal(values, right_values)
        assert part.path.stat().st_size == size * len(found)
        return len(found)

    assert [read(whole[:length]) for length in (0, 5, size - 1, size, size + 9, len(whole) - 1, len(whole))] == [
        *(0, 0, 0, 1, 1, 2, 3)
    ]
    changed = bytes([whole[2 * size - 1] ^ 1])
    assert read(whole[: 2 * size - 1] + changed + whole[2 * size :]) == 1  # a bit of the second has changed
    assert read(whole[:size] + whole) == 1 and read(whole[size:]) == 0  # twice the first; the first is missing
    assert read(whole, 16) == 2 and read(whole, 15) == 1
    part.delete()
    part.delete()
    assert list(part.read(4.0)) == []
