"""What an answer must look like, compiled: the forms an application asks for again and again."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING

from fledge.core.protocols import Structure
from fledge.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:  # llguidance is imported only when a form is asked for
    from fledge.engine.grammar import Grammar, Grammars

KEPT = 32
"""Compiled forms that are remembered."""


class Forms:
    """Compiles structures for one tokenizer; the latest are kept."""

    def __init__(self, tokenizer: Tokenizer, stop_ids: frozenset[int], vocabulary: int) -> None:
        self._parts = tokenizer, stop_ids, vocabulary
        self._compiled: dict[str, Grammar] = {}  # the oldest first

    @cached_property
    def grammars(self) -> Grammars:
        """The compiler itself."""
        from fledge.engine.grammar import Grammars

        return Grammars(*self._parts)

    def compiled(self, structure: Structure) -> Grammar:
        """The grammar of a structure; raises InputError for what can never be met."""
        # The order of a schema's properties is that of the answer's, so it is part of the key.
        key = json.dumps([structure.kind, structure.value], default=str)
        if key not in self._compiled:
            self._compiled[key] = self._compile(structure)
            if len(self._compiled) > KEPT:
                del self._compiled[next(iter(self._compiled))]
        return self._compiled[key]

    def _compile(self, structure: Structure) -> Grammar:
        if structure.kind != "tools":
            found: Grammar = getattr(self.grammars, structure.kind)(structure.value)
            return found
        from fledge.engine.tool_grammar import tool_calls

        wish = structure.value
        return tool_calls(
            self.grammars,
            wish["tools"],
            choice=wish.get("choice", "auto"),
            parallel=wish.get("parallel", True),
        )
