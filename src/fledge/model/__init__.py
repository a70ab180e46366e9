"""Decoder and encoder, LoRA and quantized layers, and weights in and out (Hugging Face, GGUF)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.model.cache import KVCache as KVCache
    from fledge.model.checkpoint import load_model as load_model
    from fledge.model.checkpoint import save_model as save_model
    from fledge.model.config import ModelConfig as ModelConfig
    from fledge.model.config import RopeScaling as RopeScaling
    from fledge.model.config import derive as derive
    from fledge.model.decoder import Decoder as Decoder
    from fledge.model.encoder import Encoder as Encoder
    from fledge.model.encoder_checkpoint import load_classifier as load_classifier
    from fledge.model.encoder_checkpoint import load_encoder as load_encoder
    from fledge.model.encoder_checkpoint import save_encoder as save_encoder
    from fledge.model.encoder_config import EncoderConfig as EncoderConfig
    from fledge.model.encoder_config import Pooling as Pooling
    from fledge.model.encoder_config import TextSettings as TextSettings
    from fledge.model.encoder_heads import Classifier as Classifier
    from fledge.model.encoder_heads import MaskedLM as MaskedLM
    from fledge.model.locate import find_checkpoint as find_checkpoint
    from fledge.model.lora import add_lora as add_lora
    from fledge.model.lora import lora_disabled as lora_disabled
    from fledge.model.lora import merge_lora as merge_lora
    from fledge.model.lora import remove_lora as remove_lora
    from fledge.model.lora_checkpoint import load_lora as load_lora
    from fledge.model.lora_checkpoint import save_lora as save_lora
    from fledge.model.lora_config import LoraConfig as LoraConfig
    from fledge.model.quantized import quantize_linears as quantize_linears
    from fledge.model.static_encoder import StaticEncoder as StaticEncoder
    from fledge.model.text_encoder import PairScorer as PairScorer
    from fledge.model.text_encoder import TextEncoder as TextEncoder

__all__ = [
    "Classifier",
    "Decoder",
    "Encoder",
    "EncoderConfig",
    "KVCache",
    "LoraConfig",
    "MaskedLM",
    "ModelConfig",
    "PairScorer",
    "Pooling",
    "RopeScaling",
    "StaticEncoder",
    "TextEncoder",
    "TextSettings",
    "add_lora",
    "derive",
    "find_checkpoint",
    "load_classifier",
    "load_encoder",
    "load_lora",
    "load_model",
    "lora_disabled",
    "merge_lora",
    "quantize_linears",
    "remove_lora",
    "save_encoder",
    "save_lora",
    "save_model",
]

__getattr__ = facade(
    __name__,
    {
        "Classifier": "encoder_heads",
        "Decoder": "decoder",
        "Encoder": "encoder",
        "EncoderConfig": "encoder_config",
        "KVCache": "cache",
        "LoraConfig": "lora_config",
        "MaskedLM": "encoder_heads",
        "ModelConfig": "config",
        "PairScorer": "text_encoder",
        "Pooling": "encoder_config",
        "RopeScaling": "config",
        "StaticEncoder": "static_encoder",
        "TextEncoder": "text_encoder",
        "TextSettings": "encoder_config",
        "add_lora": "lora",
        "derive": "config",
        "find_checkpoint": "locate",
        "load_classifier": "encoder_checkpoint",
        "load_encoder": "encoder_checkpoint",
        "load_lora": "lora_checkpoint",
        "load_model": "checkpoint",
        "lora_disabled": "lora",
        "merge_lora": "lora",
        "quantize_linears": "quantized",
        "remove_lora": "lora",
        "save_encoder": "encoder_checkpoint",
        "save_lora": "lora_checkpoint",
        "save_model": "checkpoint",
    },
)
