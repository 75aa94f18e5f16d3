"""For the tests of the CRF: fields with random weights, ragged emissions with garbage in the padding."""

from __future__ import annotations

import torch
from brute_crf import randomise
from torch import Tensor

from pipeline.models.crf.crf import CRF
from pipeline.padded import Padded, stack

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
LENGTHS = (6, 3, 0, 1, 5)


def make(num_labels: int, scale: float = 1.0, **settings) -> CRF:
    torch.manual_seed(3)
    crf = CRF(num_labels, **settings).double()
    randomise(crf, scale)
    return crf


def emissions(num_labels: int = 4, lengths=LENGTHS, filler: float = float("nan"), scale: float = 2.0, seed=1) -> Padded:
    torch.manual_seed(seed)
    x = stack([scale * torch.randn(n, num_labels, dtype=torch.float64) for n in lengths])
    return Padded(torch.where(x.mask[:, :, None], x.data, filler), x.lengths)


def random_labels(x: Padded) -> Tensor:
    return torch.where(x.mask, torch.randint(0, x.data.shape[2], x.data.shape[:2]), -100)


def scores_of(crf: CRF) -> tuple[Tensor, Tensor, Tensor]:
    return crf.transitions, crf.start_transitions, crf.end_transitions
