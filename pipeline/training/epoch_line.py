"""The line about one epoch of a training.

In: numbers at the end of an epoch. Out: a text for people, which knows its epoch, so that a log may leave some out.
"""

from __future__ import annotations


class EpochLine(str):
    """One line about an epoch, such as "epoch  10/38   loss 0.213   40 s left".

    epoch: its number, from 1. is_last: whether no epoch follows.
    """

    epoch: int
    is_last: bool

    @classmethod
    def of(
        cls, epoch: int, epochs: int, *, loss: float, seconds: float, first: float, notes: str = "", is_last: bool
    ) -> EpochLine:
        """The line of epoch `epoch` of `epochs`, from 1.

        loss: the mean over the last steps. seconds: since the training began, or was resumed, at epoch `first`, which
        counts from 0 and may be a fraction. notes: what follows the loss.
        """
        is_last = is_last or epoch == epochs
        left = "" if is_last else f"   {duration(seconds / max(1e-9, epoch - first) * (epochs - epoch))} left"
        line = cls(f"epoch {epoch:>3}/{epochs}   loss {loss:.3f}{notes}{left}")
        line.epoch, line.is_last = epoch, is_last
        return line


def duration(seconds: float) -> str:
    """A duration in one unit: "40 s", "12 min", "3.5 h"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"
