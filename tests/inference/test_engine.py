"""The folder engine gives what file by file gives, to the bit, whatever comes first, fails, dies or is stopped."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from folder_engine import Shuffled, answers_of, in_process, left_over, make_model, one_by_one, source_of
from made_videos import barcode, make_video
from streaming import CPU, make_checkpoint, make_series

from pipeline.data.feature_store import FeatureStore
from pipeline.inference import feeder as feeder_module
from pipeline.inference.engine import answer_files, decode_settings, extract_files
from pipeline.inference.engine_settings import EngineSettings
from pipeline.inference.predictor import Predictor, SequencePredictor
from pipeline.media.decode import decode
from pipeline.media.decode_pool import DecodePool
from pipeline.media.folder import InputFile, find_videos


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Videos of several lengths, rates and sizes: one of more than a window, one that stands still, two that fail."""
    path = tmp_path_factory.mktemp("folder")
    make_video(path / "a.mp4", 40)
    make_video(path / "b.ts", 270, rate=Fraction(15))  # 72 looks
    make_video(path / "c.mkv", 9, rate=Fraction(2))  # each picture at two looks
    make_video(path / "d.avi", [barcode(7, 96, 64)] * 50, codec="mpeg4", rate=Fraction(10))
    make_video(path / "e.mp4", 31, rate=Fraction(25))
    (path / "cut.ts").write_bytes((path / "b.ts").read_bytes()[:30_000])
    (path / "text.mp4").write_text("no video")
    for file in path.iterdir():
        os.utime(file, (1e9, 1e9))
    return path


