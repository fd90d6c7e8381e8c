"""A published work, as a list of references and BibTeX spell it."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """One published work.

    Parameters
    ----------
    short
        Author and year, as in a running text.
    authors
        ``Family, Given`` joined by `` and ``, as BibTeX has them.
    title, venue, year
        Title; journal, proceedings or publisher; year.
    where
        Volume, issue and pages as they are printed.
    doi
        Digital object identifier, if there is one.
    kind
        Type of the BibTeX entry.
    """

    short: str
    authors: str
    title: str
    venue: str
    year: int
    where: str = ""
    doi: str = ""
    kind: str = "article"

    def text(self) -> str:
        """Return the entry of a list of references."""
        authors = self.authors.replace(" and ", "; ")
        where = f" {self.where}" if self.where else ""
        link = f" https://doi.org/{self.doi}" if self.doi else ""
        return f"{authors} ({self.year}). {self.title}. {self.venue}{where}.{link}"

    def bibtex(self, key: str) -> str:
        """Return the BibTeX entry."""
        venue = {"article": "journal", "inproceedings": "booktitle"}.get(self.kind, "publisher")
        volume, _, pages = self.where.partition(":")
        fields = {
            "author": self.authors, "title": f"{{{self.title}}}", venue: self.venue, "year": str(self.year),
            "volume": volume, "pages": pages.replace("–", "--"), "doi": self.doi,
        }  # fmt: skip
        lines = [f"  {name} = {{{_latex(value)}}}" for name, value in fields.items() if value]
        return f"@{self.kind}{{{key},\n" + ",\n".join(lines) + "\n}\n"


def _latex(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    return text.replace("&", r"\&")
