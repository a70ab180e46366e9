"""A decoder that scores: token ids in, one number for each text so far out; its folder in and out.

The layout is that of ``LlamaForSequenceClassification`` (Qwen 3's, …) with one label: the decoder
without output matrix, and ``score.weight`` (1,D).
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fledge.core.errors import InputError
from fledge.core.files import read_json, replacing, write_json
from fledge.model.checkpoint import huggingface_name
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.model.layout import from_huggingface, to_huggingface
from fledge.model.linear import Linear
from fledge.model.locate import find_checkpoint
from fledge.model.stored import SINGLE, StoredTensors
from fledge.model.weights import DTYPES, check_dtype, check_sources, place, weights_file

CAUSAL, CLASSIFIER = "ForCausalLM", "ForSequenceClassification"

HEAD = "score.weight"


class Scorer(Decoder):
    """A decoder whose last hidden state becomes a score; a text's own is that of its last token."""

    def __init__(self, config: ModelConfig, compute_dtype: torch.dtype = torch.float32) -> None:
        # Tied: an output matrix would be dead weight.
        super().__init__(config.model_copy(update={"tied": True}), compute_dtype)
        self.score = Linear(config.width, 1)

    @classmethod
    def on(cls, decoder: Decoder) -> Scorer:
        """A scorer with the weights of ``decoder``, whose scores are all 0 at first."""
        scorer = cls(decoder.config, decoder.compute_dtype)
        weights = {k: v for k, v in decoder.state_dict().items() if not k.startswith("lm_head.")}
        scorer.load_state_dict({**weights, HEAD: torch.zeros(1, decoder.config.width)})
        return scorer.to(decoder.device).train(decoder.training)

    def scores(self, ids: Tensor, segments: Tensor | None = None) -> Tensor:
        """The score of each text up to each token.  ids (B,T), segments (B,T) -> (B,T) float32"""
        hidden = self.hidden(ids, segments)
        return F.linear(hidden, self.score.weight.to(hidden.dtype)).squeeze(-1).float()


def save_scorer(scorer: Scorer, folder: Path, *, dtype: str = "float32") -> None:
    """Write ``config.json`` and the weights to ``folder``, as transformers reads them.

    Raises InputError for a shape that no Hugging Face layout expresses.
    """
    check_dtype(dtype)
    values = to_huggingface(scorer.config, dtype)
    (causal,) = values["architectures"]
    values |= {
        "architectures": [causal.replace(CAUSAL, CLASSIFIER)],
        "id2label": {"0": "score"},
        "label2id": {"score": 0},
    }
    weights = {_stored_name(name): tensor for name, tensor in scorer.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(weights_file(weights, DTYPES[dtype], folder / SINGLE))
        config = stack.enter_context(replacing(folder / "config.json"))
        write_json(config, values)


def load_scorer(path: Path | str, *, device: torch.device | str = "cpu") -> Scorer:
    """The scorer at ``path`` (a Hugging Face or stage folder) in float32, in evaluation mode.

    Raises InputError naming the file and what is wrong with it.
    """
    folder = find_checkpoint(path)
    file = folder / "config.json"
    scorer = Scorer(_read_shape(read_json(file), file))
    with StoredTensors(folder) as stored:
        sources = {name: _stored_name(name) for name, _ in scorer.named_parameters()}
        check_sources(scorer, stored, sources)
        for name, source in sources.items():
            place(scorer, name, stored.read(source).to(device, torch.float32, copy=True))
    return scorer.to(device).eval()


def is_scorer(folder: Path) -> bool:
    """Whether the checkpoint in ``folder`` scores texts rather than continues them."""
    values = read_json(folder / "config.json")
    named = values.get("architectures") if isinstance(values, dict) else None
    return isinstance(named, list) and any(str(name).endswith(CLASSIFIER) for name in named)


def _read_shape(values: Any, file: Path) -> ModelConfig:
    named = values.get("architectures") if isinstance(values, dict) else None
    if not isinstance(named, list) or not any(str(one).endswith(CLASSIFIER) for one in named):
        raise InputError(
            f"{file}: {named} is no model that scores", remedy="name one that `fledge reward` made"
        )
    labels = values.get("id2label") or {"0": "score"}
    if len(labels) != 1:
        raise InputError(
            f"{file} describes {len(labels)} labels", remedy="use a reward model, which has one"
        )
    architectures = [str(name).replace(CLASSIFIER, CAUSAL) for name in named]
    return from_huggingface({**values, "architectures": architectures}, file)


def _stored_name(name: str) -> str:
    return name if name == HEAD else huggingface_name(name)
