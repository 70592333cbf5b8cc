"""The input of a net: the data of a recipe, described so that a run opens without them."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

import torch
from pydantic import model_validator

from spikeloom.base.checks import Length, above, at_least
from spikeloom.base.errors import ConfigError, DataError, addressed
from spikeloom.data import DATA, Samples, Scaling, Splits, load_data
from spikeloom.data.decode import Fit, Reading
from spikeloom.data.units import WHITE, WHOLE, is_whole
from spikeloom.program.recipe import Recipe
from spikeloom.program.tables import Strict
from spikeloom.records import storage

READ_ONCE = 3
"""First format of inputs.json whose pictures training and `predict` read alike."""

OLDER_READING = Reading(fit="crop", ground="none")
"""How training read pictures before that: it dropped transparency."""

_KINDS = {str(one).removeprefix("torch."): one for one in WHOLE}


class StoredScaling(Strict):
    """`Scaling` on disk."""

    peak: Annotated[float, above(0)] = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    time: bool = False


class StoredReading(Strict):
    """`Reading` on disk."""

    fit: Fit
    ground: str
    range: tuple[float, ...] | None = None


class Inputs(Strict):
    """What a net was trained on, as far as a prediction needs it: the content of inputs.json.

    Args:
        format: version of the run folder.
        data: name of the set.
        in_shape: shape of one sample as stored.
        classes: K.
        real: whether targets are K real numbers instead of classes.
        labels: names of the classes; empty where unknown.
        stored: type of the samples: a type of whole numbers, "bool", or "float" for all floats.
        scaling: how stored values became network input.
        bounded: whether grey levels: none of the samples lies outside 0..peak.
        reading: how pictures became samples; None where they were no picture files.
    """

    format: int
    data: str
    in_shape: Annotated[tuple[Annotated[int, at_least(1)], ...], Length(1, "size", 8)]
    classes: Annotated[int, at_least(1, most=10**6)]
    real: bool = False
    labels: tuple[str, ...] = ()
    stored: Literal["bool", "uint8", "int8", "int16", "int32", "int64", "float"] = "float"
    scaling: StoredScaling = StoredScaling()
    bounded: bool = True
    reading: StoredReading | None = None

    @model_validator(mode="after")
    def _enough(self) -> "Inputs":
        at_least(1 if self.real else 2).check("classes", self.classes)
        return self

    @property
    def whole(self) -> bool:
        """Whether the samples are stored as whole numbers or booleans."""
        return self.stored != "float"

    @property
    def older(self) -> bool:
        """Whether training and `predict` read pictures in two ways when the run was made."""
        return self.format < READ_ONCE

    def build_scaling(self) -> Scaling:
        """Return the scaling as a `data.Scaling`."""
        return Scaling(**self.scaling.model_dump())

    def build_reading(self) -> Reading | None:
        """Return the reading of the run's pictures; older runs have their own.

        None where there are none, or where older pictures were opaque, so that all readings agree.
        """
        if self.reading is not None:
            return Reading(**self.reading.model_dump())
        known = DATA.find(self.data).options if self.data in DATA.names() else ()
        return OLDER_READING if self.older and "ground" in known else None

    def check_depth(self, where: str, *, whole: bool) -> None:
        """Refuse pictures of more than 8 bits for a run that read them in another way.

        Raises:
            DataError: the run is an older one, which kept the high byte of 16 bits.
        """
        if self.older and self.build_reading() is not None and self.whole and not whole:
            raise DataError.of(
                where,
                "pictures of 8 bits",
                "16 bits or floats",
                "this run is of an older spikeloom, which kept only the high byte of 16 bits; "
                "train again",
            )

    def check_same(self, where: str, splits: Splits) -> None:
        """Refuse to go on with data that are not those the run began on, or are read otherwise.

        Raises:
            DataError: shape, classes, type, scaling or reading of pictures differ.
        """
        now = Inputs.model_validate(describe_inputs(splits))
        scaling, reading = self.scaling, self.build_reading()
        if self.older:  # which did not say
            scaling = scaling.model_copy(update={"time": now.scaling.time})
        pairs = [
            ("in_shape", self.in_shape, now.in_shape),
            ("classes", self.classes, now.classes),
            ("real targets", self.real, now.real),
            ("stored", self.stored, now.stored),
            ("scaling", scaling, now.scaling),
        ]
        if reading is not None:
            pairs.append(("reading", reading, splits.reading))
        for name, expected, came in pairs:
            if came != expected:
                raise DataError.of(
                    where,
                    f"data with {name} = {expected}, on which the run began",
                    came,
                    "bring the data back, or train again with --force",
                )

    def stand_in(self) -> Splits:
        """Return splits of the same kind that hold two black samples each."""
        kind = _KINDS.get(self.stored, torch.float32)
        x = torch.zeros((1,) * (1 + len(self.in_shape)), dtype=kind).expand(2, *self.in_shape)
        y = torch.zeros(2, self.classes) if self.real else torch.zeros(2, dtype=torch.int64)
        samples = Samples(x, y, self.build_scaling())
        return Splits(
            self.data,
            self.classes,
            *(samples, samples, samples),
            labels=self.labels,
            reading=self.build_reading(),
        )


def describe_inputs(splits: Splits) -> dict[str, Any]:
    """Return the content of inputs.json: what lets a run be opened without its data."""
    scaling = splits.scaling
    kind = str(splits.train.store.dtype).removeprefix("torch.")
    reading = None if splits.reading is None else asdict(splits.reading)
    if reading is not None and reading["range"] is not None:
        reading["range"] = list(reading["range"])
    return {
        "format": storage.FORMAT,
        "data": splits.name,
        "in_shape": list(splits.shape),
        "classes": splits.classes,
        "real": splits.train.y.is_floating_point(),
        "labels": list(splits.labels),
        "stored": kind if kind in _KINDS else "float",
        "scaling": {
            "peak": scaling.peak,
            "mean": list(scaling.mean),
            "std": list(scaling.std),
            "time": scaling.time,
        },
        "bounded": _bounded(splits),
        "reading": reading,
    }


def _bounded(splits: Splits) -> bool:
    """Whether samples are grey levels: whole numbers inside 0..peak; counts have no bound."""
    store, peak = splits.train.store, splits.scaling.peak
    if peak == 1 or not is_whole(store):
        return False
    if store.dtype == torch.uint8 and peak >= WHITE:
        return True  # without reading what may lie on a disk
    stores = {id(part.store): part.store for _, part in splits.parts()}  # parts may share one
    return all(bool((x >= 0).all() and (x <= peak).all()) for x in stores.values())


def load_splits(
    recipe: Recipe,
    *,
    inputs: Inputs | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Splits:
    """Load the data a recipe names, as its encoder reads them.

    Args:
        recipe: names data and encoder.
        inputs: of a run on this very data: where an older library had another default, what the
            recipe does not state is read as that run read it.
        progress: as for `load_data`.

    Raises:
        ConfigError, DataError: as `load_data`, or data and encoder that disagree about time.
    """
    name = recipe.data.name
    chosen: dict[str, Any] = stated(recipe, name, recipe.data.options, inputs)
    takes_scale = "scale" in DATA.find(name, "data").options
    if takes_scale and inputs is not None and inputs.older and inputs.data == name:
        chosen = {"scale": inputs.scaling.peak} | chosen
    with addressed(f"data.{name}.", "data.", ConfigError):
        return load_data(name, progress=progress, **chosen)


def stated(
    recipe: Recipe, name: str, options: dict[str, Any], inputs: Inputs | None = None
) -> dict[str, Any]:
    """Return the options of a data set, with what a recipe or a run states about its reading.

    Args:
        recipe: whose encoder states whether dimension 1 is time.
        name: of the data set.
        options: of the user; they take precedence.
        inputs: of a run: an older one read pictures in its own way.

    Raises:
        ConfigError: the options say the opposite of the encoder.
    """
    known = DATA.find(name, "data").options
    if inputs is not None and inputs.older and (reading := inputs.build_reading()) is not None:
        options = {key: value for key, value in asdict(reading).items() if key in known} | options
    reads_time = recipe.build_encoder().reads_time
    if "time" not in known:
        return options
    if options.get("time", reads_time) != reads_time:
        todo = "leave time out" if reads_time else "take encoder 'frames'"
        raise ConfigError.of(
            "data.time",
            f"{str(reads_time).lower()} for encoder '{recipe.encoder.name}'",
            str(options["time"]).lower(),
            todo,
        )
    return {"time": True} | options if reads_time else options
