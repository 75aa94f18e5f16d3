"""Features for training: decode each video once, run the frozen CNN once, store the features.

In: videos and a feature store. Out: the filled store, and the videos that could not be read, with their reasons. Knows
nothing of labels or training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.data.feature_store import FeatureStore
from pipeline.inference.engine import extract_files
from pipeline.inference.feeder import FeatureSource
from pipeline.media.damage import damages_of
from pipeline.media.folder import InputFile


@dataclass
class Extraction:
    """The result of an extraction.

    num_stored: videos whose features were in the store before. num_extracted, num_looks: videos extracted now, and
    their looks. failed: video -> (status, sentence). damaged: video -> what is cut or damaged in it; the store has what
    could be decoded.
    """

    num_stored: int = 0
    num_extracted: int = 0
    num_looks: int = 0
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)
    damaged: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def merged(cls, shares: Sequence[Extraction], videos: Sequence[Path]) -> Extraction:
        """The result of several extractions together, whose videos are in the order of `videos`."""
        failed = {video: reason for share in shares for video, reason in share.failed.items()}
        damaged = {video: sentences for share in shares for video, sentences in share.damaged.items()}
        ordered = [str(video) for video in videos]
        return cls(
            sum(share.num_stored for share in shares),
            sum(share.num_extracted for share in shares),
            sum(share.num_looks for share in shares),
            {video: failed[video] for video in ordered if video in failed},
            {video: damaged[video] for video in ordered if video in damaged},
        )


def extract(
    videos: Sequence[Path],
    store: FeatureStore,
    source: FeatureSource,
    *,
    on_video: Callable[[int, int], None] = lambda done, total: None,
) -> Extraction:
    """Fill the store. on_video(done, total) is called after each video. Raises OSError of the store's disk."""
    result = Extraction()
    files = [InputFile(video, str(video)) for video in dict.fromkeys(videos)]
    with extract_files(files, source, store) as answers:
        for done, one in enumerate(answers, start=1 + len(videos) - len(files)):
            answer = one.answer
            if answer.is_failed:
                result.failed[one.file.name] = (answer.status, answer.error)
            elif one.is_stored:
                result.num_stored += 1
            else:
                result.num_extracted += 1
                result.num_looks += answer.looks
            if damages := damages_of(answer.warnings):
                result.damaged[one.file.name] = damages
            on_video(done, len(videos))
    return result
