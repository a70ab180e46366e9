"""Judged answers in, batches out that carry how far the model has drifted (KTO)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fledge.data.conversations import Rendered
from fledge.model.decoder import Decoder
from fledge.train.batch import Batch
from fledge.train.parallel import gathered
from fledge.tune.groups import Group
from fledge.tune.log_probs import target_log_probs
from fledge.tune.losses.kto import drift_of
from fledge.tune.pair_loader import PairLoader, read_values

TOKENS = 4096
"""Tokens of a batch of mismatched answers, about."""

AHEAD = 64
"""How far ahead another prompt is looked for."""


def mismatched(groups: Sequence[Group], context: int) -> list[Group]:
    """Each group's prompt with the answer of the next one that has another prompt.

    One answer a group.  arXiv:2402.01306, section 4.1, takes the next one of a batch; a fixed
    partner lets the reference be computed beforehand.  Longer than ``context``, the prompt is cut
    from the left.
    """
    parts, found = [_parts(group) for group in groups], []
    for number, (prompt, own) in enumerate(parts):
        ahead = (parts[(number + n) % len(parts)] for n in range(1, min(len(parts), AHEAD)))
        ids, mask = next((answer for asked, answer in ahead if asked != prompt), own)
        kept = prompt[max(0, len(prompt) + len(ids) - context) :]
        joined = Rendered(ids=kept + ids, mask=[False] * len(kept) + mask, turns=[])
        found.append(replace(groups[number], answers=(joined,), signals=()))
    return found


def _parts(group: Group) -> tuple[list[int], tuple[list[int], list[bool]]]:
    """(prompt, (answer, which of its tokens count)) of the only answer of a group."""
    (one,) = group.answers
    begin = one.mask.index(True)
    return one.ids[:begin], (one.ids[begin:], one.mask[begin:])


class KtoLoader:
    """Batches of judged answers; ``signals`` (B,T,2): the reference's log p, and the drift.

    The drift depends on the weights, so a batch is built when they are ready
    (``Training.ahead`` 0).  It is that of the whole batch, however it is cut into micro-batches.
    """

    def __init__(self, loader: PairLoader, others: Sequence[Group], model: Decoder) -> None:
        """``others``: the mismatched answer of each group of ``loader``, with its reference."""
        self._loader, self._others, self._model = loader, others, model
        self.steps, self.most = loader.steps, loader.most

    def fingerprint(self) -> str:
        """Names the data and its order."""
        return f"{self._loader.fingerprint()}:kto"

    def __getitem__(self, step: int) -> Batch:
        """The batch of ``step``."""
        batch = self._loader[step]
        assert batch.signals is not None
        drift = self._drift([self._others[item] for item in self._loader.items(step)])
        return batch._replace(
            signals=torch.cat([batch.signals, torch.full_like(batch.signals, drift)], dim=-1)
        )

    def _drift(self, others: Sequence[Group]) -> float:
        model, row = self._model, self._loader.row

        @torch.no_grad()
        def score(batch: Batch) -> Tensor:
            return gathered(model, target_log_probs, model, batch.to(model.device))

        found = read_values(others, score, row=row, batch_rows=max(1, TOKENS // row))
        ratios = [
            float((policy[0] - group.signals[0]).sum())
            for group, policy in zip(others, found, strict=True)
        ]
        return float(drift_of(torch.tensor(ratios)))
