"""The promises, one list: name, promise, bar, and the function that proves it.

`make show` prints the list; `make show P=name DATA=folder` does the real work afresh, prints the figure last and exits 0
only if the bar holds.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))


class Promise(NamedTuple):
    """where: module:function under scripts/, called with (data, seeds), returns (figure, whether the bar holds); None where
    the promise is to report.
    """

    name: str
    promise: str
    bar: str
    where: str


PROMISES = [
    Promise(
        "fresh-clone",
        "from a fresh clone with no environment: make demo and make test",
        "both pass",
        "show_fresh:fresh_clone",
    ),
    Promise(
        "yoga6",
        "yoga6, 4 folds by person, GRU beside mean-pool",
        "accuracy >= 0.97, one seed < 3 min",
        "show_recognise:yoga6",
    ),
    Promise(
        "real-order",
        "yoga6 forwards and backwards, 12 labels",
        "GRU >= 0.75, mean-pool <= 0.50",
        "show_recognise:real_order",
    ),
    Promise("ucf101", "stored UCF101 features, official split 1", "GRU >= 0.94", "show_recognise:ucf101"),
    Promise(
        "puppets-order",
        "puppets full, unseen actors, within the pairs",
        "GRU, LSTM >= 0.95, mean-pool <= 0.60",
        "show_recognise:puppets_order",
    ),
    Promise(
        "own-folder",
        "unreel train FOLDER on class folders, one command",
        "< 90 s, and it predicts",
        "show_recognise:own_folder",
    ),
    Promise(
        "splits",
        "UCF101 and HMDB51 preparers on the official lists; a random split is refused",
        "every video where the list says",
        "show_splits:splits",
    ),
    Promise(
        "finetune",
        "last block fine-tuned against frozen features; both roads equal when frozen",
        "roads differ < 1e-4",
        "show_recognise:finetune",
    ),
    Promise(
        "resume",
        "SIGKILL in mid-epoch and resume; two processes under torchrun",
        "bit-equal; replicas equal, loss within 1e-4",
        "show_training:resume",
    ),
    Promise(
        "wandb",
        "a real offline W&B run, parsed from its binary file",
        "config redacted, each step once, final metrics",
        "show_training:wandb_offline",
    ),
    Promise(
        "folder",
        "unreel predict on real clips and broken files",
        "a row each, exit 1, no traceback, formats agree",
        "show_folder:folder",
    ),
    Promise(
        "timeline",
        "puppets long videos, unseen actors: a CRF on the core, offline and a second behind",
        "F1@50 >= 0.90 offline, >= 0.80 at 1 s of lag",
        "show_timeline:timeline",
    ),
    Promise(
        "timeline-real",
        "yoga6 clips of one held-out person joined end to end",
        "F1@50 >= 0.80 and above argmax without CRF",
        "show_timeline:timeline_real",
    ),
    Promise(
        "unknown",
        "yoga6, each class left out in turn, held-out persons; calibration",
        "macro mean AUROC >= 0.80",
        "show_unknown:unknown",
    ),
    Promise(
        "crf",
        "the CRF against brute force and pytorch-crf",
        "equal, within 1e-6; at most 1.1x the time",
        "show_crf:crf",
    ),
    Promise(
        "pose",
        "tennis_pose, one match left out at a time, GRU beside a ridge",
        "mean accuracy >= 0.85, above the ridge",
        "show_pose:pose",
    ),
    Promise(
        "writers",
        "SRT, WebVTT, ELAN and ActivityNet files of one run, read back by independent parsers",
        "the same times to the millisecond, the same texts",
        "show_writers:writers",
    ),
    Promise(
        "core-contract",
        "every cell x layers x direction: windows, steps, padding, torch.nn, another process",
        "differences <= 1e-5, padding inert, bit-equal across processes",
        "show_core:core_contract",
    ),
    Promise(
        "dropout-cost",
        "a training step with dropout on h_(t-1) beside the bare fused layer",
        "<= 1.3 times torch.nn",
        "show_core:dropout_cost",
    ),
    Promise(
        "probes",
        "adding problem, copy memory, digits row by row, ablations, gradients through time",
        "adding T=100: GRU and LSTM MSE <= 0.01",
        "show_probes:probes",
    ),
    Promise(
        "forecast",
        "ETTh1 96 -> 96, usual split; puppets long: what comes in 0.25 to 2 seconds",
        "MSE <= 0.40",
        "show_forecast:forecast",
    ),
    Promise(
        "stream",
        "watch against predict on files, two heads, three chunkings, each CNN runtime",
        "events equal within the lag",
        "show_stream:stream",
    ),
    Promise(
        "memory",
        "watch for 3 hours of video at full speed; a network source that dies; kill -9 and restart",
        "flat within 20 MB, back, equal events",
        "show_stream:memory",
    ),
    Promise(
        "beam",
        "beam search against every sentence there is, greedy search, itself row by row; words that are read twice",
        "all equal, one step call a time step",
        "show_beam:beam",
    ),
    Promise(
        "captions",
        "puppets, unseen actors, in words: attention beside mean-pool, people, chance and shuffled frames",
        "actions and their order right in >= 90 %, attention above mean-pool",
        "show_captions:caption",
    ),
    Promise(
        "one-pass",
        "label, spans and captions of a video from one decode and one run of the CNN",
        "counted; one row and one .vtt agree",
        "show_captions:one_pass",
    ),
    Promise(
        "msvd",
        "a language model of MSVD's captions beside n-grams",
        "perplexity below the best n-gram's",
        "show_words:msvd",
    ),
    Promise(
        "transcribe",
        "asl_hands sentences, uncut: word error rate with and without a language model",
        "reported; aim 0.60",
        "show_captions:transcribe",
    ),
    Promise(
        "shakespeare",
        "tinyshakespeare, characters, the last tenth in one carried stream",
        "<= 1.47 nats, trained within 15 minutes",
        "show_words:shakespeare",
    ),
    Promise(
        "sentiment",
        "rt_polarity, 10 folds, beside tf-idf with logistic regression",
        "at least the latter; aim 0.79",
        "show_words:sentiment",
    ),
    Promise(
        "tags",
        "parts of speech of UD English ParTUT and entities of WNUT17, with a CRF and without",
        "ParTUT >= 0.94 a token",
        "show_words:tags",
    ),
    Promise(
        "translate",
        "multi30k, German to English",
        "BLEU >= 35 within 60 minutes of training",
        "show_words:translate",
    ),
    Promise(
        "gan-frames",
        "clips of puppets (32 x 32) and weizmann4 (64 x 64) from noise and a wish, judged by networks that took no part",
        "changes in time 60 % and 40 % of the way from noise to real, above the controls; class 0.8 and 0.6; 20 minutes each",
        "show_gan_frames:gan_frames",
    ),
    Promise(
        "gan-length",
        "clips four times longer than trained",
        "motion energy of the last quarter 0.5 to 2 times the first's, class >= 0.7",
        "show_gan_frames:gan_length",
    ),
    Promise(
        "image-to-video",
        "first frames of held-out actors, in which several actions could follow, go on with the one that is asked for",
        "content kept in >= 80 %, the asked action, one of those by lot, recognised in >= 50 %, and oftener than in frozen frames, as are another than really followed and what really followed",
        "show_gan_frames:image_to_video",
    ),
    Promise(
        "gan-core",
        "the generator's core, the recurrent critic's and the recogniser's",
        "instances of one class, made by one section",
        "show_gan:gan_core",
    ),
    Promise(
        "gan-resume",
        "a GAN killed in mid-epoch and resumed; two processes under torchrun",
        "bit-equal, both players, averages and norms; replicas equal",
        "show_gan:gan_resume",
    ),
    Promise(
        "gan-features",
        "class-conditional sequences of puppets and ucf101_vgg16 features: probes between their bounds; augmentation",
        "both probes reject their controls and put them 0.05 below noise on both sets; aim: beyond noise and mixup on one",
        "show_gan_features:gan_features",
    ),
    Promise(
        "gan-tokens",
        "captions of puppets by Gumbel-softmax beside the maximum-likelihood language model over a sweep of temperatures",
        "reported",
        "show_gan_tokens:gan_tokens",
    ),
]


def main() -> int:
    """Print the list, or prove one promise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", help="a promise")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the folder of real data sets")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds")
    options = parser.parse_args()
    if not options.name:
        for p in PROMISES:
            print(f"{p.name:<14} {p.promise}\n{'':<14} bar: {p.bar}")
        return 0
    found = [p for p in PROMISES if p.name == options.name]
    if not found:
        print(f"'{options.name}' is no promise. One of: {', '.join(p.name for p in PROMISES)}.", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    os.environ.setdefault("WANDB_SILENT", "true")
    module, function = found[0].where.split(":")
    print(f"[{found[0].name}] {found[0].promise}; bar: {found[0].bar}", flush=True)
    figure, holds = getattr(importlib.import_module(module), function)(options.data.resolve(), options.seeds)
    ending = "REPORTED" if holds is None else "HOLDS" if holds else "DOES NOT HOLD"
    print(f"\n[{found[0].name}] {figure}: {ending}")
    return 1 if holds is False else 0


if __name__ == "__main__":
    sys.exit(main())
