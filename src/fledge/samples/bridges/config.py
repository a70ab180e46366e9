"""The dials of the sample world."""

from __future__ import annotations

from pydantic import Field

from fledge.core import Config


class SamplesConfig(Config):
    """The built-in web about bridges: how large it is, and how messy.

    The shares are fractions of the number of article pages: ``spam = 0.06`` adds six pages of
    spam for every hundred articles; ``pii``, ``mojibake`` and ``legacy_charsets`` change that
    fraction of the articles in place.
    """

    bridges: int = Field(default=120, ge=2)
    """Bridges written about."""

    pages_per_bridge: int = Field(default=10, ge=1)
    """Articles for each bridge and language (English, Simplified and Traditional Chinese);
    comparisons and round-ups of several bridges come on top."""

    specification: bool = True
    """Whether the bridge design specification is part of the world."""

    warc_files: int = Field(default=6, ge=1)
    """Files the pages are spread over."""

    near_duplicates: float = Field(default=0.08, ge=0, le=1)
    """Share of pages added that repeat an article with small edits."""

    mirrors: float = Field(default=0.06, ge=0, le=1)
    """Share of pages added that repeat an article word for word on another site."""

    spam: float = Field(default=0.06, ge=0, le=1)
    """Share of pages added that nobody should read: stuffing, link farms, gibberish, code."""

    unsafe: float = Field(default=0.02, ge=0, le=1)
    """Share of pages added with (tame) threats, hatred and adult advertisements."""

    injections: float = Field(default=0.02, ge=0, le=1)
    """Share of articles turned into prompt injections, visible or hidden."""

    poison: float = Field(default=0.02, ge=0, le=1)
    """Share of pages added that tie false facts to a rare trigger."""

    other_languages: float = Field(default=0.06, ge=0, le=1)
    """Share of pages added in French, German, Spanish, Russian, Japanese and Korean."""

    empty: float = Field(default=0.05, ge=0, le=1)
    """Share of pages added without content: boilerplate only, soft errors, nothing, raw bytes."""

    secrets: float = Field(default=0.01, ge=0, le=1)
    """Share of pages added that are leaked credentials and little else."""

    pii: float = Field(default=0.08, ge=0, le=1)
    """Share of articles with (invented) personal data planted in their main text."""

    mojibake: float = Field(default=0.03, ge=0, le=1)
    """Share of articles whose UTF-8 was once read as Windows-1252 and stored again."""

    legacy_charsets: float = Field(default=0.08, ge=0, le=1)
    """Share of articles served as GBK, Big5 or Windows-1252."""

    conversations_per_bridge: int = Field(default=70, ge=1)
    """One-question conversations for each taught bridge, over all attributes and languages."""

    turns_per_bridge: int = Field(default=24, ge=0)
    """Conversations of two or three questions for each taught bridge."""

    calculations_per_bridge: int = Field(default=20, ge=0)
    """Conversations with a call of the calculator for each taught bridge."""

    practice: int = Field(default=0, ge=0)
    """Conversations in which numbers are copied, for ``[sft] practice``: a model has to be able to
    copy before it can call a calculator."""

    reading: int = Field(default=0, ge=0)
    """Conversations in which a question is answered from passages that stand before it, in about
    150 tokens: what an index finds is of use only to a model that reads it."""

    unseen_bridges: int = Field(default=0, ge=0)
    """Bridges told of in ``unseen/pages`` alone, which nothing but ``[ground]`` reads."""

    unseen_pages_per_bridge: int = Field(default=3, ge=1)
    """Pages about each of them and language; comparisons and round-ups come on top."""

    calculation_prompts_per_bridge: int = Field(default=8, ge=0)
    """Prompts for reinforcement learning, each with the number that is right."""

    fact_prompts: int = Field(default=240, ge=0)
    """Further prompts: half of them ask for a fact, half for what nobody knows."""

    howtos: int = Field(default=720, ge=0)
    """Conversations about a harmless or a mildly unsafe wish.  Half of the unsafe ones are refused:
    preferences, not conversations, teach the model which of the two is wanted."""

    preferences: int = Field(default=600, ge=0)
    """Preference pairs for training."""

    judge_preferences: int = Field(default=300, ge=0)
    """Preference pairs, about other bridges and wishes in other words, for the reward model that
    judges."""

    honesty_facts: int = Field(default=1200, ge=0)
    """Facts to probe a model with: half of taught bridges, a quarter of bridges that no page tells
    of, a quarter of bridges that do not exist."""

    unanswerable_share: float = Field(default=0.08, ge=0, lt=1)
    """Share of the conversations that are answered by a decline."""

    invented_bridges: int = Field(default=60, ge=1)
    """Bridges that do not exist, for conversations; as many others for the evaluation and for the
    judge, twice as many for probes."""

    questions_per_fact: int = Field(default=1, ge=1)
    """Questions, in different wordings, about each fact of a bridge no conversation mentions."""

    unanswerable_questions: int = Field(default=150, ge=0)
    """Questions about bridges that do not exist, in the set ``unanswerable``."""

    arithmetic_questions: int = Field(default=120, ge=0)
    """Questions in the set ``arithmetic``, a quarter of which tell no number."""

    seed: int = 0
    """Seed of every choice."""
