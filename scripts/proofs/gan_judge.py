"""Scores of generated clips by networks that took no part in their training: a frozen CNN, and a classifier of its
features.

In: real clips (a manifest and a clock) and generated clips. Out: scores on a scale from noise to real. It is not part
of the product.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import proof_tools
import torch

from pipeline.checkpoint import load_model
from pipeline.commands.prepare_data import read_rows, split_rows
from pipeline.data.dataset import DecodedFrames
from pipeline.data.manifest_rows import Row
from pipeline.encoders.backbone import Backbone
from pipeline.encoders.cnn_runtime import CnnRuntime, build_feature_extractor
from pipeline.inference.predictor import Predictor
from pipeline.metrics.generation import (
    Space,
    content_distance,
    copied_share,
    diversity_ratio,
    frechet_pooled,
    frechet_time,
    modes,
    nearest,
    share_of_the_way,
)
from pipeline.metrics.negative_controls import frozen, noise, shuffled, still_mean

CNN_SIZE = proof_tools.SIZE.pick(128, 64)  # pixels a side that the CNN sees; small clips are enlarged
RUNTIME: CnnRuntime = proof_tools.SIZE.pick("auto", "torch")
NOISE_CLIPS = 40
Clips = list[np.ndarray]
"""Each is uint8 (T, S, S, 3), or features (T, D)."""
Distance = Callable[[Clips, Clips, Space], float]


@dataclass(frozen=True)
class RealClips:
    """Windows of the real clips of one split: frames, class, actor, file, and the CNN's features of each frame."""

    frames: Clips
    labels: list[str]
    groups: list[str]
    paths: list[str]
    features: Clips

    def __len__(self) -> int:
        return len(self.frames)


class FrozenCnn:
    """A frozen CNN, pooled over grid x grid cells: clips (T, S, S, 3) -> features (T, 1280 grid grid)."""

    def __init__(self, grid: int = 1) -> None:
        self._extract = build_feature_extractor(Backbone(size=CNN_SIZE, grid=grid), RUNTIME, torch.device("cpu"))

    def __call__(self, clips: Sequence[np.ndarray]) -> Clips:
        """The features of each clip's frames."""
        frames = [cv2.resize(f, (CNN_SIZE, CNN_SIZE), interpolation=cv2.INTER_LINEAR) for clip in clips for f in clip]
        features = self._extract(np.stack(frames))
        return np.split(features, np.cumsum([len(clip) for clip in clips])[:-1])


