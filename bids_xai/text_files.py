"""The one reader of text files and of JSON: UTF-8 with or without a byte order mark, any line ends."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bids_xai.errors import InputError

_OTHER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def read_text(path: str | os.PathLike[str], what: str = "the file", remedy: str = "correct the file") -> str:
    r"""Return the text of a file in UTF-8; a byte order mark is no part of it, every line ends in ``\n``.

    Parameters
    ----------
    path
        A regular file; a pipe or a device would be waited for.
    what
        What it is, for messages: ``"the events file"``.
    remedy
        What to do where it cannot be read.

    Raises
    ------
    InputError
        If the file is missing, cannot be read, or is not text in UTF-8; the line is named.
    """
    path = Path(path)
    name = f"{what[0].upper()}{what[1:]} {path}"
    if not path.is_file():
        if path.is_symlink():
            raise InputError(
                f"{name} does not exist (a link whose content is not here).",
                "the file itself",
                "fetch it with 'datalad get' or 'git annex get'",
            )
        found = "is not a regular file" if path.exists() else "does not exist"
        raise InputError(f"{name} cannot be read: it {found}.", "a text file", remedy)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{name} cannot be read: {error.strerror or error}.", "a text file", remedy
        ) from error
    encoding = _OTHER_MARKS.get(content[:2])
    if encoding is not None:
        raise InputError(f"{name} cannot be read: it is in {encoding}.", "text in UTF-8", "save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{name} cannot be read: line {line} holds the byte 0x{content[error.start]:02x}, which is not "
            "UTF-8.",
            "text in UTF-8",
            "save it as UTF-8",
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{name} cannot be read: line {line} holds a NUL.", "a text file", remedy)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def read_json(
    path: str | os.PathLike[str], what: str = "the JSON file", remedy: str = "correct the file"
) -> Any:
    """Return the content of a JSON file (:func:`read_text`).

    Raises
    ------
    InputError
        If it cannot be read or is not JSON; the line is named.
    """
    text = read_text(path, what, remedy)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        # Of a number of very many digits Python says no more than a ValueError, of deep nesting this.
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(
            f"{what[0].upper()}{what[1:]} {path} is not valid JSON: {reason}.", "a JSON file", remedy
        ) from error


def read_json_object(
    path: str | os.PathLike[str], what: str = "the JSON file", remedy: str = "correct the file"
) -> dict[str, Any]:
    """Return the content of a JSON file that holds an object (:func:`read_json`); else InputError."""
    content = read_json(path, what, remedy)
    if not isinstance(content, dict):
        raise InputError(
            f"{what[0].upper()}{what[1:]} {path} holds a {type(content).__name__}.",
            'a JSON object, {"key": value}',
            remedy,
        )
    return content
