"""The list of promises: name, what is measured, the bar, and the function that measures it.

Here stand those of the product and the repository. Those of folder jobs are in `folder_promises.py`,
those about what models learn in `learning_promises.py`.
"""

from folder_promises import FOLDER_PROMISES
from learning_promises import LEARNING_PROMISES
from run_promise import Promise

PRODUCT_PROMISES = [
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
        "demo-time",
        "the demo of version 0.1 and of this version, twice in turn",
        "CPU seconds <= 1.10 times",
        "demo_time:demo_time",
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
        "one-pass",
        "label, spans and captions of a video from one decoding and one run of the CNN",
        "both are counted; one row and one .vtt agree; rows and spans above 0",
        "captioning:one_pass",
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
        "fake-cuda",
        "every head on a GPU that is not there: copies to it and reads from it in a training step and in an answer",
        "0 stray tensors; a step costs at most 3 copies and 0 reads, or has a budget of its own with the reason",
        "fake_cuda:fake_cuda_promise",
    ),
    Promise(
        "mutants",
        "single mutations of the code, each in a copy of the repository, against the tests named beside it",
        ">= 58 of 60 killed, at most 2 survive, none of the kinds that once survived; 90 minutes, resumable",
        "mutants:mutants",
    ),
    Promise(
        "cases",
        "small inputs as people have them (splits, copies, cut files, labels, lists, spans, links), by the verbs",
        "all right",
        "cases:cases",
    ),
    Promise(
        "first-hour",
        "42 plausible mistakes of a first hour, typed as people type them; own folder -> `unknown` -> verdict",
        "each: its exit code, a sentence, no traceback, every file as it was; all foreign videos unknown",
        "first_hour:first_hour",
    ),
]

PROMISES = [*PRODUCT_PROMISES, *FOLDER_PROMISES, *LEARNING_PROMISES]
