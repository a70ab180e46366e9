"""The engine: token ids in, generated text out; one loop for one prompt and for many."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from fledge.core.errors import InputError
from fledge.core.protocols import Sampling
from fledge.engine.batch import Batch
from fledge.engine.errors import ContextLengthError
from fledge.engine.request import Generation, Request, Token
from fledge.engine.sampling import check_sampling, next_tokens
from fledge.model.checkpoint import load_model
from fledge.model.decoder import Decoder
from fledge.model.gguf.magic import is_gguf
from fledge.model.locate import find_checkpoint
from fledge.tokenizer.template import ENDOFTEXT, IM_END
from fledge.tokenizer.tokenizer import Tokenizer

MAX_ROWS = 32
"""Prompts decoded together."""

PREFILL_TOKENS = 4096
"""Prompt tokens, padding included, read in one pass (one prompt may have more)."""

LOGIT_ROWS = 256
"""Positions whose logits ``logprobs`` holds at a time: bounds memory for large vocabularies."""


class Engine:
    """Generates with ``model``; ``context`` is the most tokens of a prompt and its answer."""

    def __init__(self, model: Decoder, tokenizer: Tokenizer, name: str = "fledge") -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.context = model.config.context
        self.stop_ids = _stop_ids(model, tokenizer)
        self._vocabulary = min(tokenizer.vocab_size, model.config.vocab_size)

    @property
    def chats(self) -> bool:
        """Whether the model learnt to answer: the end of a turn is one of its end tokens.

        Fine-tuning writes it there, pretraining does not; it travels with a copied checkpoint.
        """
        return _special(self.tokenizer, IM_END) in self.model.config.eos_ids

    def encode_text(self, text: str) -> list[int]:
        """Ids of a text to continue, begun as documents are begun in pretraining."""
        begin = self.model.config.bos_id
        if begin is None:
            begin = _special(self.tokenizer, ENDOFTEXT)
        return ([] if begin is None else [begin]) + self.tokenizer.encode(text)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling | Sequence[Sampling],
        stop_ids: Iterable[int] | None = None,
    ) -> list[Generation]:
        """One generation per prompt, in order.  Parameters as in ``generate_each``."""
        done = dict(self.generate_each(prompts, sampling, stop_ids))
        return [done[index] for index in range(len(prompts))]

    def generate_each(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling | Sequence[Sampling],
        stop_ids: Iterable[int] | None = None,
    ) -> Iterator[tuple[int, Generation]]:
        """(index of the prompt, its generation), each as soon as it is finished.

        ``sampling`` is one for all or one per prompt.  ``stop_ids`` end an answer and are not
        part of it; by default the model's end tokens.  Raises InputError for a prompt that does
        not fit the context or a sampling value out of range.
        """
        samplings = [sampling] * len(prompts) if isinstance(sampling, Sampling) else sampling
        requests = [
            self._request(index, prompt, how, stop_ids)
            for index, (prompt, how) in enumerate(zip(prompts, samplings, strict=True))
        ]
        return (
            (index, token.generation)
            for index, token in self._run(requests)
            if token.generation is not None
        )

    def stream(
        self, prompt: Sequence[int], sampling: Sampling, stop_ids: Iterable[int] | None = None
    ) -> Iterator[Token]:
        """The tokens of one generation as they are drawn; the last carries the whole.

        Closing the iterator stops the work.  Errors as in ``generate_each``, raised at once.
        """
        request = self._request(0, prompt, sampling, stop_ids)
        return (token for _, token in self._run([request]))

    @torch.inference_mode()
    def logprobs(self, ids: Sequence[int]) -> list[float]:
        """log p(token | tokens before it), in nats, of every token but the first: len(ids) - 1.

        Raises InputError when ``ids`` are more than the context holds.
        """
        if len(ids) > self.context:
            raise InputError(
                f"the text has {len(ids)} tokens, the model's context holds {self.context}",
                remedy="score a shorter text, or windows of it",
            )
        if len(ids) < 2:
            return []
        row = torch.tensor(ids, device=self.model.device)
        hidden = self.model.hidden(row[None, :-1])[0]  # (T-1,D)
        found: list[Tensor] = []
        for start in range(0, len(hidden), LOGIT_ROWS):
            part = slice(start, start + LOGIT_ROWS)
            logp = F.log_softmax(self.model.logits(hidden[part]), dim=-1)
            found.append(logp.gather(-1, row[1:][part, None]).squeeze(-1))
        values: list[float] = torch.cat(found).tolist()
        return values

    def _request(
        self,
        index: int,
        prompt: Sequence[int],
        sampling: Sampling,
        stop_ids: Iterable[int] | None,
    ) -> Request:
        if not prompt:
            raise InputError("the prompt has no tokens", remedy="write something")
        if not all(0 <= token < self._vocabulary for token in prompt):
            raise InputError(
                f"the prompt has a token id outside 0..{self._vocabulary - 1}",
                remedy="encode it with the tokenizer of this model",
            )
        if len(prompt) >= self.context:
            raise ContextLengthError(
                f"the prompt has {len(prompt)} tokens, the model's context holds"
                f" {self.context} with the answer",
                tokens=len(prompt),
                context=self.context,
            )
        return Request(
            prompt,
            check_sampling(sampling),
            index=index,
            context=self.context,
            stop_ids=self.stop_ids if stop_ids is None else frozenset(stop_ids),
            tokenizer=self.tokenizer,
        )

    def _run(self, requests: Sequence[Request]) -> Iterator[tuple[int, Token]]:
        """All tokens of all requests, each with the index of its request."""
        waiting = deque(sorted(requests, key=lambda request: len(request.prompt)))
        capacity = min(MAX_ROWS, len(requests))
        batch = Batch(self.model, capacity, max((r.length for r in requests), default=1))
        rows: list[Request] = []
        while waiting or rows:
            drawing = _admissible(waiting, capacity, len(rows))
            if drawing:
                rows += drawing
                logits = batch.admit([request.prompt for request in drawing])
            else:
                drawing = list(rows)
                logits = batch.step([request.drawn[-1] for request in rows])
            tokens = _choose(logits[:, : self._vocabulary], drawing)
            for request, token in zip(drawing, tokens, strict=True):
                yield request.index, request.push(token)
            for row in reversed(range(len(rows))):
                if rows[row].done:
                    batch.remove(row)
                    rows[row] = rows[-1]
                    rows.pop()


def _admissible(waiting: deque[Request], capacity: int, used: int) -> list[Request]:
    """Take the requests to read next: none until a quarter of the rows is free again."""
    free = capacity - used
    if not waiting or free < max(1, capacity // 4):
        return []
    taken = [waiting.popleft()]
    while waiting and len(taken) < free:
        if (len(taken) + 1) * len(waiting[0].prompt) > PREFILL_TOKENS:
            break
        taken.append(waiting.popleft())
    return taken


@torch.inference_mode()
def _choose(logits: Tensor, requests: Sequence[Request]) -> list[int]:
    """The next token of each request from logits (B,V)."""
    seen = None
    if any(request.sampling.repetition_penalty != 1 for request in requests):
        seen = torch.zeros_like(logits, dtype=torch.bool)
        for row, request in enumerate(requests):
            seen[row, request.prompt + request.drawn] = True
    samplings = [request.sampling for request in requests]
    return next_tokens(logits, samplings, seen, [request.uniform() for request in requests])


def load_engine(
    path: str | Path, *, threads: int | None = None, dtype: str = "auto", device: str = "auto"
) -> Engine:
    """The engine of the checkpoint at ``path``: a run, stage or HF directory, or a GGUF file.

    ``threads`` bounds the cores that one operation uses (for the whole process).  ``dtype``
    "auto" is bfloat16 on a GPU that computes in it, else float32; ``device`` "auto" takes the
    GPU if any.  Raises InputError when there is no model, or a broken one.
    """
    whole = is_gguf(path)
    folder = Path(path) if whole else find_checkpoint(path)
    if threads is not None:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype == "auto":
        # Older GPUs only emulate bfloat16, slower than they compute in float32.
        real = device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = "bfloat16" if real else "float32"
    if whole:
        from fledge.model.gguf.read import GgufFile

        file = GgufFile(path)
        tokenizer = file.tokenizer()
        return Engine(file.decoder(dtype, device=device), tokenizer, folder.stem)
    model = load_model(folder, dtype=dtype, device=device)
    return Engine(model, Tokenizer.load(folder), _name(folder))


def _name(folder: Path) -> str:
    """What to call a model: "bridges-sft" for runs/bridges/sft/model, or the folder's name."""
    folder = folder.resolve()
    if folder.name != "model":
        return folder.name
    return f"{folder.parent.parent.name}-{folder.parent.name}".strip("-")


def _stop_ids(model: Decoder, tokenizer: Tokenizer) -> AbstractSet[int]:
    """End tokens: those of the checkpoint, the end of a turn, the end of a document."""
    known = {_special(tokenizer, IM_END), _special(tokenizer, ENDOFTEXT)}
    return frozenset({*model.config.eos_ids, *known} - {None})  # type: ignore[arg-type]


def _special(tokenizer: Tokenizer, token: str) -> int | None:
    """The id of a special token, or None: foreign tokenizers have others."""
    try:
        return tokenizer.token_id(token)
    except InputError:
        return None
