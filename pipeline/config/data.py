"""The data section: which rows a run uses, and how they are split into training, validation and test.

In: plain values. Out: validated settings. Knows nothing of how rows are read.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.base import Fraction, Positive, Section


class DataSection(Section):
    """Which rows a run uses, and how they are split into training, validation and test."""

    path: Annotated[str, Field(min_length=1, description="a manifest (.csv, .jsonl) or a folder of class folders")]
    root: Annotated[
        str | None,
        Field(description="the folder that the manifest's paths start from; by default that of the manifest"),
    ] = None
    follow_links: Annotated[
        bool,
        Field(description="in a folder of class folders, also read what links lead to outside of it (--follow-links)"),
    ] = False
    split: Annotated[
        Literal["manifest", "group", "folds", "random", "random_ignoring_groups", "none", "test"],
        Field(
            description="how the test split is chosen, the same for every seed; none trains on all rows, test tests on "
            "all rows"
        ),
    ] = "manifest"
    test_share: Annotated[Fraction, Field(description="share of the test split, for group and random splits")] = 0.25
    folds: Annotated[int, Field(ge=2, description="number of folds of split: folds")] = 4
    fold: Annotated[int, Field(ge=0, description="the fold that is the test split, counted from 0")] = 0
    validation_share: Annotated[
        Fraction,
        Field(description="share of the training groups held out to choose the best epoch; 0 keeps the last epoch"),
    ] = 0.15
    window: Annotated[
        Positive | None,
        Field(description="most looks (not seconds) of a row in one training sample; null: the whole row"),
    ] = 64
    stride: Annotated[
        Positive | None,
        Field(
            description="each window that starts at a multiple of it is a sample, in testing too; null: one random "
            "window of each row in an epoch"
        ),
    ] = None
    read: Annotated[
        Literal["auto", "features", "pixels"],
        Field(description="what training reads; auto: stored features where the CNN is frozen, else pixels"),
    ] = "auto"
    feature_store: Annotated[str, Field(description="folder of the feature store")] = "runs/features"
    workers: Annotated[int, Field(ge=0, description="processes that load samples; 0: the training process")] = 0
    on_error: Annotated[
        Literal["skip", "stop"],
        Field(
            description="skip a video that cannot be read, with a line in the log, or stop the run; of a video that is "
            "cut or damaged skip uses what can be decoded"
        ),
    ] = "skip"

    def describe_split(self) -> str:
        """The split in a few words, for tables."""
        if self.split == "test":
            return "all rows are test rows"
        return f"fold {self.fold} of {self.folds} by group" if self.split == "folds" else self.split
