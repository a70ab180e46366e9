"""Errors a user can act on: what is wrong (file, key, value) and the remedy, in one line."""

from __future__ import annotations


class FledgeError(Exception):
    """Something failed while running.  Exit code 1.

    ``message`` names the file, key or value; ``remedy`` says what to do about it.
    """

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class InputError(FledgeError):
    """The caller's usage or input is wrong: an option, a recipe, a file.  Exit code 2."""

    exit_code = 2
