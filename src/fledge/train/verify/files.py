"""Checks of the checkpoint: sound weights, tied as said, and the same after a round trip."""

from __future__ import annotations

import hashlib

import torch
from safetensors import safe_open
from torch import Tensor

from fledge.model.checkpoint import load_model, save_model
from fledge.train.verify.check import Check, Subject, documents


def finite_weights(subject: Subject) -> Check:
    """Every weight is a number."""
    broken, count, largest = [], 0, 0.0
    for name, weight in subject.model.state_dict().items():
        count += weight.numel()
        bad = int((~weight.isfinite()).sum())
        if bad:
            broken.append(f"{name}: {bad} of {weight.numel():,}")
        else:
            largest = max(largest, float(weight.abs().max()))
    said = f"{count:,} weights, the largest {largest:.4g}"
    return Check(
        "finite-weights",
        not broken,
        f"{said}; not finite: {'; '.join(broken[:3])}" if broken else f"{said}, all finite",
    )


def tied_weights(subject: Subject) -> Check:
    """Embedding and output matrix are one when the config says so, also on disk."""
    model = subject.model
    embedding, head = model.embed_tokens.weight, model.head
    sums = [_checksum(weight) for weight in (embedding, head)]
    said = f"embedding {sums[0]}, output matrix {sums[1]}"
    if not model.config.tied:
        return Check("tied-weights", head is not embedding, f"not tied: {said}")
    stored = _stored_heads(subject)
    differing = [name for name, weight in stored.items() if _checksum(weight) != sums[0]]
    same = head.data_ptr() == embedding.data_ptr()
    return Check(
        "tied-weights",
        same and not differing,
        f"tied: {said}, {'one' if same else 'TWO'} in memory; stored besides: "
        + (", ".join(f"{name} {_checksum(w)}" for name, w in stored.items()) or "nothing"),
    )


def checkpoint_round_trip(subject: Subject) -> Check:
    """Saved and loaded again: every weight and logit bit for bit the same."""
    folder = subject.scratch / "again"
    save_model(subject.model, folder)
    again = load_model(folder)
    again.compute_dtype = subject.model.compute_dtype
    before, after = subject.model.state_dict(), again.state_dict()
    differing = [n for n in before if n not in after or not _same_bits(before[n], after[n])]
    length = min(16, subject.model.config.context)
    ids = torch.from_numpy(documents(subject, (length,))[0])[None]
    with torch.no_grad():
        logits = [model(ids) for model in (subject.model, again)]
    same = _same_bits(*logits)
    return Check(
        "checkpoint-round-trip",
        not differing and same and before.keys() == after.keys(),
        f"{len(before)} tensors, {len(differing)} changed {differing[:2] or ''}; "
        f"{logits[0].numel():,} logits {'equal bit for bit' if same else 'DIFFER'}",
    )


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(torch.equal(one, other))


def _checksum(weight: Tensor) -> str:
    """Eight hex digits of the SHA-256 of a matrix's float32 bytes."""
    data = weight.detach().float().contiguous().numpy()
    return hashlib.sha256(data.tobytes()).hexdigest()[:8]


def _stored_heads(subject: Subject) -> dict[str, Tensor]:
    """Output matrices that lie in the checkpoint's files."""
    found: dict[str, Tensor] = {}
    paths = sorted(subject.source.glob("*.safetensors")) if subject.source else []
    for path in paths:
        with safe_open(path, framework="pt") as tensors:
            names = [name for name in tensors.keys() if name.endswith("lm_head.weight")]  # noqa: SIM118
            found |= {name: tensors.get_tensor(name) for name in names}
    return found
