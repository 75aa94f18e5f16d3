"""`unreel extract`: each feature is computed once, and written by name where that is asked."""

from __future__ import annotations

import json

import numpy as np
from commands import call


def test_extract_computes_each_feature_once(config_file, tmp_path, capsys):
    assert call("extract", config_file, f"data.feature_store={tmp_path / 'store'}") == 0
    first = capsys.readouterr().err
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "store").rglob("*.safetensors")}
    assert "features: 24 videos extracted" in first and len(files) == 24
    out = tmp_path / "named"
    assert call("extract", config_file, f"data.feature_store={tmp_path / 'store'}", "--out", out) == 0
    assert "features: 0 videos extracted (0 looks), 24 were stored before, 0 failed" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "store").rglob("*.safetensors")} == files
    lines = (config_file.parent / "puppets_tiny/clips.jsonl").read_text().splitlines()
    named = {str(path.relative_to(out).with_suffix("")): np.load(path) for path in out.rglob("*.npy")}
    videos = {line["path"].removesuffix(".mp4") for line in map(json.loads, lines)}
    assert set(named) == videos
    assert all(values.dtype == np.float16 and values.shape[1] == 1280 * 4 for values in named.values())
