"""Rows into micro-batches of whole rows, padded on the right: what any causal model can read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tau2_exp.engines.torch.packing import cut, trained_values
from tau2_exp.types import Row


class Padded:
    """A micro-batch: `ids` [rows, longest], where a row's end is followed by zeros, which no earlier token sees.

    Of the rows' trained tokens, row by row: `targets` [T], `before` [T] the flat places whose hidden state predicts
    them, `log_probs` and `advantages` [T].
    """

    def __init__(self, rows: Sequence[Row], device: torch.device):
        ids = pad_sequence([torch.tensor(row.ids) for row in rows], batch_first=True)
        places = torch.arange(ids.numel()).view(ids.shape)
        trained = [torch.tensor(row.trained).nonzero()[:, 0] for row in rows]
        at = torch.cat([places[number, flags] for number, flags in enumerate(trained)])
        self.ids = ids.to(device)
        self.targets = ids.flatten()[at].to(device)
        self.before = (at - 1).to(device)
        self.log_probs = self._of(rows, "log_probs", device)
        self.advantages = self._of(rows, "advantages", device)

    @staticmethod
    def _of(rows: Sequence[Row], name: str, device: torch.device) -> Tensor:
        trained = torch.tensor([flag for row in rows for flag in row.trained]).nonzero()[:, 0]
        return trained_values([getattr(row, name) for row in rows], trained, device)


def pad(rows: Sequence[Row], batch_tokens: int) -> Iterator[list[Row]]:
    """Micro-batches of at most `batch_tokens` tokens, padding included; a longer row makes one of its own.

    Rows are sorted by length, so that they pad each other little, and cut as in `packing.pack`, whose errors it raises.
    """
    batch: list[Row] = []
    for row in sorted(cut(rows), key=lambda row: (len(row.ids), row.ids)):
        if batch and (len(batch) + 1) * len(row.ids) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
