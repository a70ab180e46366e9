"""fledge raises a language model you own: from raw pages to an assistant that can be audited.

``import fledge`` stays light: nothing heavy is imported until a function needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fledge.engine import Engine
    from fledge.model import Decoder

__version__ = "0.1.0"
__all__ = ["__version__", "load_engine", "load_model"]


def load_model(path: str) -> Decoder:
    """A torch module from a checkpoint: ``model(ids (B,T)) -> logits (B,T,V)``.

    ``path`` is a Hugging Face directory, a stage directory or a run directory.
    """
    from fledge.model import load_model as load

    return load(path)


def load_engine(path: str) -> Engine:
    """An engine that generates text from the checkpoint at ``path`` (as in ``load_model``)."""
    from fledge.engine import load_engine as load

    return load(path)
