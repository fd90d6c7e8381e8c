r"""The one reader and the one writer of tables, as BIDS defines TSV.

Cells are separated by tabs, lines by ``\n``, ``\r\n`` or ``\r``; nothing is quoted, no sign begins a comment,
a missing value is ``n/a``. White space around a cell or a column's name is no part of it, and empty cells
behind the last column (tabs at a line's end) are none. Source: BIDS 1.10, "Tabular files", but for its rule
that a cell with a tab is quoted: software that quotes and software that does not disagree about every
quotation mark.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bids_xai.errors import InputError
from bids_xai.registry import nearest_name
from bids_xai.text_files import read_text

# What stands for a missing value, in lower case.
MISSING = frozenset({"n/a", "", "nan"})
# Columns of labels: text even where all of it is digits.
LABELS = (
    "subject", "session", "task", "run", "trial_type", "class", "fold", "kind", "scope", "true",
    "predicted", "method", "atlas", "region", "group", "metric", "mode", "layer", "class_a", "class_b",
    "other", "model", "participant_id", "session_id", "filename",
)  # fmt: skip
_MOST_LISTED = 30
# Numbers are read to the last bit; pandas does so by itself from 3.1 on, and warns of being asked.
_EXACT: dict[str, Any] = (
    {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
)
_LEADING_ZERO = re.compile(r"[+-]?0[0-9]")
_ZEROS_IN_TEXT = re.compile(rf"(?:^|\t)\s*{_LEADING_ZERO.pattern}", re.MULTILINE)
_BREAKS = re.compile(r"[\t\n\r]")


@dataclass(frozen=True)
class Table:
    """A table as text.

    Parameters
    ----------
    path
        The file.
    names
        Names of the columns, in their order.
    rows
        The lines of the rows, each of ``len(names)`` cells.
    lines
        Number of each row's line in the file, counted from 1.
    """

    path: Path
    names: tuple[str, ...]
    rows: list[str]
    lines: list[int]

    def column(self, name: str, remedy: str = "") -> list[str]:
        """Return the cells of a column, without white space around them.

        Parameters
        ----------
        name
            Of the column.
        remedy
            What to do where it is missing and no other is named alike.

        Raises
        ------
        InputError
            If there is no such column, or more than one.
        """
        return self.columns([name], remedy)[name]

    def columns(self, names: Sequence[str], remedy: str = "") -> dict[str, list[str]]:
        """Return the cells of several columns by name (:meth:`column`)."""
        for name in names:
            if self.names.count(name) != 1:
                raise self._missing(name, remedy)
        places = [self.names.index(name) for name in names]
        cells: list[list[str]] = [[] for _ in names]
        for row in self.rows:
            parts = row.split("\t")
            for column, place in zip(cells, places, strict=True):
                column.append(parts[place].strip())
        return dict(zip(names, cells, strict=True))

    def _missing(self, name: str, remedy: str) -> InputError:
        if name in self.names:
            return InputError(
                f"{self.path} has {self.names.count(name)} columns {name!r}.",
                "names that differ",
                "rename all but one of them",
            )
        more = ", ..." if len(self.names) > _MOST_LISTED else ""
        return InputError(
            f"{self.path} has no column {name!r}.",
            f"one of its columns: {', '.join(self.names[:_MOST_LISTED])}{more}",
            nearest_name(name, self.names) or remedy,
        )


def read_table(path: str | os.PathLike[str], what: str = "the table") -> Table:
    """Read a table as text.

    Parameters
    ----------
    path
        A TSV file.
    what
        What it is, for messages: ``"the events file"``.

    Raises
    ------
    InputError
        If it cannot be read (:func:`bids_xai.text_files.read_text`), has no names of columns, or a row has
        fewer or more cells than columns; the line is named.
    """
    lines = read_text(path, what, "correct the file: columns are separated by tabs").split("\n")
    names = [name.strip() for name in lines[0].split("\t")]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise InputError(
            f"{what[0].upper()}{what[1:]} {path} cannot be read: its first line is empty.",
            "names of columns, separated by tabs",
            "correct the file",
        )
    rows, numbers = [], []
    for number, line in enumerate(lines[1:], start=2):
        # A line of nothing but white space, as spreadsheets leave them at the end, is no row.
        if not line or line.isspace():
            continue
        n_extra = line.count("\t") + 1 - len(names)
        if n_extra:
            line = _fitted(line, n_extra, names, path, number)  # noqa: PLW2901
        rows.append(line)
        numbers.append(number)
    return Table(Path(path), tuple(names), rows, numbers)


def _fitted(line: str, n_extra: int, names: Sequence[str], path: str | os.PathLike[str], number: int) -> str:
    """Return a line without the empty cells behind the last column; others do not fit."""
    cells = line.split("\t")
    if n_extra < 0 or any(cell.strip() for cell in cells[len(names) :]):
        raise InputError(
            f"{path} has {len(cells)} cells in line {number} and names {len(names)} columns.",
            f"{len(names)} cells, separated by tabs: {', '.join(names[:_MOST_LISTED])}",
            "correct the line (n/a is a value that is missing; quotation marks do not join cells)",
        )
    return "\t".join(cells[: len(names)])


def read_frame(
    path: str | os.PathLike[str], what: str = "the table", labels: Iterable[str] = ()
) -> pd.DataFrame:
    """Read a table with the types of its columns.

    Parameters
    ----------
    path, what
        See :func:`read_table`.
    labels
        Columns that are text whatever is in them, besides :data:`LABELS`.

    Returns
    -------
    DataFrame
        Labels as text; of the other columns those of numbers as such, unless one is written as labels are,
        with zeros before it (``01``). Missing values (:data:`MISSING`) are NaN.

    Raises
    ------
    InputError
        See :func:`read_table`; or if two columns have one name.
    """
    table = read_table(path, what)
    doubled = next((name for name in table.names if table.names.count(name) > 1), None)
    if doubled is not None:
        raise table._missing(doubled, "")
    text = "\n".join(table.rows)
    as_text = [name for name in table.names if name in {*LABELS, *labels}]
    if _ZEROS_IN_TEXT.search(text):
        as_text += [
            name
            for name in table.names
            if name not in as_text and any(map(_LEADING_ZERO.match, table.column(name)))
        ]
    frame = pd.read_csv(
        io.StringIO(text),
        sep="\t",
        names=list(table.names),
        dtype=dict.fromkeys(as_text, str),
        quoting=csv.QUOTE_NONE,
        keep_default_na=False,
        na_values=["n/a", "N/A", "nan", "NaN", ""],
        **_EXACT,
        skip_blank_lines=False,
        index_col=False,
    )
    for name in frame.select_dtypes(object):
        frame[name] = frame[name].map(lambda cell: cell.strip() if isinstance(cell, str) else cell)
    return frame


def write_frame(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write the text of a table (:func:`tsv_text`)."""
    Path(path).write_text(tsv_text(frame), encoding="utf-8", newline="\n")


