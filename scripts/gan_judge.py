"""Judges of made clips who took no part in making them: a frozen CNN's features, and a classifier trained on real clips of the same size.

In: real clips (a manifest and a clock) and made ones. Out: scores between real against real and noise against real. Not part of the product.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import proof
import torch

from pipeline.checkpoint import load_model
from pipeline.config import load_config
from pipeline.data.dataset import DecodedFrames
from pipeline.data.manifest import Row
from pipeline.encoders.backbone import Backbone
from pipeline.encoders.runtime import build_look
from pipeline.inference.predictor import Predictor
from pipeline.metrics.controls import frozen, noise, shuffled, still_mean
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
from pipeline.prepare import read_rows, split_rows

SIZE = 128  # pixels a side that the CNN sees: small clips are made larger for it
Clips = list[np.ndarray]
"""Each uint8 (T, S, S, 3), or features (T, D)."""


@dataclass(frozen=True)
class Real:
    """Windows of real clips of one part: frames, class, who acts, of which file, and what the CNN says of each frame."""

    frames: Clips
    labels: list[str]
    groups: list[str]
    paths: list[str]
    looks: Clips

    def __len__(self) -> int:
        return len(self.frames)


class Eye:
    """A frozen CNN, pooled over grid x grid cells: (T, S, S, 3) -> (T, 1280 grid grid)."""

    def __init__(self, grid: int = 1) -> None:
        self._look = build_look(Backbone(size=SIZE, grid=grid), "auto", torch.device("cpu"))

    def __call__(self, clips: Sequence[np.ndarray]) -> Clips:
        """The features of each clip's frames."""
        frames = [cv2.resize(f, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR) for clip in clips for f in clip]
        found = self._look(np.stack(frames))
        return np.split(found, np.cumsum([len(clip) for clip in clips])[:-1])


