"""What all records share: frozen, strict about types of values, open to keys of other versions.

Files come from anywhere, so ranges are part of the types: what was read can be shown, and used
without further checks. Keys that older versions did not write have defaults; keys that are not
known here are kept, and written again.
"""

from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")

LARGEST = 1e30
"""Largest magnitude of a figure: sums and ratios of such are finite too."""

Amount = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Positive = Annotated[int, Field(ge=1, le=10**9)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Many = Annotated[tuple[T, ...], Field(strict=False)]
"""A list in JSON; only the list itself may come as another sequence, not its values."""
Quartiles = Annotated[tuple[Number, Number], Field(strict=False)]


class Part(BaseModel):
    """Base of all records and their parts: a value with named fields, never changed."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    @classmethod
    def of(cls, source: object, **others: Any) -> Self:
        """Return a record of what `source` has under the names of its fields, and of `others`."""
        taken = {name: getattr(source, name) for name in cls.model_fields if hasattr(source, name)}
        return cls(**(taken | others))

    def __getitem__(self, key: str) -> Any:
        """Return a value by its key in JSON: a record can be read as its file is.

        Raises:
            KeyError: the file would not have it. Its default, if it has one, is an attribute.
        """
        if key in self:
            return getattr(self, key)
        raise KeyError(key)

    def __contains__(self, key: str) -> bool:
        """Whether the file would have that key."""
        return key in self._given

    @property
    def _given(self) -> set[str]:
        return self.model_fields_set | set(self.model_extra or ())

    def table(self) -> dict[str, Any]:
        """Return the content for JSON: what was given or read, without defaults."""
        return self.model_dump(mode="json", exclude_unset=True)

    def with_only(self, *, without: tuple[str, ...] = (), **changes: Any) -> Self:
        """Return a copy that lacks some keys and has others changed."""
        kept = {key: part for key, part in self if key in self and key not in without}
        return type(self).model_validate(kept | changes)