class ClipEvaluator:
    """Real clips as a config's generator sees them, and a classifier that is trained on them alone.

    max_clips: the most test windows. classifier: more settings of the classifier. grid: of the CNN.
    """

    def __init__(
        self,
        work: Path,
        config: str,
        settings: Sequence[str],
        max_clips: int,
        classifier: Sequence[str] = (),
        grid: int = 1,
    ) -> None:
        loaded = proof_tools.load_proof_config(config, settings)
        self.work, self.window, self.rate = work, loaded.data.window or 16, loaded.clock.rate
        manifest = split_rows(loaded, read_rows(loaded, lambda text: None), lambda text: None)
        section = loaded.encoder
        assert section.kind == "frames"
        source = DecodedFrames(manifest.root, loaded.clock.build(), section.transform(), section.decoder)
        self.cnn = FrozenCnn(grid)
        rows = {split: [r for r in manifest.rows if r.split == split] for split in ("train", "test")}
        self.train = self._windows(source, rows["train"], None)
        self.test = self._windows(source, rows["test"], max_clips)
        self.names = sorted(set(self.train.labels))
        self.space = Space.fit([*self.test.features, *self.train.features[: len(self.test)]])
        self.accuracy = self._train_classifier(list(classifier))
        self._bounds: dict[Distance, tuple[float, float]] = {}

    def _windows(self, source: DecodedFrames, rows: Sequence[Row], max_clips: int | None) -> RealClips:
        """Windows of `window` looks, half overlapping in longer clips, of all rows, or at most so many evenly over the
        rows.
        """
        frames: Clips = []
        labels, groups, paths = [], [], []
        rows = rows[:: max(1, len(rows) // max_clips) if max_clips else 1]
        with ThreadPoolExecutor(2) as pool:
            decoded = list(pool.map(lambda row: source.read(row, 0, source.length(row))[0].numpy(), rows))
        for row, whole in zip(rows, decoded, strict=True):
            for start in range(0, max(1, len(whole) - self.window + 1), max(1, self.window // 2)):
                frames.append(whole[start : start + self.window])
                labels.append(row.label or "")
                groups.append(row.group or "")
                paths.append(row.path)
        order = np.random.default_rng(0).permutation(len(frames))[:max_clips]
        frames, labels, groups, paths = ([values[i] for i in order] for values in (frames, labels, groups, paths))
        return RealClips(frames, labels, groups, paths, self.cnn(frames))

    def _train_classifier(self, settings: list[str]) -> float:
        """Train a classifier of the CNN's features with the product's command. Returns its accuracy on test windows."""
        folder = self.work / "judge"
        (folder / "series").mkdir(parents=True)
        lines = []
        for split, real in (("train", self.train), ("test", self.test)):
            for number, (features, label) in enumerate(zip(real.features, real.labels, strict=True)):
                path = f"series/{split}{number:05d}.npy"
                np.save(folder / path, features.astype(np.float16))
                lines.append(json.dumps({"path": path, "label": label, "split": split}))
        (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
        common = [
            f"data.path={folder}/manifest.jsonl",
            f"clock.rate={self.rate}",
            f"run={folder}/run",
            "evaluation.baselines=false",
            "evaluation.order_controls=false",
            "data.window=null",
            "training.seed=77",
        ]
        (report,) = proof_tools.train_all("ucf101_vgg16/action.yaml", [[*common, *settings]])
        self._predictor = Predictor(load_model(folder / "run"), torch.device("cpu"))
        return float(proof_tools.report_row(report)["accuracy"])

    def classify(self, features: Sequence[np.ndarray]) -> list[str]:
        """The class of each clip, from the CNN's features (T, D)."""
        labels = []
        for clip in features:
            predictions = self._predictor.predict_sequence("series", clip.astype(np.float32))
            labels.append(predictions["action"].label)  # type: ignore[attr-defined]
        return labels

    def scores(
        self, clips: Sequence[np.ndarray], labels: Sequence[str], features: Clips | None = None
    ) -> dict[str, float]:
        """Scores of as many generated clips as there are real test clips.

        time, pooled: shares of the way from noise (0) to real (1). class: share in which the classifier finds the
        label. copied: see `copied_share`. nearest, diversity, content: the distance to the nearest training clip, the
        diversity, and the average content distance, each divided by that of real test clips. modes: effective number of
        classes.
        """
        features = self.cnn(clips) if features is None else features
        test, project = self.test, self.space.features
        classes = self.classify(features)
        indices = [self.names.index(name) for name in classes]
        return {
            "time": self._share(frechet_time, features),
            "pooled": self._share(frechet_pooled, features),
            "class": float(np.mean([a == b for a, b in zip(classes, labels, strict=True)])),
            "nearest": self._nearest(features) / self._nearest(test.features),
            "copied": copied_share(project(features), project(self.train.features), project(test.features)),
            "diversity": diversity_ratio(features, test.features),
            "modes": float(modes(indices, len(self.names))["effective"]),
            "content": content_distance(features) / content_distance(test.features),
        }

    def _nearest(self, features: Clips) -> float:
        """The mean distance of clips to the nearest training window."""
        train = self.space.features(self.train.features)
        return float(nearest(self.space.features(features), train).mean())

    def _share(self, distance: Distance, features: Clips) -> float:
        """The share of the way from noise to real by a distance."""
        test = self.test.features
        if not self._bounds:
            other, garbage = self.train.features[: len(test)], self._noise_features()
            for one in (frechet_time, frechet_pooled):
                bounds = (one(test, other, self.space), one(test, garbage, self.space))
                self._bounds[one] = proof_tools.SIZE.pick(bounds, (0.0, 1.0))  # few clips do not tell noise from real
        return share_of_the_way(distance(test, features, self.space), *self._bounds[distance])

    def _noise_features(self) -> Clips:
        """The CNN's features of clips of noise."""
        frames = self.train.frames[:NOISE_CLIPS]
        pixels = noise([f.reshape(len(f), -1).astype(np.float64) for f in frames], np.random.default_rng(0))
        side = frames[0].shape[1]
        return self.cnn([p.reshape(len(p), side, side, 3).clip(0, 255).astype(np.uint8) for p in pixels])

    def controls(self) -> dict[str, dict[str, float]]:
        """The scores of negative controls, from real training clips of other persons."""
        count, random = len(self.test), np.random.default_rng(0)
        labels = self.train.labels[:count]
        features, frames = self.train.features[:count], self.train.frames[:count]
        pixels = still_mean([f.reshape(len(f), -1).astype(np.float64) for f in frames])
        side = frames[0].shape[1]
        still = self.cnn([p.reshape(len(p), side, side, 3).round().astype(np.uint8) for p in pixels])
        controls = {
            "real clips of other persons (training)": features,
            "one real frame, frozen": frozen(features, random),
            "a still mean": still,
            "real clips, time shuffled": shuffled(features, random),
        }
        return {name: self.scores([], labels[: len(clips)], list(clips)) for name, clips in controls.items()}
