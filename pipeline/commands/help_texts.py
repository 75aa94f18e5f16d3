"""What the verbs do, in words and examples, for `unreel VERB -h`.

In: nothing. Out: texts. Knows nothing of the arguments.
"""

EPILOG = """\
a first run:
  unreel train videos/                      one folder per class; prints the settings it chose
  unreel predict clips/ --model runs/videos --out answers/
settings are key=value after the config, such as core.cell=lstm; `unreel config` lists them all.
"""
HELP = {
    "train": (
        "Train a model. A folder with one folder of videos for each class, or a manifest, needs no config: settings "
        "are chosen and printed. The same command goes on with an interrupted training.",
        """\
  unreel train videos/                                    a folder of class folders; the run lies in runs/videos
  unreel train videos/ core.cell=lstm training.epochs=40  with settings; `unreel config` lists them all
  unreel train configs/puppets/action.yaml training.seed=1
""",
    ),
    "evaluate": (
        "Measure the model of a finished run again, on its own test split or on other data. The table lies in "
        "RUN/evaluation.",
        """\
  unreel evaluate runs/videos
  unreel evaluate runs/videos data.path=other/manifest.csv
""",
    ),
    "predict": (
        "Answer for files, folders, globs and lists of videos with a trained model. Each input gets one row, also a "
        "broken one: its row says what is wrong. The same command goes on with an interrupted job, and does only what "
        "is new, changed or not done yet.",
        """\
  unreel predict clips/ --model runs/videos --out answers/
  unreel predict a.mp4 'more/**/*.avi' @list.txt --model runs/videos --out answers/ --format csv
  unreel predict clips/ --model runs/videos --out answers/ --shard 0/4    one of four jobs with one --out
  unreel predict clips/ --model runs/videos --out answers/ --dry-run      what would be done
""",
    ),
    "status": (
        "Say how far a `predict` job is: counts, speed, time left, failures by reason, inputs without a result. It "
        "only reads, also while the job runs.",
        """\
  unreel status answers/
""",
    ),
    "verify": (
        "Check that every input of a `predict` job has exactly one row, that no row is damaged and that the files hold "
        "the rows. The exit code is 1 where something is wrong.",
        """\
  unreel verify answers/
  unreel verify answers/ --sample 5%     also answer again for some inputs, and compare
""",
    ),
    "merge": (
        "Write the files of a `predict` job from its ledger: of a job in parts (--shard), of an interrupted one, or in "
        "other formats. The exit code is 1 where inputs have failed or have no result yet.",
        """\
  unreel merge answers/
  unreel merge answers/ --format parquet srt
""",
    ),
    "extract": (
        "Compute the features of all videos of a config, a manifest or a folder, and store them, so that every later "
        "training starts at once.",
        """\
  unreel extract videos/
  unreel extract configs/puppets/action.yaml encoder.size=160
  unreel extract videos/ --out features/          also a file of features for each video, by its name
""",
    ),
    "check": (
        "Find what is wrong with a dataset before you train on it. The exit code is 1 where something is found.",
        """\
  unreel check videos/
  unreel check videos/manifest.csv --contents
""",
    ),
    "config": (
        "List every setting with its type, default and meaning; or print a config, with its defaults written out.",
        """\
  unreel config
  unreel config videos/ core.cell=lstm > mine.yaml
""",
    ),
}
"""What a verb does, and examples."""
WATCH = """\
One JSON object per line on standard output, times in seconds since the first frame:
  opened         the source is open; is_live says whether it is a camera or a live address
  start, update, end      an action starts, continues, ends: head, label, start, end, score
  probabilities  the best classes of each look, with --probabilities
  answer         the answer for the whole source, at its end, as `unreel predict` gives it
  reconnect, dropped      the decoder was started again; looks were left out
  closed         always the last event: status, seconds, looks, dropped, reconnects, latency_ms
Files, recordings behind an address and pipes wait for the model, so no look is left out. Cameras and live addresses
do not wait: when the model is slower, the oldest waiting looks (of 16 at most) are dropped, counted and reported.
After a signal the open actions end with "interrupted": true, and --state continues from there. After kill -9 the
events since the last saved state (3 s) are repeated.
examples:
  unreel watch match.mp4 --model runs/x --overlay overlay.mp4
  unreel watch rtsp://camera/1 --model runs/x --state camera1.state >> events.jsonl
  arecorder | unreel watch - --model runs/x             (MPEG-TS, Matroska, Y4M)
  program | unreel watch - --size 320x240 --fps 25 --model runs/x     (raw rgb24, top row first)
"""
GENERATE = """\
examples:
  unreel generate --model runs/clips --label walk_left --count 8 --out made/        8 clips of a class, and a sheet
  unreel generate --model runs/clips --length 64 --out made/                        longer than in training
  unreel generate --model runs/clips --count 8 --towards 7 --out made/              from one clip to another
  unreel generate --model runs/text --prompt "ROMEO:"                               continue a text
"""
