"""Files of a sentence-transformers folder <-> ``TextSettings``: pooling, length, prompts.

No torch.  What such a folder can say and we cannot do is refused, never ignored: it would change
the vectors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fledge.core.config import parse_config
from fledge.core.errors import InputError
from fledge.core.files import read_json, write_json
from fledge.model.encoder_config import EncoderConfig, TextSettings

MODULES, LENGTH = "modules.json", "sentence_bert_config.json"
PROMPTS, POOLING = "config_sentence_transformers.json", "1_Pooling/config.json"

MODES = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}
"""Their switch -> our word."""


def transformer_folder(folder: Path) -> Path:
    """Where the weights of a folder are: itself, or what its ``modules.json`` says."""
    for module in _modules(folder):
        if _kind(module) == "Transformer":
            return folder / str(module.get("path", ""))
    return folder


def read_settings(folder: Path, config: EncoderConfig) -> TextSettings | None:
    """How ``folder`` wants texts embedded; None when it has no ``modules.json``.

    Raises InputError for modules, poolings and options that are not supported.
    """
    modules = _modules(folder)
    if not modules:
        return None
    kinds = [_kind(module) for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise InputError(
            f"{folder / MODULES}: modules {', '.join(kinds)} are not supported",
            remedy="only Transformer, Pooling and, after them, Normalize",
        )
    pooling_file = folder / str(modules[1].get("path", "")) / "config.json"
    length = _object(transformer_folder(folder) / LENGTH)
    prompts = _object(folder / PROMPTS)
    fields = {
        "pooling": {
            "how": _mode(_object(pooling_file), pooling_file),
            "normalize": kinds[-1] == "Normalize",
        },
        "max_tokens": length.get("max_seq_length") or config.context,
        "lowercase": length.get("do_lower_case", False),
        "prompts": prompts.get("prompts") or {},
        "default_prompt": prompts.get("default_prompt_name"),
    }
    settings = parse_config(TextSettings, fields, str(folder / MODULES))
    return settings.model_copy(update={"max_tokens": min(settings.max_tokens, config.context)})


def write_settings(folder: Path, settings: TextSettings, width: int) -> None:
    """Write the files that ``read_settings`` reads, as sentence-transformers does."""
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(kinds[: 2 + settings.pooling.normalize])
    ]
    write_json(folder / MODULES, modules)
    modes = {key: how == settings.pooling.how for key, how in MODES.items()}
    write_json(folder / POOLING, {"word_embedding_dimension": width, **modes})
    write_json(
        folder / LENGTH,
        {"max_seq_length": settings.max_tokens, "do_lower_case": settings.lowercase},
    )
    write_json(
        folder / PROMPTS,
        {"prompts": settings.prompts, "default_prompt_name": settings.default_prompt},
    )


def _modules(folder: Path) -> list[dict[str, Any]]:
    path = folder / MODULES
    if not path.is_file():
        return []
    modules = read_json(path)
    if not isinstance(modules, list) or not all(isinstance(part, dict) for part in modules):
        raise InputError(f"{path}: not a list of modules", remedy="mend the file")
    return modules


def _kind(module: dict[str, Any]) -> str:
    return str(module.get("type", "")).rpartition(".")[2]


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``, empty when the file is not there."""
    values = read_json(path) if path.is_file() else {}
    if not isinstance(values, dict):
        raise InputError(f"{path}: not an object", remedy="mend the file")
    return values


def _mode(values: dict[str, Any], path: Path) -> str:
    """The one pooling a ``1_Pooling/config.json`` switches on."""
    words = values.get("pooling_mode")
    if words is None:
        on = [key for key, value in values.items() if key.startswith("pooling_mode_") and value]
        words = [MODES.get(key, key.removeprefix("pooling_mode_")) for key in on]
    modes = words if isinstance(words, list) else [words]
    if len(modes) != 1 or modes[0] not in MODES.values():
        raise InputError(
            f"{path}: pooling {' + '.join(map(str, modes)) or 'none'} is not supported",
            remedy=f"one of {', '.join(MODES.values())}",
        )
    if not values.get("include_prompt", True):
        raise InputError(f"{path}: include_prompt = false is not supported", remedy="only true")
    return str(modes[0])
