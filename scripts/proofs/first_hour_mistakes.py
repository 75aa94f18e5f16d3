"""Forty mistakes that people make in their first hour, as a table.

In: nothing. Out: for each mistake the command, its exit code and the words that its sentence must have. The files that
the commands name are made by `make_workplace`. It is not part of the product.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.media.write import write_video

CLASSES = ("left", "right")
SMALL = (
    "encoder.size=64 encoder.runtime=torch core.hidden=8 training.epochs=2 tracking.wandb=off "
    "evaluation.baselines=false"
)
"""Settings of a quick training."""


@dataclass(frozen=True)
class Mistake:
    """A command as typed behind `unreel`, the exit code that it must have, and the words that must be printed.

    stdin: the file that is sent through a pipe.
    """

    command: str
    code: int
    words: str
    stdin: str | None = None


MISTAKES: dict[str, Mistake] = {
    "folder misspelled": Mistake(
        "train vidoes/", 2, "There is no config, manifest or folder 'vidoes/'. Did you mean 'videos'?"
    ),
    "config misspelled": Mistake(
        "train smal.yaml", 2, "The config 'smal.yaml' does not exist. Did you mean 'small.yaml'?"
    ),
    "option for a setting": Mistake("train videos/ --epochs 3", 2, "stand after their section: training.epochs=3."),
    "option of another tool": Mistake("train videos/ --learning-rate=0.1", 2, "their section: training.lr=0.1."),
    "output as an option": Mistake("train videos/ --out runs/x", 2, "stand after their section: run=runs/x."),
    "option misspelled": Mistake("train videos/ --frsh", 2, "Did you mean '--fresh'?"),
    "setting without section": Mistake("train videos/ lr=0.1", 2, "Write it with its section: training.lr=0.1."),
    "setting in a wrong section": Mistake(
        "train videos/ core.lr=0.1", 2, "core.lr is not a setting. Write it with its"
    ),
    "setting misspelled": Mistake("train videos/ training.epoch=3", 2, "Did you mean 'epochs'?"),
    "setting without a value": Mistake("train videos/ epochs", 2, "'epochs' is no override. Write key=value"),
    "value of a wrong type": Mistake("train videos/ training.epochs=many", 2, "training.epochs = 'many'"),
    "value misspelled": Mistake(
        "train videos/ core.cell=lstn", 2, "core.cell = 'lstn' is not known. Did you mean 'lstm'?"
    ),
    "data given twice": Mistake(
        "train videos/ data.path=other", 2, "The data are given twice: 'videos/' and data.path=other."
    ),
    "run that is a file": Mistake("train videos/ run=afile", 2, "run = 'afile' is a file"),
    "finished run": Mistake(
        "train small.yaml run=runs/done", 2, "'runs/done' holds a finished run. Choose another folder"
    ),
    "start over with a mistake": Mistake(
        "train small.yaml run=runs/done data.path=gone.csv --fresh", 2, "'gone.csv' does not"
    ),
    "device that is not here": Mistake(
        "train videos/ training.device=cuda:7", 2, "The device 'cuda:7' is not here: torch finds"
    ),
    "one video": Mistake("train videos/left/0.mp4", 2, "'videos/left/0.mp4' is one video"),
    "spreadsheet": Mistake("train table.xlsx", 2, "a spreadsheet is saved as CSV"),
    "folder without videos": Mistake("train empty", 2, "No video is in"),
    "folders of frames": Mistake(
        "train frames", 2, "A clip that is a folder of frames is not read. Make a video of it: ffmpeg"
    ),
    "other headers": Mistake(
        "train headers.csv", 2, "has no column 'path'. The first line names the columns. Write path,label."
    ),
    "column misspelled": Mistake("train lable.csv", 2, "unknown column 'lable'."),
    "UTF-16 without a mark": Mistake("train wide.csv", 2, "Save it again as UTF-8."),
    "table that leaves its folder": Mistake(
        "train outside.csv", 2, "leaves its folder (..). A path is relative to the root"
    ),
    "video twice in a table": Mistake("train twice.csv", 2, "the path 'videos/left/0.mp4' is already in line 2."),
    "table without labels": Mistake(
        "train small.yaml data.path=unlabelled.csv", 2, "has no row with a label, and the head 'action'"
    ),
    "split misspelled": Mistake(
        "train splits.csv", 2, "split is 'valid'. Valid names are train, val, test. Did you mean 'val'?"
    ),
    "evaluate what is no run": Mistake("evaluate runs/dome", 2, "holds no config.yaml. Did you mean 'runs/done'?"),
    "model misspelled": Mistake(
        "predict videos --model runs/dome --out o", 3, "holds no model.json. Did you mean 'runs/done'?"
    ),
    "model that is a video": Mistake(
        "predict videos --model videos/left/0.mp4 --out o", 3, "is no model: it holds no model.json."
    ),
    "no model": Mistake("predict videos --out o", 2, "the following arguments are required: --model"),
    "output that is a file": Mistake("predict videos --model runs/done --out afile", 2, "--out 'afile' is a file"),
    "no such device": Mistake(
        "predict videos --model runs/done --out o --device cuda:7", 2, "The device 'cuda:7' is not here"
    ),
    "format misspelled": Mistake(
        "predict videos --model runs/done --out o --format cvs", 2, "invalid choice: 'cvs' (choose from"
    ),
    "format of times": Mistake("predict videos --model runs/done --out o --format srt", 2, "contains spans of time"),
    "picture": Mistake("predict picture.png --model runs/done --out o", 1, "The file is an image"),
    "animation": Mistake(
        "predict dance.gif --model runs/done --out o", 1, "If it is an animation, make a video of it (ffmpeg"
    ),
    "video misspelled": Mistake(
        "predict videos/lfet/0.mp4 --model runs/done --out o", 2, "Did you mean 'videos/left/0.mp4'?"
    ),
    "cut video": Mistake("predict cut.mp4 --model runs/done --out o", 1, "cut.mp4: failed:"),
    "MP4 through a pipe": Mistake(
        "watch - --model runs/done", 1, "A pipe cannot be read backwards, and most MP4", "videos/left/0.mp4"
    ),
    "verb misspelled": Mistake("trian videos/", 2, "invalid choice: 'trian' (choose from"),
}
"""By name. What a sentence must have is the value that was wrong, and what to do."""


def make_workplace(folder: Path) -> None:
    """The files that the commands name, but for the finished run runs/done."""
    for number, label in enumerate(CLASSES):
        for clip in range(6):
            path = folder / "videos" / label / f"{clip}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            frames = np.random.default_rng((number, clip)).integers(0, 255, (10, 64, 64, 3), dtype=np.uint8)
            write_video(path, frames, fps=10.0)
    (folder / "empty").mkdir()
    video = (folder / "videos/left/0.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(video[: len(video) // 3])
    for number in range(3):
        path = folder / "frames/left" / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(50))
    contents: dict[str, str | bytes] = {
        "afile": "precious",
        "picture.png": b"\x89PNG\r\n\x1a\n" + bytes(50),
        "dance.gif": b"GIF89a" + bytes(50),
        "table.xlsx": b"PK\x03\x04",
        "headers.csv": "file,class\nvideos/left/0.mp4,left\n",
        "lable.csv": "path,lable\nvideos/left/0.mp4,left\n",
        "wide.csv": "path,label\nvideos/left/0.mp4,left\n".encode("utf-16-le"),
        "outside.csv": "path,label\n../videos/left/0.mp4,left\n",
        "twice.csv": "path,label\nvideos/left/0.mp4,left\nvideos/left/0.mp4,right\n",
        "splits.csv": "path,split,label\nvideos/left/0.mp4,valid,left\n",
        "unlabelled.csv": "path\nvideos/left/0.mp4\n",
        "small.yaml": json.dumps({"data": {"path": "videos", "split": "random"}}),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