class Judge:
    """Real clips of a config's data as its generator sees them, and the classifier, trained on them alone."""

    def __init__(
        self, work: Path, config: str, settings: Sequence[str], most: int, classifier: Sequence[str] = (), grid: int = 1
    ) -> None:
        loaded = load_config(proof.REPOSITORY / "configs" / config, settings)
        self.work, self.window, self.rate = work, loaded.data.window or 16, loaded.clock.rate
        manifest = split_rows(loaded, read_rows(loaded, lambda text: None), lambda text: None)
        section = loaded.encoder
        assert section.kind == "frames"
        source = DecodedFrames(manifest.root, loaded.clock.build(), section.transform(), section.decoder)
        self.eye = Eye(grid)
        rows = {part: [r for r in manifest.rows if r.split == part] for part in ("train", "test")}
        self.parts = {
            "train": self._windows(source, rows["train"], None),
            "test": self._windows(source, rows["test"], most),
        }
        self.names = sorted(set(self.parts["train"].labels))
        count = len(self.parts["test"])
        self.space = Space.fit([*self.parts["test"].looks, *self.parts["train"].looks[:count]])
        self.accuracy = self._teach(list(classifier))

    def _windows(self, source: DecodedFrames, rows: Sequence[Row], most: int | None) -> Real:
        """Windows of `window` looks, half overlapping where a clip is longer, of all rows, or at most so many, evenly over the rows."""
        frames: Clips = []
        labels, groups, paths = [], [], []
        rows = rows[:: max(1, len(rows) // most) if most else 1]
        with ThreadPoolExecutor(2) as pool:
            decoded = list(pool.map(lambda row: source.read(row, 0, source.length(row))[0].numpy(), rows))
        for row, whole in zip(rows, decoded, strict=True):
            for start in range(0, max(1, len(whole) - self.window + 1), max(1, self.window // 2)):
                frames.append(whole[start : start + self.window])
                labels.append(row.label or "")
                groups.append(row.group or "")
                paths.append(row.path)
        order = np.random.default_rng(0).permutation(len(frames))[:most]
        frames, labels, groups, paths = ([values[i] for i in order] for values in (frames, labels, groups, paths))
        return Real(frames, labels, groups, paths, self.eye(frames))

    def _teach(self, settings: list[str]) -> float:
        """Train a classifier of the CNN's features by the product's own command; its accuracy on real test windows."""
        folder = self.work / "judge"
        (folder / "series").mkdir(parents=True)
        lines = []
        for part, real in self.parts.items():
            for number, (looks, label) in enumerate(zip(real.looks, real.labels, strict=True)):
                path = f"series/{part}{number:05d}.npy"
                np.save(folder / path, looks.astype(np.float16))
                lines.append(json.dumps({"path": path, "label": label, "split": part}))
        (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
        (found,) = proof.train_all(
            "ucf101_vgg16/action.yaml",
            [[f"data.path={folder}/manifest.jsonl", f"clock.rate={self.rate}", f"run={folder}/run", "evaluation.baselines=false",
              "evaluation.orders=false", "data.window=null", "training.seed=77", *settings]],
        )  # fmt: skip
        self._predictor = Predictor(load_model(folder / "run"), torch.device("cpu"))
        return float(proof.pick(found)["accuracy"])

    def says(self, looks: Sequence[np.ndarray]) -> list[str]:
        """The class of each clip."""
        found = []
        for one in looks:
            predictions, _ = self._predictor._fold("series", iter([one.astype(np.float32)]))
            found.append(predictions["action"].label)  # type: ignore[attr-defined]
        return found

    def scores(self, made: Sequence[np.ndarray], wished: Sequence[str], looks: Clips | None = None) -> dict[str, float]:
        """Of as many made clips as there are real test ones: every score as a share of the way from noise (0) to real (1), but
        class (share that the classifier finds as wished), copied (see `copied_share`), nearest (distance to the nearest training clip, by that of real test
        clips), diversity (by real's), modes (classes found) and content (how much the look of a clip wanders, by real's).
        """
        looks = self.eye(made) if looks is None else looks
        test, features = self.parts["test"], self.space.features
        said = self.says(looks)
        numbers = [self.names.index(s) for s in said]
        return {
            "time": self._way(frechet_time, looks),
            "pooled": self._way(frechet_pooled, looks),
            "class": float(np.mean([a == b for a, b in zip(said, wished, strict=True)])),
            "nearest": self._nearest(looks) / self._nearest(test.looks),
            "copied": copied_share(features(looks), features(self.parts["train"].looks), features(test.looks)),
            "diversity": diversity_ratio(looks, test.looks),
            "modes": float(modes(numbers, len(self.names))["effective"]),
            "content": content_distance(looks) / content_distance(test.looks),
        }

    def _nearest(self, looks: Clips) -> float:
        """The mean distance of clips to the nearest of all training windows."""
        known = self.space.features(self.parts["train"].looks)
        return float(nearest(self.space.features(looks), known).mean())

    def _way(self, distance: Any, looks: Clips) -> float:
        test = self.parts["test"].looks
        other = self.parts["train"].looks[: len(test)]
        if not hasattr(self, "_bounds"):
            garbage = noise(
                [f.reshape(len(f), -1).astype(np.float64) for f in self.parts["train"].frames[:40]],
                np.random.default_rng(0),
            )
            side = self.parts["train"].frames[0].shape[1]
            frames = [g.reshape(len(g), side, side, 3).clip(0, 255).astype(np.uint8) for g in garbage]
            self._garbage = self.eye(frames)
            self._bounds = {
                d.__name__: (d(test, other, self.space), d(test, self._garbage, self.space))
                for d in (frechet_time, frechet_pooled)
            }
        floor, ceiling = self._bounds[distance.__name__]
        return share_of_the_way(distance(test, looks, self.space), floor, ceiling)

    def controls(self) -> dict[str, dict[str, float]]:
        """The scores of what a weak score takes for good: made from real training clips of other persons."""
        train, random = self.parts["train"], np.random.default_rng(0)
        count = len(self.parts["test"])
        labels = train.labels[:count]
        looks = train.looks[:count]
        pictures = still_mean([f.reshape(len(f), -1).astype(np.float64) for f in train.frames[:count]])
        side = train.frames[0].shape[1]
        still = self.eye([p.reshape(len(p), side, side, 3).round().astype(np.uint8) for p in pictures])
        made = {
            "real clips of other persons (training)": looks,
            "one real frame, frozen": frozen(looks, random),
            "a still mean": still,
            "real clips, time shuffled": shuffled(looks, random),
        }
        return {name: self.scores([], labels[: len(clips)], list(clips)) for name, clips in made.items()}
