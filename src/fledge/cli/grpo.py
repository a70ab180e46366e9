"""``fledge grpo``: better answers by comparing several to each prompt."""

from __future__ import annotations

from fledge.cli.reinforce import door

command = door("grpo", "Train by comparing answers (GRPO, RLOO); the checkpoint is OUT/model.")
