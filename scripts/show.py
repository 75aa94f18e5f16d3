"""The list of promises: name, what is measured, the bar, and the function that measures it.

`make show` prints the list. `make show P=name DATA=folder` measures one promise from the beginning, prints the result
last, and exits with 0 only if the bar holds.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent / "proofs"))
from run_promise import Asked, run_promise


class Promise(NamedTuple):
    """One promise.

    where: module:function in scripts/proofs. It is called with (data, seeds) and returns (result, whether the bar
    holds). The latter is None where the result is only reported. seeds: how many seeds it takes by default, as many as
    the table of docs/results.md has; None where it cannot use seeds.
    """

    name: str
    promise: str
    bar: str
    where: str
    seeds: int | None = None


PROMISES = [
    Promise(
        "fresh-clone",
        "in a fresh clone without an environment: make demo and make test",
        "both pass",
        "fresh_clone:fresh_clone",
    ),
    Promise(
        "house",
        "the repository keeps the rules of its house: sizes, layout, docstrings, no names of the previous version",
        "no violation",
        "house:house",
    ),
    Promise(
        "same-numbers",
        "the numbers of version 0.1 and of this version: trainings, predictions and metrics",
        "bit-equal",
        "same_numbers:same_numbers",
        seeds=1,
    ),
    Promise(
        "api",
        "the Python blocks of README and docs, on a trained model; the time of `import unreel`",
        "all blocks run; import <= 4x python -c pass",
        "api:api_promise",
    ),
    Promise(
        "readme",
        "the README and its commands, as written, in order, in a fresh clone",
        "<= 200 lines, every command runs",
        "readme:readme",
    ),
    Promise(
        "strangers",
        "readers without knowledge of the project answer ten questions about it from its pages",
        "9 of 10 right",
        "strangers:strangers",
    ),
    Promise(
        "demo-time",
        "the demo of version 0.1 and of this version, twice in turn",
        "CPU seconds <= 1.10 times",
        "demo_time:demo_time",
    ),
    Promise(
        "yoga6",
        "yoga6, 4 folds by person: GRU beside mean pooling",
        "accuracy >= 0.97, one seed < 3 min",
        "recognition:yoga6",
        seeds=5,
    ),
    Promise(
        "real-order",
        "yoga6 forwards and backwards, 12 labels: GRU beside mean pooling",
        "GRU >= 0.75, mean pooling <= 0.50",
        "recognition:real_order",
        seeds=1,
    ),
    Promise(
        "ucf101",
        "stored features of UCF101, official split 1",
        "GRU >= 0.94",
        "recognition:ucf101",
        seeds=3,
    ),
    Promise(
        "puppets-order",
        "puppets full, unseen actors: accuracy within the pairs of actions that differ in their order",
        "GRU, LSTM >= 0.95, mean pooling <= 0.60",
        "recognition:puppets_order",
        seeds=1,
    ),
    Promise(
        "own-folder",
        "unreel train FOLDER on a folder of class folders, one command",
        "< 90 s, and the model predicts",
        "recognition:own_folder",
    ),
    Promise(
        "splits",
        "the preparation of UCF101 and HMDB51 by the official lists; a random split is refused",
        "every video is in the split of the list",
        "official_splits:splits",
    ),
    Promise(
        "finetune",
        "a fine-tuned last block beside frozen features; stored features and pixels give the same where all is frozen",
        "difference of the two ways < 1e-4",
        "recognition:finetune",
    ),
    Promise(
        "resume",
        "SIGKILL in the middle of an epoch and resume; two processes with torchrun",
        "bit-equal; replicas equal, loss within 1e-4",
        "resume_and_wandb:resume",
        seeds=1,
    ),
    Promise(
        "wandb",
        "a real offline W&B run, read from its binary file",
        "config redacted, each step once, final metrics",
        "resume_and_wandb:wandb_offline",
    ),
    Promise(
        "folder",
        "unreel predict on a folder of real clips and broken files",
        "one row for each file, exit code 1, no traceback, equal formats",
        "folder_job:folder",
    ),
    Promise(
        "timeline",
        "long puppets videos, unseen actors: a CRF on the core, offline and with one second of lag",
        "F1@50 >= 0.90 offline, >= 0.80 with 1 s of lag",
        "timelines:timeline",
        seeds=1,
    ),
    Promise(
        "timeline-real",
        "yoga6 clips of one held-out person, concatenated",
        "F1@50 >= 0.80, and above argmax without CRF",
        "timelines:timeline_real",
        seeds=1,
    ),
    Promise(
        "unknown",
        "yoga6, held-out persons, each class left out of training in turn; calibration",
        "macro mean AUROC >= 0.80",
        "unknown_classes:unknown",
        seeds=1,
    ),
    Promise(
        "crf",
        "the CRF beside brute force and pytorch-crf",
        "equal within 1e-6; at most 1.1x the time",
        "crf_oracle:crf",
        seeds=1,
    ),
    Promise(
        "pose",
        "tennis_pose, one match left out at a time: GRU beside ridge regression",
        "mean accuracy >= 0.85, above ridge",
        "tennis_pose:pose",
        seeds=1,
    ),
    Promise(
        "writers",
        "SRT, WebVTT, ELAN and ActivityNet files of one run, read by independent parsers",
        "equal times to the millisecond, equal texts",
        "writer_formats:writers",
    ),
    Promise(
        "core-contract",
        "every cell, number of layers and direction: windows, steps, padding, torch.nn, another process",
        "differences <= 1e-5, padding has no effect, bit-equal across processes",
        "core_contract:core_contract",
        seeds=1,
    ),
    Promise(
        "dropout-cost",
        "the time of a training step with recurrent dropout beside the fused layer without it",
        "<= 1.3 times torch.nn",
        "core_contract:dropout_cost",
        seeds=1,
    ),
    Promise(
        "probes",
        "adding problem, copy memory, digits row by row, ablations, gradients through time",
        "adding problem, T=100: GRU and LSTM MSE <= 0.01",
        "recurrent_probes:probes",
        seeds=1,
    ),
    Promise(
        "forecast",
        "ETTh1 96 -> 96, usual split; long puppets videos: the action 0.25 to 2 seconds ahead",
        "MSE <= 0.40",
        "forecasts:forecast",
        seeds=2,
    ),
    Promise(
        "stream",
        "watch beside predict on files: two heads, three chunk sizes, each CNN runtime",
        "equal events within the lag, and equal answers after every fifth look",
        "streams:stream",
    ),
    Promise(
        "memory",
        "watch on 3 hours of video at full speed; a network source that fails; kill -9 and restart",
        "memory constant within 20 MB, reconnected, equal events",
        "stream_memory:memory",
    ),
    Promise(
        "beam",
        "beam search beside all sentences, greedy search, and itself row by row; words from subwords",
        "all equal, one step call for each time step",
        "beam_oracle:beam",
        seeds=1,
    ),
    Promise(
        "captions",
        "captions of puppets, unseen actors: attention beside mean pooling, people, chance and shuffled frames",
        "headline: all actions, in order, none too many (reported); actions right in any order, and two or more in "
        "order, in >= 90 %; attention above mean pooling",
        "captioning:caption",
        seeds=1,
    ),
    Promise(
        "one-pass",
        "label, spans and captions of a video from one decoding and one run of the CNN",
        "both are counted; one row and one .vtt agree; rows and spans above 0",
        "captioning:one_pass",
    ),
    Promise(
        "msvd",
        "a language model of the captions of MSVD beside n-grams",
        "perplexity below that of the best n-gram",
        "text_tasks:msvd",
        seeds=1,
    ),
    Promise(
        "transcribe",
        "uncut sentences of asl_hands: word error rate with and without a language model",
        "reported; aim 0.60",
        "captioning:transcribe",
        seeds=1,
    ),
    Promise(
        "shakespeare",
        "tinyshakespeare, characters, the last tenth as one stream with carried state",
        "<= 1.47 nats, trained within 15 minutes",
        "text_tasks:shakespeare",
    ),
    Promise(
        "sentiment",
        "rt_polarity, 10 folds, beside tf-idf with logistic regression",
        "at least the latter; aim 0.79",
        "text_tasks:sentiment",
        seeds=1,
    ),
    Promise(
        "tags",
        "parts of speech of UD English ParTUT and entities of WNUT17, with and without a CRF",
        "ParTUT >= 0.94 per token",
        "text_tasks:tags",
        seeds=1,
    ),
    Promise(
        "translate",
        "multi30k, German to English",
        "BLEU >= 35 within 60 minutes of training",
        "text_tasks:translate",
    ),
    Promise(
        "gan-frames",
        "clips of puppets (32 x 32) and weizmann4 (64 x 64) from noise and a condition, scored by networks that were "
        "not used in training",
        "changes in time 60 % and 40 % of the way from noise to real, above the controls; class 0.8 and 0.6; 20 "
        "minutes each",
        "gan_frames:gan_frames",
        seeds=3,
    ),
    Promise(
        "gan-length",
        "clips four times longer than those of training",
        "motion energy of the last quarter 0.5 to 2 times that of the first, class >= 0.7",
        "gan_frames:gan_length",
    ),
    Promise(
        "image-to-video",
        "first frames of held-out actors from which several actions could follow, continued with a requested one",
        "content kept in >= 80 %; the requested action, drawn by lot, recognised in >= 50 % and more often than in "
        "frozen frames, also where it is not the one that really followed, and where it is",
        "gan_first_frames:image_to_video",
    ),
    Promise(
        "gan-core",
        "the cores of the generator, of the recurrent critic and of the recogniser",
        "instances of one class, built by one section",
        "gan_training:gan_core",
    ),
    Promise(
        "gan-resume",
        "a GAN killed in the middle of an epoch and resumed; two processes with torchrun",
        "bit-equal: both players, averages and norms; replicas equal",
        "gan_training:gan_resume",
        seeds=1,
    ),
    Promise(
        "gan-features",
        "class-conditional sequences of puppets and ucf101_vgg16 features: scores of probes, and use as augmentation",
        "both probes reject their controls and score the sequences 0.05 below noise on both sets; aim: better than "
        "noise and mixup on one",
        "gan_features:gan_features",
        seeds=3,
    ),
    Promise(
        "gan-tokens",
        "captions of puppets by Gumbel-softmax beside the maximum-likelihood language model at several temperatures",
        "reported",
        "gan_tokens:gan_tokens",
        seeds=1,
    ),
    Promise(
        "silent",
        "every verb with an empty home, under strace, and again in an empty network namespace",
        "no inet socket, no file outside run, cache, out; the same answers",
        "silent:silent",
    ),
    Promise(
        "no-leak",
        "ways to train on the test set: started runs, chains, copies, groups, resumed runs, evaluations",
        "all refused or named; honest trainings pass",
        "no_leak:no_leak",
    ),
    Promise(
        "any-cpu",
        "the numeric tests as the machine is, with AVX2 at most, and with SSE4.1 at most",
        "all pass; under 5 minutes a pass",
        "any_cpu:any_cpu",
    ),
    Promise(
        "cases",
        "small inputs as people have them (splits, copies, cut files, labels, lists, spans, links), by the verbs",
        "all right",
        "cases:cases",
    ),
    Promise(
        "first-hour",
        "42 plausible mistakes of a first hour, typed as people type them",
        "each: its exit code, a sentence with the value and what to do, no traceback, every file as it was",
        "first_hour:first_hour",
    ),
]


def main() -> int:
    """Print the list, or measure one promise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", help="the name of a promise")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the folder of the real data sets")
    parser.add_argument("--seeds", type=int, help="the number of seeds, instead of that of the table")
    parser.add_argument(
        "--toy", action="store_true", help="the same work on tiny data: it must run, and decides nothing"
    )
    options = parser.parse_args()
    asked = Asked(options.data.resolve(), options.seeds, options.toy)
    if not options.name:
        for promise in PROMISES:
            print(f"{promise.name:<14} {promise.promise}\n{'':<14} bar: {promise.bar}")
        return 0
    promises = {promise.name: promise for promise in PROMISES}
    if options.name not in promises:
        print(f"'{options.name}' is no promise. Use one of: {', '.join(promises)}.", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    os.environ.setdefault("WANDB_SILENT", "true")
    promise = promises[options.name]
    print(f"[{promise.name}] {promise.promise}; bar: {promise.bar}", flush=True)
    return run_promise(promise.name, promise.where, promise.seeds, asked)


if __name__ == "__main__":
    sys.exit(main())
