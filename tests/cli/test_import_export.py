"""``fledge import`` and ``fledge export``: checkpoints of others in, ours and theirs out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file

from fledge.cli.main import main
from fledge.core.protocols import Sampling
from fledge.engine import load_engine
from fledge.model.checkpoint import load_model
from fledge.model.gguf import load_gguf
from fledge.tokenizer.tokenizer import Tokenizer
from pico_model import pico_texts, write_pico_model

SIZES: dict[str, Any] = {
    "vocab_size": 344,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama tied": ("Llama", {"tie_word_embeddings": True}),
    "llama untied": ("Llama", {"tie_word_embeddings": False}),
    "llama3": ("Llama", {"rope_parameters": LLAMA3}),
    "mistral": ("Mistral", {"sliding_window": 24}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"head_dim": 32}),
}


def fledge(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def done(capsys: pytest.CaptureFixture[str], *arguments: Any) -> dict[str, Any]:
    """The JSON of a command that succeeds."""
    code, out, err = fledge(capsys, *arguments, "--json")
    assert code == 0, err
    assert out.count("\n") == 1
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "pico"
    write_pico_model(folder)
    return folder


def theirs(name: str, run: Path, folder: Path, **saving: Any) -> tuple[Path, Any]:
    """A random model of transformers in ``folder``, with our tokenizer beside it."""
    import transformers

    family, values = MODELS[name]
    config = getattr(transformers, f"{family}Config")(**{**SIZES, **values})
    torch.manual_seed(1)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0.0, 0.2)
    model.save_pretrained(folder, **saving)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(run / "sft" / "model" / file, folder / file)
    return folder, model


@pytest.mark.parametrize("name", MODELS)
def test_models_of_transformers_pass_through_unchanged(
    name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForCausalLM

    source, model = theirs(name, run, tmp_path / "theirs", max_shard_size="40KB")
    assert len(list(source.glob("*.safetensors"))) > 1
    found = done(capsys, "import", source, "--out", tmp_path / "in")
    assert found["dtype"] == "float32"
    assert found["model"]["parameters"] == sum(w.numel() for w in model.parameters())
    done(capsys, "export", tmp_path / "in", "--format", "gguf", "--type", "f32",
         "--out", tmp_path / "m.gguf")  # fmt: skip
    done(capsys, "import", tmp_path / "m.gguf", "--out", tmp_path / "back")
    one, two = (load_model(tmp_path / place) for place in ("in", "back"))
    assert one.config == two.config
    for key, tensor in one.state_dict().items():
        assert torch.equal(tensor, two.state_dict()[key])
    done(capsys, "export", tmp_path / "back", "--format", "hf", "--out", tmp_path / "out",
         "--max-shard-size", "50KB")  # fmt: skip
    ids = torch.randint(0, 344, (2, 100), generator=torch.Generator().manual_seed(2))
    expected = model(ids).logits
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert float((again(ids).logits - expected).detach().abs().max()) <= 1e-4
    assert float((two(ids) - expected).detach().abs().max()) <= 1e-4


def test_our_run_travels_through_gguf(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pico.gguf"
    report = done(capsys, "export", run, "--format", "gguf", "--out", file, "--type", "f32")
    assert report["notes"] == []
    assert report["bytes"] == file.stat().st_size
    assert gguf.GGUFReader(file).get_field("general.name").contents() == "pico-sft"
    engines = [load_engine(run), load_engine(file)]
    assert engines[1].name == "pico"
    assert engines[0].stop_ids == engines[1].stop_ids
    assert engines[0].chats
    assert engines[1].chats
    talk = [{"role": "user", "content": "金门大桥?"}]
    prompts = [e.tokenizer.encode_chat(talk, add_generation_prompt=True) for e in engines]
    assert prompts[0] == prompts[1]
    how = Sampling(temperature=0, max_new_tokens=20)
    texts = [e.generate([p], how)[0] for e, p in zip(engines, prompts, strict=True)]
    assert texts[0] == texts[1]
    generated = done(capsys, "generate", "--model", file, "--prompt", "桥", "--max-new-tokens", 3)
    assert len(generated["token_ids"]) == 3
    done(capsys, "import", file, "--out", tmp_path / "back")
    again = Tokenizer.load(tmp_path / "back")
    own = Tokenizer.load(run / "sft" / "model")
    assert again.chat_template == own.chat_template
    for _, text in pico_texts():
        assert again.encode(text) == own.encode(text)


def test_import_leaves_what_it_found_and_where_from(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, _ = theirs("qwen2", run, tmp_path / "theirs")
    (source / "LICENSE").write_text("be kind")
    (source / "generation_config.json").write_text('{"eos_token_id": [2, 0], "top_p": 0.8}')
    out = tmp_path / "in"
    code, shown, _ = fledge(capsys, "import", source, "--out", out, "--dtype", "bfloat16")
    assert code == 0
    for part in ("Qwen2ForCausalLM (decoder)", "byte-level BPE, lossless", "chat template  yes",
                 "written as bfloat16", "warning: weights stored as F32 are rounded"):  # fmt: skip
        assert part in shown
    manifest = json.loads((out / "import.json").read_text())
    assert set(manifest["source"]["files"]) >= {"config.json", "model.safetensors", "LICENSE"}
    assert (out / "LICENSE").read_text() == "be kind"
    assert json.loads((out / "generation_config.json").read_text())["top_p"] == 0.8
    assert load_model(out).config.eos_ids == (2, 0)
    stored = load_file(out / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    # Imported again, it keeps its type; the same input gives the same bytes.
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    fledge(capsys, "import", source, "--out", out, "--dtype", "bfloat16", "--force")
    assert first == {path.name: path.read_bytes() for path in out.iterdir()}
    assert done(capsys, "import", out, "--out", tmp_path / "twice")["dtype"] == "bfloat16"
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == [
        "in",
        "theirs",
        "twice",
    ]


def test_what_is_rounded_is_said_and_nothing_else(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(run / "sft" / "model", mixed)
    weights = {k: t.bfloat16() for k, t in load_file(mixed / "model.safetensors").items()}
    weights["model.norm.weight"] = torch.full(weights["model.norm.weight"].shape, 0.3)
    save_file(weights, mixed / "model.safetensors", metadata={"format": "pt"})
    loss = "weights stored as F32 are rounded to bfloat16"
    assert loss in done(capsys, "import", mixed, "--out", tmp_path / "in")["warnings"]
    report = done(capsys, "export", mixed, "--format", "hf", "--out", tmp_path / "out")
    assert report["notes"] == [loss]
    # Vectors are float32 in GGUF: nothing of them is lost on the way there ...
    file = tmp_path / "m.gguf"
    done(capsys, "export", mixed, "--format", "gguf", "--type", "bf16", "--out", file)
    assert torch.equal(load_gguf(file).state_dict()["norm.weight"], weights["model.norm.weight"])
    # ... but on the way from there to one type for all.
    found = done(capsys, "import", file, "--out", tmp_path / "back")
    assert set(found["stored"]) == {"BF16", "F32"}
    assert found["warnings"] == [loss]
    # Weights that the narrow type holds exactly lose nothing.
    narrow = ("import", tmp_path / "back", "--out", tmp_path / "back2", "--dtype", "float32")
    done(capsys, *narrow)
    again = done(
        capsys, "import", tmp_path / "back2", "--out", tmp_path / "last", "--dtype", "bfloat16"
    )
    assert again["warnings"] == []


def test_an_encoder_passes_through(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoModel, BertConfig, BertModel

    config = BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=40,
    )
    torch.manual_seed(1)
    model = BertModel(config).eval()
    source = tmp_path / "theirs"
    model.save_pretrained(source)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "bridge", "##s"]
    reader = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]")
    )
    reader.save(str(source / "tokenizer.json"))
    found = done(capsys, "import", source, "--out", tmp_path / "in")
    assert found["source"]["kind"] == "encoder"
    assert found["tokenizer"]["kind"] == "WordPiece"
    done(capsys, "export", tmp_path / "in", "--format", "hf", "--out", tmp_path / "out")
    ids = torch.randint(0, 60, (2, 30), generator=torch.Generator().manual_seed(2))
    again = AutoModel.from_pretrained(tmp_path / "out").eval()
    delta = again(ids).last_hidden_state - model(ids).last_hidden_state
    assert float(delta.detach().abs().max()) <= 1e-5
    code, _, err = fledge(
        capsys, "export", tmp_path / "in", "--format", "gguf", "--out", tmp_path / "m.gguf"
    )
    assert code == 2
    assert "BertModel is not written as GGUF" in err


def test_heads_that_are_left_out_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import BertConfig, BertForPreTraining

    config = BertConfig(
        vocab_size=8,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=8,
    )
    source = tmp_path / "theirs"
    BertForPreTraining(config).save_pretrained(source)
    words = {"[UNK]": 0, "the": 1}
    reader = tokenizers.Tokenizer(tokenizers.models.WordPiece(words, unk_token="[UNK]"))
    reader.save(str(source / "tokenizer.json"))
    left = "2 tensors of other heads are left out, such as cls.seq_relationship.bias"
    assert left in done(capsys, "import", source, "--out", tmp_path / "in")["warnings"]
    report = done(capsys, "export", source, "--format", "hf", "--out", tmp_path / "out")
    assert report["notes"] == [left]
    assert done(capsys, "import", tmp_path / "in", "--out", tmp_path / "b")["warnings"] == []


def broken(run: Path, folder: Path, what: str) -> Path:
    """The pico model with one thing wrong."""
    source = folder / "broken"
    shutil.copytree(run / "sft" / "model", source)
    weights = load_file(source / "model.safetensors")
    if what == "not finite":
        weights["model.norm.weight"][0] = float("inf")
        save_file(weights, source / "model.safetensors")
    if what == "missing tensor":
        del weights["model.norm.weight"]
        save_file(weights, source / "model.safetensors")
    if what == "truncated":
        content = (source / "model.safetensors").read_bytes()
        (source / "model.safetensors").write_bytes(content[: len(content) // 2])
    if what == "no tokenizer":
        (source / "tokenizer.json").unlink()
    if what == "larger tokenizer":
        reader = tokenizers.Tokenizer.from_file(str(source / "tokenizer.json"))
        reader.add_tokens(["one too many"])
        reader.save(str(source / "tokenizer.json"))
    if what == "end token":
        config = json.loads((source / "config.json").read_text())
        (source / "config.json").write_text(json.dumps(config | {"pad_token_id": 9999}))
    return source


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("not finite", "norm.weight has values that are no finite numbers"),
        ("missing tensor", "model.norm.weight is missing"),
        ("truncated", "model.safetensors cannot be read"),
        ("no tokenizer", "has no tokenizer.json"),
        ("larger tokenizer", "the tokenizer has ids up to"),
        ("end token", "pad_token_id is 9999"),
    ],
)
def test_a_broken_source_leaves_nothing_behind(
    what: str, message: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = broken(run, tmp_path, what)
    code, out, err = fledge(capsys, "import", source, "--out", tmp_path / "in")
    assert (code, out) == (2, "")
    assert message in err
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["broken"]


def test_doubts_are_warnings(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "theirs"
    shutil.copytree(run / "sft" / "model", source)
    path = source / "tokenizer_config.json"
    values = json.loads(path.read_text())
    template = "{{ raise_exception('no') }}"
    path.write_text(
        json.dumps(values | {"chat_template": template, "mask_token": {"content": "[M]"}})
    )
    reader = json.loads((source / "tokenizer.json").read_text())
    reader["normalizer"] = {"type": "Lowercase"}
    (source / "tokenizer.json").write_text(json.dumps(reader))
    warnings = done(capsys, "import", source, "--out", tmp_path / "in")["warnings"]
    assert any("mask_token '[M]' is no token" in line for line in warnings)
    assert any("chat template cannot be rendered" in line for line in warnings)
    assert any("does not give back every text" in line for line in warnings)


def test_what_is_there_is_not_lost(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "thesis.txt").write_text("three years")
    (own / "config.json").write_text("{}")  # as in many a folder that is no model
    monkeypatch.chdir(tmp_path)
    for arguments, message in (
        (["import", run, "--out", own, "--force"], "not empty and no model"),
        (["import", run, "--out", own / "thesis.txt", "--force"], "is a file"),
        (["import", run, "--out", tmp_path, "--force"], "holds the folder you stand in"),
        (["import", run, "--out", run / "sft" / "model", "--force"], "is or holds the source"),
        (["export", run, "--format", "gguf", "--out", own], "is a folder"),
        (["export", run, "--format", "hf", "--out", own, "--force"], "not empty and no model"),
        (["export", run, "--format", "gguf", "--out", own / "thesis.txt"], "is no GGUF file"),
        (
            ["export", run, "--format", "gguf", "--out", own / "thesis.txt", "--force"],
            "is no GGUF file",
        ),
    ):
        code, _, err = fledge(capsys, *arguments)
        assert (code, message in err) == (2, True), err
    assert (own / "thesis.txt").read_text() == "three years"
    killed = tmp_path / "in.partial" / "state"  # as a training leaves it that is to go on
    killed.mkdir(parents=True)
    done(capsys, "import", run, "--out", tmp_path / "in")
    assert killed.is_dir()
    code, _, err = fledge(capsys, "import", run, "--out", tmp_path / "in")
    assert code == 2
    assert "add --force" in err


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer_config.json", b"[]", "tokenizer_config.json: not an object"),
        ("tokenizer_config.json", b'{"eos_token": ["x"]}', "eos_token = ['x'] is not valid"),
        ("tokenizer_config.json", b'{"chat_template": [1]}', "chat_template = [1] is not valid"),
        ("chat_template.jinja", b"\xff", "chat_template.jinja is not UTF-8"),
    ],
)
def test_a_broken_tokenizer_file_is_named(
    file: str,
    content: bytes,
    message: str,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = tmp_path / "theirs"
    shutil.copytree(run / "sft" / "model", source)
    (source / file).write_bytes(content)
    code, _, err = fledge(capsys, "import", source, "--out", tmp_path / "in")
    assert (code, message in err) == (2, True), err
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "hf", "--type", "q8_0"], "'q8_0' is none of a Hugging Face directory"),
        (["--format", "hf", "--max-shard-size", "much"], "'much' is no size"),
        (["--format", "hf", "--tokenizer-pre", "qwen2"], "--tokenizer-pre has no meaning"),
        (["--format", "gguf", "--max-shard-size", "2GB"], "--max-shard-size has no meaning"),
        (["--format", "onnx"], "'onnx' is not one of"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    arguments: list[str],
    message: str,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, err = fledge(capsys, "export", run, *arguments, "--out", tmp_path / "x")
    assert (code, message in err) == (2, True), err
    assert not (tmp_path / "x").exists()


@pytest.mark.shared
def test_tinystories_passes_through_gguf(
    fledge_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    source = fledge_data / "checkpoints" / "tinystories-656k"
    found = done(capsys, "import", source, "--out", tmp_path / "in")
    assert found["tokenizer"]["kind"] == "SentencePiece-like BPE"
    assert found["tokenizer"]["chat_template"] is False
    assert (tmp_path / "in" / "LICENSE").is_file()
    file = tmp_path / "m.gguf"
    done(capsys, "export", tmp_path / "in", "--format", "gguf", "--type", "f32", "--out", file)
    done(capsys, "import", file, "--out", tmp_path / "back")
    done(capsys, "export", tmp_path / "back", "--format", "hf", "--out", tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(source).eval()
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    # As the file says; LlamaTokenizer of transformers 5 makes another of it.
    readers = [PreTrainedTokenizerFast.from_pretrained(p) for p in (source, tmp_path / "out")]
    texts = ["Once upon a time, there was a girl.", "  two  spaces\nand a line", "桥 café 🙂", ""]
    for text in texts:
        one, two = (reader(text)["input_ids"] for reader in readers)
        assert one == two, text
