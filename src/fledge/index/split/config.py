"""How documents are cut into chunks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fledge.core.config import Config

Strategy = Literal[
    "auto", "heading", "recursive", "sentence", "tokens", "code", "semantic", "hierarchical"
]


class SplitConfig(Config):
    """Sizes are in tokens: a word of up to six letters, three digits, a Chinese character."""

    strategy: Strategy = "auto"
    """auto: code for source code, recursive for the rest.  heading: no chunk crosses a heading.
    recursive: breaks at headings, paragraphs, lines, sentences, clauses, whichever is strongest.
    sentence: as many whole sentences as fit.  tokens: equal sizes.  code: breaks between
    definitions.  semantic: breaks where the sense changes, by an embedder.  hierarchical: auto,
    in several sizes, the smaller chunks inside the larger ones."""
    size: int = Field(default=200, ge=1)
    """The most tokens of a chunk."""
    overlap: int = Field(default=0, ge=0)
    """Tokens that a chunk repeats from the one before, at most; whole sentences but for tokens."""
    sizes: tuple[int, ...] = (800, 200)
    """Of hierarchical: the most tokens of a chunk on each level, the outermost first."""
    threshold: float = Field(default=0.9, gt=0, lt=1)
    """Of semantic: the share of neighbouring sentences that are nearer in sense than a break."""

    @model_validator(mode="after")
    def _consistent(self) -> SplitConfig:
        if self.overlap * 2 > self.size:
            raise ValueError(f"overlap ({self.overlap}) must be at most half of size ({self.size})")
        falling = all(one > other for one, other in zip(self.sizes, self.sizes[1:], strict=False))
        if len(self.sizes) < 2 or not falling or self.sizes[-1] < 1:
            raise ValueError("sizes must be two or more, each larger than the next")
        return self
