"""What code in a sandbox may use."""

from __future__ import annotations

from pydantic import Field

from fledge.core.config import Config


class SandboxLimits(Config):
    """Bounds of one piece of code; its time is given with each call."""

    memory_bytes: int = Field(default=512 << 20, ge=16 << 20)
    """Memory the code may take, its Python included (about 40 MB; numpy 250 MB of addresses)."""

    disk_bytes: int = Field(default=16 << 20, ge=0)
    """Files in the scratch folder, in all.  They lie in memory and are gone afterwards."""

    files: int = Field(default=1024, ge=8)
    """Files and folders in the scratch folder."""

    open_files: int = Field(default=64, ge=16)
    """Files, pipes and the like that may be open at the same time."""

    threads: int = Field(default=16, ge=1)
    """Threads, the first included (bubblewrap; the other kinds have one)."""

    output_bytes: int = Field(default=64 << 10, ge=0)
    """Kept of stdout, and of stderr; what comes after it is dropped."""

    code_bytes: int = Field(default=1 << 20, ge=0)
    """The longest code that is taken."""

    packages: tuple[str, ...] = ("numpy",)
    """Installed packages that full Python may import, where they are installed."""
