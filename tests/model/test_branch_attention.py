"""Answers that share a prompt see what each would see alone: values, gradients, windows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fledge.model import attention, branch_attention, branches
from fledge.model.branches import find_branches
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder

VOCAB = 30

PROMPTS = [5, 3, 1]
ANSWERS = [[4, 7, 2], [6], []]
"""Tokens of each answer to each prompt."""


def model(**changes: object) -> Decoder:
    shape = ModelConfig(
        vocab_size=VOCAB, width=24, depth=2, heads=4, kv_heads=2, ffn=32, context=32
    )
    decoder = Decoder(shape.model_copy(update=changes))
    generator = torch.Generator().manual_seed(1)
    for weight in decoder.parameters():
        if weight.ndim == 2:
            weight.data.copy_(torch.randn(weight.shape, generator=generator) * 0.4)
    return decoder


def texts() -> tuple[list[Tensor], list[list[Tensor]]]:
    generator = torch.Generator().manual_seed(2)

    def draw(size: int) -> Tensor:
        return torch.randint(1, VOCAB, (size,), generator=generator)

    return [draw(n) for n in PROMPTS], [[draw(n) for n in family] for family in ANSWERS]


def rows(order: Sequence[int], padding: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two rows, the families spread over them: ids, segments, continues."""
    prompts, answers = texts()
    made: list[list[tuple[Tensor, int, int]]] = [[], []]
    for place, number in enumerate(order):
        row = made[place % 2]
        row.append((prompts[number], 100 + number, -1))
        row += [(one, 10 * number + k, 100 + number) for k, one in enumerate(answers[number])]
    width = max(sum(len(ids) for ids, _, _ in row) for row in made) + padding
    ids, segments, continues = (torch.full((2, width), fill) for fill in (0, -1, -1))
    for number, row in enumerate(made):
        start = 0
        for tokens, segment, beyond in row:
            where = slice(start, start + len(tokens))
            ids[number, where], segments[number, where] = tokens, segment
            continues[number, where], start = beyond, start + len(tokens)
    return ids, segments, continues


def by_segment(states: Tensor, segments: Tensor) -> dict[int, Tensor]:
    return {int(n): states[segments == n] for n in segments.unique() if n >= 0}


def alone(decoder: Decoder) -> dict[int, Tensor]:
    """Each prompt, and each answer behind its own copy of the prompt."""
    prompts, answers = texts()
    found = {}
    for number, prompt in enumerate(prompts):
        found[100 + number] = decoder.hidden(prompt[None])[0]
        for k, one in enumerate(answers[number]):
            whole = decoder.hidden(torch.cat((prompt, one))[None])[0]
            found[10 * number + k] = whole[len(prompt) :]
    return found


def summed(states: dict[int, Tensor]) -> Tensor:
    """A number that depends on every state in another way."""
    return sum(
        ((state * torch.linspace(-1, 2, state.numel()).view(state.shape)).sum() * (1 + n % 7))
        for n, state in states.items()
    )  # type: ignore[return-value]


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("changes", [{}, {"window": 4}, {"kv_heads": 4}, {"qk_norm": False}])
@pytest.mark.parametrize(("order", "padding"), [([0, 1, 2], 0), ([2, 1, 0], 3)])
def test_an_answer_is_as_it_were_alone(
    changes: dict[str, object],
    explicit: bool,
    order: list[int],
    padding: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not explicit:
        for module in (attention, branch_attention, branches):
            monkeypatch.setattr(module, "EXPLICIT_TOKENS", 0)
    decoder = model(**changes)
    ids, segments, continues = rows(order, padding)
    states = by_segment(decoder.hidden(ids, segments, continues=continues), segments)
    summed(states).backward()
    gradients = {
        name: p.grad.clone() for name, p in decoder.named_parameters() if p.grad is not None
    }
    decoder.zero_grad()
    expected = alone(decoder)
    summed(expected).backward()
    assert set(states) == set(expected)
    for n, state in expected.items():
        torch.testing.assert_close(states[n], state, rtol=1e-5, atol=1e-5)
    for name, parameter in decoder.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-4)


def test_answers_do_not_see_each_other() -> None:
    decoder = model()
    ids, segments, continues = rows([0, 1, 2], 0)
    before = by_segment(decoder.hidden(ids, segments, continues=continues), segments)
    ids[segments == 1] = 1 + (ids[segments == 1] + 3) % (VOCAB - 1)
    after = by_segment(decoder.hidden(ids, segments, continues=continues), segments)
    for n, state in before.items():
        assert torch.equal(after[n], state) == (n != 1)


def test_positions_go_on_from_the_prompt() -> None:
    _, segments, continues = rows([0, 1, 2], 2)
    places = find_branches(segments, continues, 2, 1).positions
    assert places[segments == 100].tolist() == [0, 1, 2, 3, 4]
    assert places[segments == 1].tolist() == [5, 6, 7, 8, 9, 10, 11]
    assert places[segments == 10].tolist() == [3, 4, 5, 6, 7, 8]
