"""The promises about folder jobs: speed, memory, and what happens when something fails."""

from run_promise import Promise

FOLDER_PROMISES = [
    Promise(
        "start",
        "the first row of `unreel predict` (28 looks, CNN in the cache) beside a process that imports torch, decodes"
        " and resizes, plus the CNN; refusals",
        "<= 1.5 times; nothing is imported without need; a missing input is refused before torch",
        "start:start",
    ),
    Promise(
        "throughput",
        "a folder job on 300 clips of 7 s beside its limit: decoding, CNN and core, each measured alone",
        ">= 0.90 of 1 / (decode + CNN + core), start excluded, median of three rounds",
        "folder_speed:throughput",
    ),
    Promise(
        "naive",
        "a folder job beside a naive loop: OpenCV, one batch a clip, eager timm in float32",
        ">= 2.4 times as fast without bf16, >= 10 times with it",
        "folder_speed:naive",
    ),
    Promise(
        "linear",
        "300 to 3,000 clips, and a video of 1 minute to 3 hours; a plan of 100,000 names; ten heads beside one",
        "a look of the largest costs <= 1.10 of the middle one's, memory <= +50 MB; plan < 20 s; ten heads < 1.2 times",
        "folder_scale:linear",
    ),
    Promise(
        "warm",
        "a second model on the stored features of 300 clips, beside the job that stored them",
        "no video is opened; >= 30 times as fast in float32, >= 8 times in bf16",
        "folder_scale:warm",
    ),
    Promise(
        "poison",
        "300 clips, 20 % of them bad, by decord and by PyAV with three workers stopped and two killed",
        "all good clips answered, in 1.3 times the good ones alone and three deadlines divided by the workers",
        "folder_failures:poison",
    ),
    Promise(
        "two-jobs",
        "a second job in the folder of a running one; SIGTERM to a job that is process 1 of its namespace",
        "exit 5 and nothing changed; ends within 5 s with finished work kept",
        "folder_failures:two_jobs",
    ),
    Promise(
        "kill",
        "a folder job, stopped at up to 100 calls that change a file, at 100 failures of the power, by a full disk and"
        " by 30 random SIGKILLs of parent and workers; then its command again",
        "every time byte-equal files and one row an input; at least 80 % of the jobs met their fault",
        "kill_job:kill",
    ),
]
