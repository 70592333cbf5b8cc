"""Citations of methods as data, so that a run can print its bibliography."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Citation:
    """One source.

    Args:
        authors: as usually cited, e.g. "Xiao et al.".
        title: full title.
        venue: journal or conference.
        year: of publication.
        link: DOI or arXiv number.
    """

    authors: str
    title: str
    venue: str
    year: int
    link: str = ""

    def __str__(self) -> str:
        tail = f" {self.link}" if self.link else ""
        return f"{self.authors} ({self.year}). {self.title}. {self.venue}.{tail}"
