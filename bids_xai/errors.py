"""Errors that are the user's to mend."""

from __future__ import annotations


class InputError(ValueError):
    """Wrong usage or input: the command line prints it and exits with code 2.

    Parameters
    ----------
    found
        What was received, and in which file.
    expected
        What was expected instead.
    remedy
        What the user can do about it.
    """

    def __init__(self, found: str, expected: str = "", remedy: str = "") -> None:
        self.found, self.expected, self.remedy = found, expected, remedy
        parts = [found]
        if expected:
            parts.append(f"Expected: {expected}")
        if remedy:
            parts.append(f"What to do: {remedy}")
        super().__init__("\n  ".join(parts))

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        # Exceptions travel between processes: rebuild from the parts, not from the joined text.
        return type(self), (self.found, self.expected, self.remedy)
