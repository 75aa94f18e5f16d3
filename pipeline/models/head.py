"""The protocols of heads.

A head answers one question from the output of the core. `loss` trains it. At inference its memory is explicit:
`observe` adds a window to the memory, and `answer` turns the memory into predictions. Several windows, one after
another, give the memory of the whole sequence. A head never reads the video again, and keeps no state of its own. It is
evaluated in two steps, so that any number of batches can be measured together: `results` for each sample, `metrics`
over all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

from pipeline.data.batch import Batch
from pipeline.models.core_output import CoreOutput
from pipeline.models.prediction import Prediction, ScoredSpans

if TYPE_CHECKING:  # answering reads no data set
    from pipeline.data.dataset import Target
    from pipeline.data.manifest_rows import Row

Memory = Any
"""Its type depends on the head: sums and counts of logits, emissions, a Viterbi lattice. Tensors are batch first."""

Result = Any
"""Its type depends on the head: prediction and target of one sample, on the CPU."""


class Head(Protocol):
    """What the model and the dataset need of a head. Every head is an nn.Module as well."""

    opponent: nn.Module | None
    """The critic of a head that learns as a GAN, which is trained by its own optimizer; None for all other heads."""
    monitor: str
    """The metric that chooses the best epoch; higher is better."""
    is_per_step: bool
    """Whether the target has one entry for each step. Such a target is reordered together with the steps."""

    @property
    def target(self) -> Target:
        """What the head learns from a row: small, and without modules, because every loading process gets a copy."""
        ...

    def loss(self, output: CoreOutput, batch: Batch, player: str) -> dict[str, Tensor]:
        """Scalar loss terms by name; the training loop adds them up. player: "model", or the name of a head whose
        critic is trained.
        """
        ...

    def observe(self, output: CoreOutput, memory: Memory | None = None) -> Memory:
        """The memory after these steps; None is the memory before the first step."""
        ...

    def answer(self, memory: Memory) -> Sequence[Prediction]:
        """One prediction for each row."""
        ...

    def results(self, output: CoreOutput, batch: Batch) -> list[Result]:
        """Prediction and target of each sample."""
        ...

    def confidence_interval(self, results: Sequence[Result], groups: Sequence[str | None]) -> tuple[float, float]:
        """The 95 % bootstrap interval of the `monitor` metric. groups: the person or recording of each sample."""
        ...

    def metrics(self, results: Sequence[Result]) -> dict[str, Any]:
        """Metrics (numbers, and lists of numbers) over all samples; `count` is how many samples there are."""
        ...


StreamMemory = dict[str, Tensor]
"""The memory of an endless stream, by name. Its size is constant. B is 1."""


class OnlineLabels(NamedTuple):
    """The labels of the next N looks of a stream. A head labels the looks in order and skips none.

    labels: (N,) int64 class indices, -1 for background. scores: (N, C) probabilities.
    """

    labels: Tensor
    scores: Tensor


@runtime_checkable
class StreamingHead(Protocol):
    """A head that labels a stream while it runs. A label is final: it is never revised."""

    delay_steps: int
    """The least number of looks between a look and its label: no lag may be smaller."""

    def stream(
        self, output: CoreOutput, memory: StreamMemory | None = None, *, lag: int, smooth: int
    ) -> tuple[StreamMemory, OnlineLabels]:
        """The memory and the new labels after these steps (1, T, H) of one stream.

        lag: for how many looks a label may wait, in heads that use later looks. smooth: over how many looks scores are
        averaged, in heads without a temporal model of the labels.
        """
        ...

    def finish_stream(self, memory: StreamMemory, *, lag: int) -> tuple[OnlineLabels, Prediction | None]:
        """The labels of the looks that still wait, if the stream ended here. The memory is not changed.

        Also returns the prediction for the whole stream, where a memory of constant size is enough for it; else None.
        """
        ...


@runtime_checkable
class StreamEvaluatedHead(Protocol):
    """A head whose labels in a stream differ from those of the whole sequence, and are measured beside them."""

    def results_with_stream(self, output: CoreOutput, batch: Batch) -> list[Result]:
        """The same as `results`, with the labels of a stream. This is slow, so only the final table asks for it."""
        ...


@runtime_checkable
class AdversarialHead(Protocol):
    """A head that learns as a GAN: a generator and a critic."""

    skips_core: bool
    """Whether it learns from the raw data alone, so that the core need not run."""
    pretrain_share: float
    """The share of the training steps, from the first one on, in which the critic is not used."""
    is_adversarial: bool
    """Whether the critic is used now. The training sets it at every step."""
    draw_of_step: float
    """A random number in [0, 1), the same in all processes, that decides whether this step has a gradient penalty. The
    training sets it at every step."""

    def stop_reason(self, means: Mapping[str, float]) -> str:
        """Why the training has failed, from the mean losses of the last steps; empty while it has not."""
        ...

    def preview(self, batch: Batch) -> np.ndarray | list[str]:
        """Samples from fixed latent codes (and from the batch, where a sample needs a start): an image uint8 (H, W, 3),
        or texts.
        """
        ...


@runtime_checkable
class FitsRows(Protocol):
    """A head that needs facts about all training rows before the first training step."""

    def fit_rows(self, rows: Sequence[Row]) -> None:
        """Fit to the rows of the training split; called once."""
        ...


@runtime_checkable
class FitsSequences(Protocol):
    """A head or an encoder that needs statistics of all training sequences before the first training step."""

    def fit_sequences(self, sequences: Iterable[Tensor]) -> None:
        """Fit to the raw sequences (T, D) of the training split; called once."""
        ...


@runtime_checkable
class SpanDescriber(Protocol):
    """A head that describes the spans that a segment head of the same model predicts."""

    segment_head: str | None
    """The name of that head; None: no spans are described."""

    def describe(self, memory: Memory, spans: ScoredSpans) -> Prediction:
        """The prediction for one whole video and for each of its spans."""
        ...
