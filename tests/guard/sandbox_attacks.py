"""All attacks on a sandbox."""

from __future__ import annotations

from attacks_inward import DISK, ESCAPES, KERNEL, MEMORY, OUTPUT, TIME
from attacks_outward import FILES, NETWORK, PROCESSES

ATTACKS = [*FILES, *NETWORK, *PROCESSES, *MEMORY, *DISK, *TIME, *OUTPUT, *ESCAPES, *KERNEL]
