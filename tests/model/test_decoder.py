"""The decoder agrees with transformers, keeps documents apart, and decodes as it reads."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.model import attention
from fledge.model.cache import KVCache
from fledge.model.checkpoint import load_model, save_model
from fledge.model.config import ModelConfig, derive
from fledge.model.decoder import Decoder

VOCAB, CONTEXT = 97, 64


def noisy(config: ModelConfig, seed: int = 0) -> Decoder:
    """A decoder in which every weight matters, norms too."""
    model = Decoder(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(noise * 0.15 if weight.ndim == 2 else 1 + noise * 0.3)
    return model.eval()


def tiny(**changes: object) -> ModelConfig:
    shape: dict[str, object] = {
        "vocab_size": VOCAB,
        "width": 48,
        "depth": 2,
        "heads": 4,
        "kv_heads": 2,
        "head_size": 16,
        "ffn": 80,
        "context": CONTEXT,
    }
    return ModelConfig.model_validate({**shape, **changes})


def random_ids(rows: int, length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))


VARIANTS = list(itertools.product([True, False], [True, False], [1, 2, 4]))


@pytest.mark.parametrize(("qk_norm", "tied", "kv_heads"), VARIANTS)
@torch.no_grad()
def test_transformers_loads_our_checkpoint_and_agrees(
    tmp_path: Path, qk_norm: bool, tied: bool, kv_heads: int
) -> None:
    model = noisy(tiny(qk_norm=qk_norm, tied=tied, kv_heads=kv_heads, rope_theta=5000.0))
    save_model(model, tmp_path)
    peer = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(peer).__name__ == ("Qwen3ForCausalLM" if qk_norm else "LlamaForCausalLM")
    ids = random_ids(3, CONTEXT)
    ours, theirs = model(ids), peer(ids).logits
    assert ours.std() > 0.1
    assert (ours - theirs).abs().max() <= 1e-4


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["Qwen3", "Llama"])
@torch.no_grad()
def test_we_load_a_checkpoint_of_transformers_and_agree(
    tmp_path: Path, kind: str, tied: bool
) -> None:
    torch.manual_seed(3)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=VOCAB,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=tied,
        initializer_range=0.15,
        rms_norm_eps=1e-5,
    )
    peer = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    peer.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    ids = random_ids(2, 40)
    assert (model(ids) - peer(ids).logits).abs().max() <= 1e-4


@torch.no_grad()
def test_segments_equal_running_each_document_alone() -> None:
    model = noisy(tiny())
    lengths = [5, 1, 20, 11]
    documents = [random_ids(1, length, seed=length) for length in lengths]
    packed = torch.cat(documents, dim=1)
    segments = torch.repeat_interleave(torch.tensor([7, 3, 7_000_000, 4]), torch.tensor(lengths))
    together = model(packed, segments[None]).split(lengths, dim=1)
    for alone, part in zip(documents, together, strict=True):
        assert (model(alone) - part).abs().max() < 1e-4
    assert (model(packed) - torch.cat(together, 1)).abs().max() > 0.01  # the mask does something


@torch.no_grad()
def test_attention_is_causal() -> None:
    model = noisy(tiny())
    ids = random_ids(1, 30)
    changed = ids.clone()
    changed[0, 20] = (changed[0, 20] + 1) % VOCAB
    before, after = model(ids), model(changed)
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.allclose(before[:, 20:], after[:, 20:])


@torch.no_grad()
def test_plain_and_fused_attention_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    model = noisy(tiny())
    ids, segments = random_ids(2, 50), torch.arange(50).div(13, rounding_mode="floor").expand(2, -1)
    plain = model(ids, segments)
    monkeypatch.setattr(attention, "EXPLICIT_TOKENS", 0)
    assert (model(ids, segments) - plain).abs().max() < 1e-4


@torch.no_grad()
def test_rope_table_grows_beyond_the_context() -> None:
    config = tiny(context=8)
    short = noisy(config)
    long = noisy(config.model_copy(update={"context": 50}))
    ids = random_ids(1, 50)
    assert torch.equal(short(ids), long(ids))


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    left=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_ragged_rows_decode_with_a_cache_as_without(
    lengths: list[int], left: bool, seed: int
) -> None:
    model = noisy(tiny())
    sequences = [random_ids(1, length + 6, seed=seed + i)[0] for i, length in enumerate(lengths)]
    widest = max(lengths)
    ids = torch.zeros(len(lengths), widest, dtype=torch.int64)
    positions = torch.full_like(ids, -1)
    for row, (sequence, length) in enumerate(zip(sequences, lengths, strict=True)):
        place = slice(widest - length, widest) if left else slice(0, length)
        ids[row, place] = sequence[:length]
        positions[row, place] = torch.arange(length)
    cache = KVCache(len(lengths), widest + 6, model.config)
    with torch.no_grad():
        prefilled = model(ids, cache=cache, positions=positions)
        assert prefilled.isfinite().all()
        assert cache.lengths.tolist() == lengths
        for row, (sequence, length) in enumerate(zip(sequences, lengths, strict=True)):
            expected = model(sequence[None, :length])[0]
            assert (prefilled[row][positions[row] >= 0] - expected).abs().max() < 1e-4
        for step in range(6):
            tokens = torch.stack([s[n + step] for s, n in zip(sequences, lengths, strict=True)])
            logits = model(tokens[:, None], cache=cache)
            for row, (sequence, length) in enumerate(zip(sequences, lengths, strict=True)):
                expected = model(sequence[None, : length + step + 1])[0, -1]
                assert (logits[row, 0] - expected).abs().max() < 1e-4


@torch.no_grad()
def test_rows_of_a_cache_are_reused_shared_and_copied() -> None:
    model = noisy(tiny())
    cache = KVCache(3, CONTEXT, model.config)
    old, new = random_ids(3, 20, seed=1), random_ids(1, 9, seed=2)
    model(old, cache=cache)
    cache.lengths[1] = 0  # row 1 starts over with another sequence
    logits = model(new, cache=cache.rows(1, 2))
    assert (logits - model(new)).abs().max() < 1e-4
    assert cache.lengths.tolist() == [20, 9, 20]
    cache.lengths[0] = 12  # row 0 forgets its tail
    cache.copy_row(1, 2)
    tokens = torch.tensor([[5], [6], [7]])
    logits = model(tokens, cache=cache)
    expected = [
        model(torch.cat([old[:1, :12], tokens[:1]], 1))[0, -1],
        model(torch.cat([new, tokens[1:2]], 1))[0, -1],
        model(torch.cat([new, tokens[2:]], 1))[0, -1],
    ]
    assert (logits[:, 0] - torch.stack(expected)).abs().max() < 1e-4


@torch.no_grad()
def test_a_full_cache_refuses() -> None:
    model = noisy(tiny())
    cache = KVCache(1, 4, model.config)
    model(random_ids(1, 4), cache=cache)
    with pytest.raises(ValueError, match="exceeds the cache of 4"):
        model(random_ids(1, 1), cache=cache)
    with pytest.raises(ValueError, match="2 rows, the cache has 1"):
        model(random_ids(2, 1), cache=cache)


@pytest.mark.parametrize("depth", [1, 2, 4, 6, 8, 12])
def test_derived_shapes_count_their_parameters(depth: int) -> None:
    config = derive(depth, 500, 64)
    assert config.width == 64 * depth
    assert config.head_size == 64
    with torch.device("meta"):
        weights = list(Decoder(config).parameters())
    assert sum(weight.numel() for weight in weights) == config.parameters


def test_given_dimensions_stand() -> None:
    config = derive(3, 500, 64, width=320, heads=3, kv_heads=1, ffn=100, tied=False)
    assert (config.width, config.heads, config.kv_heads, config.ffn) == (320, 3, 1, 100)
    assert not config.tied


def test_kv_heads_must_divide_heads() -> None:
    with pytest.raises(ValueError, match=r"kv_heads \(3\) must divide heads \(4\)"):
        tiny(kv_heads=3)


def test_initial_weights_depend_on_the_seed_alone() -> None:
    first, again, other = (Decoder(tiny()).initialize(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embed_tokens.weight"], other["embed_tokens.weight"])