def tsv_text(frame: pd.DataFrame) -> str:
    """Return the text of a table without its index; what is missing is ``n/a``.

    Raises
    ------
    InputError
        If a name or a cell holds a tab or a line break, which no cell can hold.
    """
    for name in frame.columns:
        cells = [str(name)]
        if frame[name].dtype == object or isinstance(frame[name].dtype, pd.CategoricalDtype | pd.StringDtype):
            cells += [cell for cell in frame[name].unique() if isinstance(cell, str)]
        broken = next((cell for cell in cells if _BREAKS.search(cell)), None)
        if broken is not None:
            raise InputError(
                f"A table's column {name!r} would hold {broken!r}.",
                "text without tabs and line breaks, which no cell of a table can hold",
                "rename what is called so",
            )
    # A line of one empty cell would be no row.
    single = frame.replace("", pd.NA) if frame.shape[1] == 1 else frame
    return str(
        single.to_csv(None, sep="\t", index=False, na_rep="n/a", lineterminator="\n", quoting=csv.QUOTE_NONE)
    )


def is_missing(cell: str) -> bool:
    """Tell whether a cell stands for a missing value: ``n/a``, ``nan`` or nothing, in any case."""
    return len(cell) < 4 and cell.lower() in MISSING


def number(cell: str) -> float:
    """Return a cell as a number; NaN if it is none. The decimal sign is the point, digits are 0 to 9."""
    try:
        value = float(cell)
    except ValueError:
        return math.nan
    # Python also reads 1_000 and the digits of other scripts.
    return value if cell.isascii() and "_" not in cell else math.nan


def alike_text(levels: Iterable[str]) -> str:
    """Return the groups of :func:`alike` as a text, empty if there are none."""
    return "; ".join(" and ".join(map(repr, group)) for group in alike(map(str, levels)))


def typed(cells: Sequence[str]) -> list[float] | list[str]:
    """Return cells as numbers where all are, and none is written as labels are (``01``); else as they are."""
    values = [number(cell) for cell in cells]
    if all(map(math.isfinite, values)) and not any(map(_LEADING_ZERO.match, cells)):
        return values
    return list(cells)


def alike(levels: Iterable[str]) -> list[list[str]]:
    """Return the groups of levels that differ only in how they are written.

    That is in case, white space, quotation marks around them, the composition of accents, or as ``1``,
    ``1.0`` and ``01`` do.

    Returns
    -------
    list of lists
        Groups of two and more levels, sorted.
    """
    groups: dict[str | float, list[str]] = defaultdict(list)
    for level in sorted(set(levels)):
        plain = re.sub(r"\s", "", unicodedata.normalize("NFKC", level).casefold()).strip("\"'")
        value = number(plain)
        groups[value if math.isfinite(value) else plain].append(level)
    return [group for group in groups.values() if len(group) > 1]
