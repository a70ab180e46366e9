"""``fledge ppo``: better answers by a critic that says what to expect."""

from __future__ import annotations

from fledge.cli.reinforce import door

command = door("ppo", "Train with a critic (PPO); the checkpoint is OUT/model.")
