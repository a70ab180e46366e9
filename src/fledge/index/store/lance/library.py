"""LanceDB, imported when it is first needed (seconds), with a clear word when it is missing."""

from __future__ import annotations

from typing import Any

from fledge.core.errors import InputError


def lancedb() -> Any:
    """The package ``lancedb``."""
    try:
        import lancedb as library
        import lancedb.query  # an attribute only once it is imported
    except ImportError:
        raise InputError(
            'store = "lance" needs the package lancedb, which is not installed',
            remedy="pip install 'fledge[lance]', or use store = \"sqlite\"",
        ) from None
    return library
