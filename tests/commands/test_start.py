"""What a command imports before it answers, and what it refuses before torch is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.checkpoint import Checkpoint, ModelError, load_model, save_model
from pipeline.config.architecture import Architecture
from pipeline.config.encoders import FramesSection
from pipeline.data.vocabulary import Vocabulary
from pipeline.encoders.backbone import BUNDLED, StoredNetwork
from pipeline.encoders.frames import FramesEncoder
from pipeline.media.write import write_video

NAMES = {"action": Vocabulary(("left", "right"))}
COMMAND = """
import sys
from pipeline.cli import main
code = main(sys.argv[2:])
print(*[name for name in sys.argv[1].split(",") if name in sys.modules])
sys.exit(code)
"""


def run(modules: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command and print which of these modules it has imported."""
    command = [sys.executable, "-c", COMMAND, modules, *map(str, arguments)]
    return subprocess.run(command, text=True, capture_output=True, timeout=300, check=False)


def described(folder: Path, kind: str = "frames") -> Path:
    """A model folder that has a description alone."""
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps({"format": 3, "architecture": {"encoder": {"kind": kind}}}))
    return folder


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gone.mp4"], "There is no file or folder of this name"),
        (["gone.mp4", "gone too.mp4"], "So are all 2 inputs of this command"),
        (["gone.mp4", "--tpo", "3"], "--tpo is no option of predict. Did you mean '--top'?"),
        (["clip.mp4", "--model", "no"], "'no' is no model"),
    ],
)
def test_a_mistake_is_refused_before_torch_is_imported_and_nothing_is_written(arguments, sentence, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    named = [tmp_path / one if one.endswith(".mp4") else one for one in arguments]
    model = [] if "--model" in arguments else ["--model", described(tmp_path / "model")]
    result = run("torch,cv2,av", "predict", *named, *model, "--out", tmp_path / "out")
    assert result.returncode in (2, 3) and sentence in result.stderr, result.stderr
    assert result.stdout.split() == [] and not (tmp_path / "out").exists()


def frames_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FramesEncoder:
    """A saved model of frames, whose CNN is in a cache of its own."""
    monkeypatch.setenv("UNREEL_CACHE", str(folder / "cache"))
    torch.manual_seed(0)
    architecture = Architecture(encoder=FramesSection(backbone=BUNDLED, size=32, project=8, grid=1))
    model = architecture.build(NAMES)
    save_model(folder / "model", Checkpoint(model, architecture, NAMES, None, {}))
    assert isinstance(model.encoder, FramesEncoder)
    architecture.build_feature_extractor(torch.device("cpu"), model.encoder.backbone)
    return model.encoder


def stored_encoder(folder: Path) -> FramesEncoder:
    """The encoder of a loaded model."""
    encoder = load_model(folder).model.encoder
    assert isinstance(encoder, FramesEncoder)
    return encoder


def test_a_model_is_loaded_without_timm_once_its_cnn_is_in_the_cache(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    encoder = frames_model(tmp_path, monkeypatch)
    folder = tmp_path / "model"
    loaded = stored_encoder(folder)
    assert isinstance(loaded.backbone.net, StoredNetwork)
    assert load_model(folder).fingerprint() == load_model(folder).fingerprint()
    saved = encoder.state_dict()
    assert saved.keys() == loaded.state_dict().keys()
    assert all(torch.equal(saved[name], value) for name, value in loaded.state_dict().items())
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    with torch.inference_mode():  # torch runs it after all
        features = loaded.backbone(torch.from_numpy(pixels))
        assert torch.equal(features, encoder.eval().backbone(torch.from_numpy(pixels)))

    description = json.loads((folder / "model.json").read_text())
    description["cnn"]["std"] = [1.0]
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(ModelError, match="model.json' is damaged: cnn is .*, and it has num_features, mean and std"):
        load_model(folder)
    del description["cnn"]  # as an earlier version wrote it
    (folder / "model.json").write_text(json.dumps(description))
    assert not isinstance(stored_encoder(folder).backbone.net, StoredNetwork)
    assert all(torch.equal(saved[name], value) for name, value in stored_encoder(folder).state_dict().items())


@pytest.mark.slow
def test_a_warm_command_imports_no_library_that_it_does_not_need(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    frames_model(tmp_path, monkeypatch)
    frames = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    write_video(tmp_path / "clip.mp4", frames, fps=4)
    modules = "timm,torch._dynamo,torch._inductor,torchvision,pandas,pyarrow,transformers,wandb,sympy,av,cv2"
    options = ["--model", tmp_path / "model", "--out", tmp_path / "out", "--format", "jsonl"]
    result = run(modules, "predict", tmp_path / "clip.mp4", *options)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []
    assert json.loads((tmp_path / "out/predictions.jsonl").read_text())["status"] == "ok"
