"""A model by its name: a folder on disk or the URL of an OpenAI-compatible API."""

from __future__ import annotations

from fledge.client.local import LocalModel
from fledge.client.remote import RemoteModel
from fledge.core.protocols import ChatModel, Progress


def is_url(spec: str) -> bool:
    """Whether ``spec`` names a server rather than a folder."""
    return spec.startswith(("http://", "https://"))


def open_model(
    spec: str,
    *,
    model: str | None = None,
    api_key: str = "",
    progress: Progress | None = None,
) -> ChatModel:
    """The chat model that ``spec`` names.

    ``spec`` is a run, stage or Hugging Face directory, or ``http(s)://…/v1``.  ``model`` and
    ``api_key`` are for URLs; without ``model`` the first one the server lists is taken.
    ``progress`` hears when the model is computed slowly, and why.  Raises
    InputError for a folder without a model, FledgeError for a server that does not answer.
    """
    if is_url(spec):
        return RemoteModel(spec, model, api_key)
    from fledge.engine.loading import load_engine

    return LocalModel(load_engine(spec, progress=progress))
