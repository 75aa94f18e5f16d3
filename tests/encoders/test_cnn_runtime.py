"""The runtimes of the CNN: the same features whatever stands beside a frame, requests, precision and the cache."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from photographs import images, smallest_cosine

from pipeline.encoders import cnn_runtime
from pipeline.encoders.backbone import PIXELS, Backbone, StoredCnn, StoredNetwork
from pipeline.encoders.cnn_runtime import (
    OpenVinoRequests,
    build_feature_extractor,
    build_feature_requests,
    runtime_name,
)
from pipeline.encoders.torch_requests import TorchRequests

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bundled() -> Backbone:
    return Backbone(size=64, grid=2)


@pytest.mark.parametrize("kind", ["torch", "openvino"])
def test_features_do_not_depend_on_other_frames_of_the_batch_or_window(bundled, kind):
    extract, pixels = build_feature_extractor(bundled, kind, CPU), images(19)
    features = extract(pixels)
    assert features.dtype == np.float32 and features.shape == (19, bundled.output_size)
    for index in (0, 3, 8, 18):
        assert np.array_equal(extract(pixels[index : index + 1])[0], features[index])
    windows = [extract(pixels[start:stop]) for start, stop in itertools.pairwise((0, 5, 6, 19))]
    assert np.array_equal(np.concatenate(windows), features)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_hint_number_of_requests_place_and_neighbours_change_no_bit_of_openvino(precision):
    if precision == "bf16" and cnn_runtime._openvino_precision() == "f32":
        pytest.skip("this processor has no bf16")
    backbone, frames = Backbone(size=64, grid=2), images(11)
    results = []
    for hint, num_requests in itertools.product(("THROUGHPUT", "LATENCY"), (1, 2, 4)):
        requests = OpenVinoRequests(backbone, precision, hint=hint, num_requests=num_requests)
        order = np.random.default_rng(len(results)).permutation(len(frames))
        features = np.zeros((len(frames), backbone.output_size), dtype=np.float32)
        for chosen in np.split(order, [1, 4]):  # requests of 1, 3 and 7 frames, and zeros behind them
            requests.submit(frames[chosen], partial(features.__setitem__, chosen))
        requests.wait()
        results.append(features)
    assert np.ptp(results[0], axis=0).max() > 0
    assert all(np.array_equal(results[0], other) for other in results)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_the_frames_of_a_request_may_change_once_it_is_submitted(bundled, runtime):
    requests, frames = build_feature_requests(bundled, runtime, CPU), images(24)
    expected = build_feature_extractor(bundled, runtime, CPU)(frames)
    results: dict[int, np.ndarray] = {}
    for start in range(0, 24, 8):
        window = frames[start : start + 8].copy()
        requests.submit(window, partial(results.__setitem__, start))
        window[:] = 255
    requests.wait()
    assert np.array_equal(np.concatenate([results[start] for start in (0, 8, 16)]), expected)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_an_error_while_features_are_handed_over_is_raised_once(bundled, runtime):
    def fail(values: np.ndarray) -> None:
        raise KeyError("nobody waits for these")

    def submit_and_wait() -> None:
        requests.submit(images(1), fail)
        requests.wait()

    requests, received = build_feature_requests(bundled, runtime, CPU), []
    with pytest.raises(KeyError, match="nobody waits"):
        submit_and_wait()
    requests.submit(images(1), received.append)
    requests.wait()
    assert [values.shape for values in received] == [(1, bundled.output_size)]


@pytest.mark.parametrize(("precision", "min_cosine"), [("f32", 0.999), ("bf16", 0.99)])
def test_openvino_agrees_with_torch(precision, min_cosine, monkeypatch):
    if precision == "bf16" and os.environ.get("ONEDNN_MAX_CPU_ISA", "") in cnn_runtime.WITHOUT_BF16:
        pytest.skip("OpenVINO crashes in bf16 where its oneDNN is held to an instruction set without bf16")
    monkeypatch.setattr(cnn_runtime, "_openvino_precision", lambda: precision)
    assert runtime_name("auto", CPU) == f"openvino-{precision}" and runtime_name("torch", CPU) == "torch-float32"
    size = 128  # bf16 is less exact for small frames: at 64 pixels the smallest cosine is 0.987
    backbone, pixels = Backbone(size=size, grid=2), images(12, size)
    expected = build_feature_extractor(backbone, "torch", CPU)(pixels)
    features = build_feature_extractor(backbone, "auto", CPU)(pixels)
    assert smallest_cosine(expected, features) >= min_cosine
    assert smallest_cosine(expected, np.roll(features, 1, axis=0)) < 0.9  # the features of another frame differ


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
@pytest.mark.parametrize("limit", ["SSE41", "AVX2", "avx2_vnni"])
def test_openvino_computes_in_f32_where_its_onednn_is_held_to_less_than_bf16(name, limit, monkeypatch):
    core = SimpleNamespace(get_property=lambda device, name: ["FP32", "BF16"])
    monkeypatch.setattr(cnn_runtime, "import_openvino", lambda: SimpleNamespace(Core=lambda: core))
    for variable in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(variable, raising=False)
    precision = cnn_runtime._openvino_precision.__wrapped__  # without the cache
    assert precision() == "bf16"
    monkeypatch.setenv(name, limit)
    assert precision() == "f32"


def test_openvino_on_another_device_than_a_cpu_is_an_error():
    with pytest.raises(ValueError, match="runtime: openvino needs the openvino package and a CPU. This device is cuda"):
        runtime_name("openvino", torch.device("cuda"))
    assert runtime_name("auto", torch.device("cuda")) == "torch-float32"


def converted_files(cache: Path) -> dict[Path, int]:
    """The files of converted networks in a cache, with their times."""
    return {path: path.stat().st_mtime_ns for path in (cache / "openvino").iterdir()}


def test_a_network_is_converted_once_and_again_where_its_file_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("UNREEL_CACHE", str(tmp_path))
    backbone = Backbone(name=PIXELS, size=32)
    expected = build_feature_extractor(backbone, "openvino", CPU)(images(3, 32))
    ((path, _),) = files = list(converted_files(tmp_path).items())
    assert np.array_equal(build_feature_extractor(backbone, "openvino", CPU)(images(3, 32)), expected)
    assert list(converted_files(tmp_path).items()) == files
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    for damaged in (bytes(flipped), whole[:-1], whole[:20], b""):
        path.write_bytes(damaged)
        assert np.array_equal(build_feature_extractor(backbone, "openvino", CPU)(images(3, 32)), expected)
        assert path.read_bytes() != damaged
        files = converted_files(tmp_path)
        assert np.array_equal(build_feature_extractor(backbone, "openvino", CPU)(images(3, 32)), expected)
        assert converted_files(tmp_path) == files


def test_the_precision_that_is_asked_for_is_used_or_refused_by_name(bundled, monkeypatch):
    monkeypatch.setattr(cnn_runtime, "_openvino_precision", lambda: "bf16")
    assert runtime_name("auto", CPU, "float32") == "openvino-f32" and runtime_name("auto", CPU) == "openvino-bf16"
    assert runtime_name("auto", torch.device("cuda"), "bf16") == "torch-bf16"
    monkeypatch.setattr(cnn_runtime, "_openvino_precision", lambda: "f32")
    assert runtime_name("auto", CPU) == "openvino-f32"
    with pytest.raises(ValueError, match="precision: bf16 needs a processor that computes in it"):
        runtime_name("openvino", CPU, "bf16")
    with pytest.raises(ValueError, match="precision: bf16 is slower than float32 where torch runs the CNN on a CPU"):
        runtime_name("torch", CPU, "bf16")
    pixels = images(3)
    exact = build_feature_extractor(bundled, "openvino", CPU, "float32")(pixels)
    expected = build_feature_extractor(bundled, "torch", CPU)(pixels)
    assert smallest_cosine(exact, expected) > 0.99999
    requests = TorchRequests(bundled, CPU, 4, is_bf16=True)  # as on a GPU
    received: list[np.ndarray] = []
    requests.submit(pixels, received.append)
    requests.wait()
    (rounded,) = received
    assert rounded.dtype == np.float32 and 0.95 < smallest_cosine(rounded, expected) < 0.99999


def test_a_cache_that_cannot_be_written_is_no_error_and_is_said_once(tmp_path, monkeypatch, caplog):
    backbone, pixels = Backbone(size=32), images(3, 32)
    expected = build_feature_extractor(backbone, "openvino", CPU)(pixels)
    (tmp_path / "file").write_text("in the way")  # a folder without permission stops no root user
    monkeypatch.setenv("UNREEL_CACHE", str(tmp_path / "file"))
    with caplog.at_level("WARNING", logger="unreel"):
        assert np.array_equal(build_feature_extractor(backbone, "openvino", CPU)(pixels), expected)
    (record,) = caplog.records
    assert "cannot be kept in" in record.message and "Set UNREEL_CACHE" in record.message


def test_a_stored_cnn_is_built_only_where_torch_runs_it_and_gives_the_same(bundled):
    cnn = StoredCnn(bundled.facts, bundled.net.state_dict())
    stored = Backbone(size=64, grid=2, stored=cnn)
    assert stored.fingerprint() == bundled.fingerprint() and stored.output_size == bundled.output_size
    assert stored.is_frozen and not Backbone(size=64, train_blocks=1, stored=cnn).is_frozen
    for name, value in bundled.state_dict().items():
        assert torch.equal(stored.state_dict()[name], value)
    stored.load_state_dict(bundled.state_dict())
    pixels = images(3)
    expected = build_feature_extractor(bundled, "openvino", CPU)(pixels)
    assert np.array_equal(build_feature_extractor(stored, "openvino", CPU)(pixels), expected)
    assert isinstance(stored.net, StoredNetwork), "it was not built"
    expected = build_feature_extractor(bundled, "torch", CPU)(pixels)
    assert np.array_equal(build_feature_extractor(stored, "torch", CPU)(pixels), expected)
    assert stored.fingerprint() == bundled.fingerprint()


def test_a_stored_cnn_whose_weights_do_not_fit_is_an_error(bundled):
    weights = dict(list(bundled.net.state_dict().items())[1:])
    with pytest.raises(ValueError, match="The weights 'model folder' do not fit 'tf_efficientnet_lite0'"):
        Backbone(size=64, stored=StoredCnn(bundled.facts, weights)).build_network()


def test_a_signal_after_another_thread_let_go_of_openvino_ends_no_process():
    code = (
        "import os, signal, threading, torch\n"
        "from pipeline.encoders.backbone import Backbone\n"
        "from pipeline.encoders.cnn_runtime import build_feature_requests\n"
        "signal.signal(signal.SIGUSR1, lambda number, frame: print('handled', flush=True))\n"
        "held = [build_feature_requests(Backbone(size=32), 'openvino', torch.device('cpu'))]\n"
        "thread = threading.Thread(target=held.clear)\n"
        "thread.start(); thread.join()\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
