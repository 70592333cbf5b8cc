"""Results for further use: the table of runs as text, Markdown, CSV or a data frame."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikeloom.base.extras import need
from spikeloom.records.comparison import EntryRecord
from spikeloom.report.blocks import block_of, single_lines
from spikeloom.report.columns import COLUMNS, Column, choose, fitted, of_group
from spikeloom.report.entries import Entry
from spikeloom.report.records import read_entries
from spikeloom.report.table import cells_of, entry_rows, to_markdown

if TYPE_CHECKING:
    import pandas

ABOUT: tuple[str, ...] = ("entry", "state", "block", "rule", "data", "net", "seeds")
"""Columns of `Results.rows` before the figures."""


@dataclass(frozen=True)
class Results:
    """The entries of runs and comparisons; a notebook shows them as a table.

    Args:
        entries: one per row of the table.

    Example:
        >>> Results(()).csv().partition(",")[0]
        'entry'
    """

    entries: tuple[Entry, ...]

    def rows(self) -> list[dict[str, Any]]:
        """Return one dictionary per entry: what it is, then every figure as a number.

        A figure that was not measured is None. ``<figure>_spread`` stands beside those that have
        a spread: the standard deviation over seeds, or for times half the distance of the
        quartiles where that is larger.
        """
        records = self._records()
        columns, found = fitted(COLUMNS, records), []
        for entry, record, cells in zip(
            self.entries, records, cells_of(records, columns), strict=True
        ):
            row: dict[str, Any] = dict(zip(ABOUT, _about(entry, record), strict=True))
            for place, column in enumerate(columns):
                cell = None if cells is None else cells[place]
                row[column.key] = None if cell is None else cell.value
                if column.spread:
                    row[f"{column.key}_spread"] = None if cell is None else cell.spread
            found.append(row)
        return found

    def frame(self) -> "pandas.DataFrame":
        """Return `rows` as a data frame of pandas, one row per entry.

        Raises:
            ConfigError: pandas is not installed.
        """
        need("pandas", "results", "data frames")
        import pandas

        return pandas.DataFrame.from_records(self.rows(), columns=self._names())

    def csv(self) -> str:
        """Return `rows` as CSV with a line of headings; what was not measured is empty."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self._names(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        return text.getvalue()

    def markdown(self, columns: str | None = None) -> str:
        """Return the table in Markdown.

        Args:
            columns: as ``--columns`` takes them; the main group where None.

        Raises:
            ConfigError: a column that does not exist.
        """
        return to_markdown(self._texts(choose(columns)))

    def text(self, columns: str | None = None, width: int | None = None) -> str:
        """Return the table as text, as the command prints it.

        Args:
            columns: as ``--columns`` takes them; the main group where None.
            width: in characters; None fits everything.

        Raises:
            ConfigError: a column that does not exist.
        """
        lines = single_lines(self._records(), width, choose(columns))
        return "\n".join(line.text for line in lines)

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        head, *body = self._texts(None)
        first = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        rows = (
            f"<tr><th>{escape(label)}</th>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
            for label, *cells in body
        )
        lines = "".join(f"{row}</tr>" for row in rows)
        return f"<table><thead><tr>{first}</tr></thead><tbody>{lines}</tbody></table>"

    def _texts(self, columns: Sequence[Column] | None) -> list[tuple[str, ...]]:
        return entry_rows(self._records(), columns or of_group("main"))

    def _names(self) -> list[str]:
        figures = [
            name
            for column in fitted(COLUMNS, self._records())
            for name in (column.key, f"{column.key}_spread")
            if column.spread or not name.endswith("_spread")
        ]
        return [*ABOUT, *figures]

    def _records(self) -> list[EntryRecord]:
        return [entry.record() for entry in self.entries]


def results(*folders: Path | str) -> Results:
    """Read the results of runs and comparisons.

    Args:
        folders: of runs or comparisons, or folders above them.

    Raises:
        ConfigError: no folder, one that does not exist, or one without any run.
        DataError: a record that is damaged, foreign, or of a newer format.
    """
    return Results(read_entries([Path(folder) for folder in folders]))


def _about(entry: Entry, record: EntryRecord) -> tuple[Any, ...]:
    rule, net = (entry.runs[0].rule, entry.runs[0].net) if entry.runs else (None, None)
    block = block_of(record) if entry.origin else ""
    seeds = len(entry.runs)
    return entry.label, entry.state, block, rule, entry.data, net, seeds