@pytest.fixture(scope="module")
def causal() -> Predictor:
    return Predictor(make_model(bidirectional=False), CPU)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Every job ends with its threads and processes."""
    yield
    assert not left_over()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_answers_for_a_folder_are_those_of_file_by_file_to_the_bit(folder, bidirectional):
    predictor = Predictor(make_model(bidirectional=bidirectional), CPU)
    files = find_videos([str(folder)])
    expected = {file.name: one_by_one(predictor, file) for file in files}
    assert {n: a.status for n, a in expected.items() if a.status != "ok"} == {
        "cut.ts": "partial",
        "text.mp4": "failed:not_a_video",
    }
    assert expected["b.ts"].looks == 72 and expected["b.ts"].spans
    lines: list[str] = []
    assert answers_of(answer_files(files, predictor, EngineSettings(workers=2), log=lines.append)) == expected
    assert len(lines) == 1 and ": 2 workers decode" in lines[0]
    assert answers_of(answer_files(files[::-1], predictor, EngineSettings(workers=1))) == expected
    alone = [answers_of(answer_files([file], predictor))[file.name] for file in files]
    assert alone == [expected[file.name] for file in files]


def test_no_order_of_decoding_and_of_the_cnn_changes_a_bit(folder, causal, monkeypatch):
    files = find_videos([str(folder)])
    expected = {file.name: one_by_one(causal, file) for file in files if "cut" not in file.name}
    files = [file for file in files if file.name in expected]
    for seed in range(5):
        requests = Shuffled(causal)
        with monkeypatch.context() as patched:
            patched.setattr(causal, "take_requests", lambda requests=requests: requests)
            patched.setattr(causal, "give_requests_back", lambda requests: None)
            pool = in_process(causal, seed=seed, **({"die_at": 6} if seed == 4 else {}))
            assert answers_of(answer_files(files, causal, pool=pool)) == expected  # type: ignore[arg-type]
        assert pool.is_closed and not pool.pictures  # every slot was released
        if seed < 4:
            looks = sum(answer.looks for answer in expected.values())
            assert requests.num_requests == -(-requests.num_frames // requests.request_size) < requests.num_frames / 7
            assert requests.num_frames == pool.num_slots < looks - 20  # what is shown again was not sent again


def test_a_worker_that_is_killed_changes_no_answer(folder, causal):
    files = [file for file in find_videos([str(folder)]) if file.name != "text.mp4"]
    expected = {file.name: one_by_one(causal, file) for file in files}
    section = causal.checkpoint.architecture.encoder
    assert section.kind == "frames"
    settings = decode_settings(section, causal.clock.rate, hash_content=False)
    with DecodePool(1, settings, slots_a_worker=32) as pool:
        killed: list[int] = []
        submit = pool.submit

        def submit_and_kill(task):
            submit(task)
            if task.path.name == "b.ts" and not killed:
                killed.extend(pool.process_ids)
                os.kill(killed[0], signal.SIGKILL)

        pool.submit = submit_and_kill
        assert answers_of(answer_files(files, causal, EngineSettings(workers=1), pool=pool)) == expected
    assert killed


def test_memory_is_bounded_by_opening_fewer_videos(folder, causal, monkeypatch):
    files = find_videos([str(folder)]) * 3
    pool = in_process(causal, 4)
    with answer_files(files, causal, EngineSettings(memory_mb=1), pool=pool) as answers:  # type: ignore[arg-type]
        assert len(list(answers)) == len(files)
    assert pool.most_open == 4  # these features are small
    pool = in_process(causal, 4)
    monkeypatch.setattr(feeder_module.OpenVideo, "num_bytes", 1 << 20)
    with answer_files(files, causal, EngineSettings(memory_mb=1), pool=pool) as answers:  # type: ignore[arg-type]
        assert len(list(answers)) == len(files)
    assert pool.most_open == 1


def test_settings_below_one_are_refused(causal):
    with pytest.raises(ValueError, match="workers is 0. It is a number of 1 or more"):
        answer_files([], causal, EngineSettings(workers=0))
    with pytest.raises(ValueError, match="memory_mb is -1"):
        answer_files([], causal, EngineSettings(memory_mb=-1))


def test_an_error_of_a_head_is_a_failed_row_and_the_job_goes_on(folder, causal, monkeypatch):
    files = find_videos([str(folder)])
    observe, looks = SequencePredictor.add, []

    def fail_at_b(self, features):
        looks.append(len(features))
        if len(features) == 64:  # only b.ts has so many looks
            raise RuntimeError("a bug")
        observe(self, features)

    monkeypatch.setattr(SequencePredictor, "add", fail_at_b)
    answers = answers_of(answer_files(files, causal, pool=in_process(causal)))  # type: ignore[arg-type]
    assert (answers["b.ts"].status, answers["b.ts"].error) == ("failed:error", "RuntimeError: a bug")
    assert answers["b.ts"].path == "b.ts" and answers["a.mp4"].status == "ok" and len(answers) == len(files)


def test_an_error_of_the_cnn_ends_the_job_with_its_sentence(folder, causal, monkeypatch):
    class Broken(Shuffled):
        def submit(self, frames, on_done):
            raise RuntimeError("the device was lost")

    broken = Broken(causal)
    monkeypatch.setattr(causal, "take_requests", lambda: broken)
    answers = answer_files(find_videos([str(folder)]), causal, EngineSettings(workers=1))
    with pytest.raises(RuntimeError, match="the device was lost"):
        list(answers)
    assert list(answers) == []


@pytest.mark.parametrize("after", [0, 1])
def test_closing_in_the_middle_leaves_no_thread_and_no_process(folder, causal, after):
    files = find_videos([str(folder)]) * 50
    answers = answer_files(files, causal, EngineSettings(workers=2))
    assert len([next(answers) for _ in range(after)]) == after and left_over()
    answers.close()
    assert not left_over()
    assert list(answers) == []


def test_after_a_stop_the_open_videos_finish_and_no_other(folder, causal):
    good = [file for file in find_videos([str(folder)]) if file.name == "a.mp4"]
    files = [replace(good[0], name=f"{number}.mp4") for number in range(200)]
    pool = in_process(causal, 2)
    with answer_files(files, causal, pool=pool) as answers:  # type: ignore[arg-type]
        first = next(answers)
        answers.stop()
        rest = list(answers)
    assert 1 + len(rest) == pool.num_submitted < len(files)
    assert {one.answer.status for one in [first, *rest]} == {"ok"}


def test_texts_series_and_problems_need_no_worker(tmp_path, monkeypatch):
    monkeypatch.setattr(feeder_module, "DecodePool", None)
    values, _ = make_series()
    np.save(tmp_path / "x.npy", values)
    (tmp_path / "text.npy").write_text("no array")
    predictor = Predictor(make_checkpoint(), CPU)
    files = [InputFile(tmp_path / name, name) for name in ("x.npy", "text.npy")]
    files.append(InputFile(tmp_path / "gone.npy", "gone.npy", "missing: It is not there."))
    answers = list(answer_files(files, predictor))
    assert [one.file for one in answers] == files
    assert [one.answer.status for one in answers] == ["ok", "failed:not_a_series", "failed:missing"]
    assert [one.answer.path for one in answers] == ["x.npy", "text.npy", "gone.npy"]
    assert answers[0].answer.predictions == predictor.predict_sequence("series", values)
    assert answers[2].answer.error == "It is not there."


# the feature store


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    return FeatureStore(tmp_path / "store", {"backbone": "x"})


def no_pool(*args: object, **options: object) -> None:
    raise AssertionError("a worker was started")


def test_stored_features_are_used_without_opening_the_video(folder, causal, store, monkeypatch):
    files = [file for file in find_videos([str(folder)]) if file.name != "text.mp4"]
    cold = {one.file.name: one for one in answer_files(files, causal, EngineSettings(workers=2), store)}
    assert not any(one.is_stored for one in cold.values()) and all(one.content_hash for one in cold.values())
    assert {name: one.size for name, one in cold.items()} == {f.name: f.path.stat().st_size for f in files}
    again = FeatureStore(store.folder, {"backbone": "x"})
    with monkeypatch.context() as patched:
        patched.setattr(feeder_module, "DecodePool", no_pool)
        warm = {one.file.name: one for one in answer_files(files, causal, EngineSettings(), again)}
    assert {name: one.answer for name, one in warm.items()} == {name: one.answer for name, one in cold.items()}
    assert all(one.is_stored and one.mtime_ns == 10**18 for one in warm.values())


def test_a_copy_of_a_stored_video_needs_no_cnn(folder, causal, store, tmp_path, monkeypatch):
    first = answers_of(answer_files([InputFile(folder / "b.ts", "b")], causal, EngineSettings(), store))
    shutil.copy2(folder / "b.ts", tmp_path / "copy.ts")
    monkeypatch.setattr(causal, "take_requests", no_pool)
    copy = [InputFile(tmp_path / "copy.ts", "b")]
    assert answers_of(answer_files(copy, causal, EngineSettings(), store)) == first
    monkeypatch.setattr(feeder_module, "DecodePool", no_pool)
    assert answers_of(answer_files(copy, causal, EngineSettings(), store)) == first


def test_extraction_fills_the_store_with_the_same_features(folder, causal, store, monkeypatch):
    files = find_videos([str(folder)])
    section, source = causal.checkpoint.architecture.encoder, source_of(causal)
    assert section.kind == "frames"
    extracted = {one.file.name: one for one in extract_files(files, source, store, EngineSettings(workers=2))}
    assert extracted["text.mp4"].answer.status == "failed:not_a_video" and extracted["b.ts"].answer.looks == 72
    for name in ("a.mp4", "b.ts", "c.mkv"):
        clips = decode(folder / name, clock=causal.clock, transform=section.transform())
        features = np.concatenate([causal.extractor(clip.frames).astype(np.float16) for clip in clips])
        stored = store.read(folder / name)
        assert stored is not None and np.array_equal(stored.values, features)
        assert np.array_equal(stored.times, np.arange(len(features)) / 4)
    monkeypatch.setattr(feeder_module, "DecodePool", no_pool)
    good = [file for file in files if file.name != "text.mp4"]
    for one in extract_files(good, source, store):
        assert one.is_stored and one.answer == extracted[one.file.name].answer


def test_a_store_that_cannot_be_written_ends_the_job(folder, causal, tmp_path):
    (tmp_path / "store").write_text("a file with the name of the store")
    store = FeatureStore(tmp_path / "store", {})
    with pytest.raises(OSError, match="store"):
        list(answer_files([InputFile(folder / "a.mp4", "a")], causal, EngineSettings(), store))
