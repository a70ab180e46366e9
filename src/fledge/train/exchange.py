"""Matrices whose rows lie spread over processes in; each whole on one process for a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard


def on_whole_matrices(
    matrices: Sequence[Tensor], change: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """``change`` of matrices of one shape, whose rows (dimension 0) are spread over processes.

    Of N matrices each of the W processes changes N/W, whole: rows go there and the results' rows
    come back, in one exchange each.  ``change``: (n,rows,columns) -> the same shape.
    """
    spread = [cast(DTensor, matrix) for matrix in matrices]
    mesh, placements = spread[0].device_mesh, spread[0].placements
    if list(placements) != [Shard(0)]:
        raise NotImplementedError(f"matrices spread as {placements}, not by their rows")
    size, rows = mesh.size(), spread[0].shape[0]
    part = -(-rows // size)  # rows a process, as torch deals them: the last ones may have fewer
    each = -(-len(spread) // size)  # matrices a process
    mine = torch.stack([matrix.to_local() for matrix in spread])  # (N,my rows,columns)
    held = mine.shape[1]
    padded = F.pad(mine, (0, 0, 0, part - held, 0, each * size - len(spread)))
    # (W,n,part,columns): what goes to, and what comes from, each process
    arrived = _exchange(padded.view(size, each, part, -1), mesh.get_group())
    stacked = arrived.transpose(0, 1).flatten(1, 2)[:, :rows]  # (n,rows,columns)
    changed = change(stacked).to(mine.dtype)
    changed = F.pad(changed, (0, 0, 0, part * size - rows)).unflatten(1, (size, part))
    back = _exchange(changed.transpose(0, 1), mesh.get_group()).flatten(0, 1)  # (N + pad,part,·)
    return [
        DTensor.from_local(
            back[number, :held],
            mesh,
            placements,
            run_check=False,
            shape=matrix.shape,
            stride=matrix.stride(),
        )
        for number, matrix in enumerate(spread)
    ]


def _exchange(pieces: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Piece k goes to process k; what comes from process j is piece j.  (W,...) -> (W,...)"""
    pieces = pieces.contiguous()
    arrived = torch.empty_like(pieces)
    dist.all_to_all_single(arrived, pieces, group=group)
    return arrived
