"""What a run keeps of its data: how they are read again, also by runs of older libraries."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from spikeloom.base.errors import ConfigError, DataError, ShapeError, Stopped
from spikeloom.data import Scaling, splits_from_tensors
from spikeloom.data.decode import Reading
from spikeloom.inference.files import read_file
from spikeloom.inference.opening import fit_data, open_run
from spikeloom.measure.health import health_lines
from spikeloom.measure.input_facts import input_facts, input_line, tiny_input
from spikeloom.program.inputs import Inputs, describe_inputs, load_splits
from spikeloom.records import storage
from spikeloom.records.run import HealthRecord
from spikeloom.train.loop import train
from trainkit import bench, recipe, tiny


def as_older(splits) -> Inputs:
    """The description that a library before the common reader would have left."""
    table = describe_inputs(splits) | {"format": 2}
    del table["reading"], table["bounded"], table["scaling"]["time"]
    return Inputs.model_validate(json.loads(json.dumps(table)))


@pytest.fixture
def transparent(tmp_path, monkeypatch):
    """A recipe on pictures whose transparent parts are red."""
    monkeypatch.setenv("SPIKELOOM_CACHE", str(tmp_path / "decoded"))
    for row in range(8):
        place = tmp_path / "set" / "ab"[row % 2]
        place.mkdir(parents=True, exist_ok=True)
        layers = np.zeros((4, 4, 4), np.uint8)
        layers[..., 0] = 200 + row
        Image.fromarray(layers, "RGBA").save(place / f"{row}.png")
    data = {"name": "images", "path": str(tmp_path / "set"), "test": 2, "validation": 2}
    return recipe({"data": data})


@pytest.fixture
def events(tmp_path):
    """A recipe on frames of 0 and 1 in bytes."""
    x = np.random.default_rng(0).integers(0, 2, (30, 4, 2, 6, 6)).astype(np.uint8)
    y = np.arange(30) % 3
    np.savez(tmp_path / "e.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    data = {"name": "tensors", "path": str(tmp_path / "e.npz")}
    return recipe({"data": data, "encoder": "frames", "stages.0.steps": 4})


class TestOlderRuns:
    def test_transparency_stays_dropped(self, transparent, tmp_path):
        now = load_splits(transparent)
        assert now.reading == Reading(ground="white") and (now.train.store == 255).all()
        older = as_older(now)
        again = load_splits(transparent, inputs=older)
        assert again.train.store[:, 0].amin() == 200 and not again.train.store[:, 1].any()
        given = read_file(tmp_path / "set" / "a" / "0.png", older).samples
        assert torch.equal(
            given.take(torch.tensor([0]))[0],
            again.train.scaling.apply(again.train.store[:1], torch.float32),
        )
        older.check_same("here", again)
        with pytest.raises(DataError, match="with reading = cropped to size, transparency dropped"):
            older.check_same("here", now)
        with pytest.raises(
            DataError, match=r"data 'images': expected pictures .* dropped, as in tr"
        ):
            fit_data(now, older)

    def test_sixteen_bits_say_what_to_do(self, transparent, tmp_path):
        older = as_older(load_splits(transparent))
        Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "wide.png")
        with pytest.raises(DataError, match="expected pictures of 8 bits, got 16 bits or floats"):
            read_file(tmp_path / "wide.png", older)

    def test_bytes_with_time_stay_divided(self, events):
        now = load_splits(events)
        assert now.scaling == Scaling(1.0, time=True)
        parts = {name: replace(part, scaling=Scaling(255.0)) for name, part in now.parts()}
        older = as_older(replace(now, **parts))
        assert load_splits(events, inputs=older).scaling.peak == 255.0

    def test_sets_that_are_no_pictures_have_no_reading(self):
        assert as_older(tiny()).build_reading() is None

    def test_published_sets_hold_opaque_pictures(self):
        older = as_older(replace(tiny(), name="cifar10", reading=Reading()))
        assert older.build_reading() is None
        older.check_same("here", replace(tiny(), name="cifar10", reading=Reading()))


class TestGoingOn:
    def test_other_data_are_refused(self, tmp_path):
        asked = iter([False] * 4 + [True] * 9)
        with pytest.raises(Stopped):
            train(recipe(), tmp_path, splits=tiny(), stop=lambda: next(asked))
        others = splits_from_tensors(
            torch.rand(60, 1, 4, 4), torch.arange(60) % 3, test=15, scale=2
        )
        with pytest.raises(DataError, match=r"inputs.json: expected data with scaling = .*peak=1"):
            train(recipe(), tmp_path, splits=others, resume=True)

    def test_what_was_trained_on_is_in_the_folder(self, events, tmp_path):
        train(events, tmp_path / "run")
        stored = storage.read_json(tmp_path / "run" / "inputs.json")
        assert (stored["stored"], stored["scaling"]["peak"], stored["scaling"]["time"]) == (
            "uint8",
            1.0,
            True,
        )
        assert open_run(tmp_path / "run", data=False).splits.scaling == Scaling(1.0, time=True)


class TestTime:
    @pytest.mark.parametrize(
        ("encoder", "time", "message"),
        [("frames", False, "true for encoder 'frames'"), ("constant", True, "take encoder 'frame")],
    )
    def test_data_and_encoder_agree(self, events, encoder, time, message):
        data = events.data.model_dump() | {"time": time}
        changes = {"data": data, "encoder": encoder}
        with pytest.raises(ConfigError, match=f"^data.time: expected .*{message}"):
            load_splits(recipe(changes | {"stages.0.steps": 4}))

    ADVICE = {
        (6,): (["frames"], "is [N, D] without time: take encoder 'constant'"),
        (3, 64): (["constant", "poisson", "latency"], "signals [N, C, L] become [N, T, C]"),
        (4, 6, 6): (["frames"], "is [N, C, H, W] without time"),
        (4, 2, 6, 6): (
            ["constant", "poisson", "latency"],
            "[N, T, C, H, W]: take encoder 'frames'",
        ),
    }

    @pytest.mark.parametrize(
        ("shape", "encoder"),
        [(shape, name) for shape, (names, _) in ADVICE.items() for name in names],
    )
    def test_every_shape_gets_true_advice(self, shape, encoder):
        x = torch.rand(30, *shape)
        splits = splits_from_tensors(x, torch.arange(30) % 3, test=6)
        changes = {"net": "f3", "encoder": encoder, "stages.0.steps": shape[0]}
        with pytest.raises((ShapeError, ConfigError)) as caught:
            bench(changes, splits)
        assert self.ADVICE[shape][1] in str(caught.value)


class TestFacts:
    def facts(self, values, **changes):
        splits = splits_from_tensors(values, torch.arange(len(values)) % 3, test=6, validation=6)
        one = bench(changes, splits)
        return input_facts(one), one

    def test_are_those_of_the_training_part(self):
        x = torch.zeros(30, 1, 4, 4)
        x[:, :, 0, 0] = 2.0
        x[:, :, 1, 0] = -1.0
        facts, one = self.facts(x)
        assert (facts.low, facts.high, facts.samples) == (-1.0, 2.0, 18)
        assert facts.mean == pytest.approx(1 / 16) and facts.zeros == pytest.approx(14 / 16)
        assert input_line(facts, one.splits) == (
            "input: [C, H, W] = [1, 4, 4], float32 as they are; -1 to 2, mean 0.0625, 88 % zeros "
            "in 18 training samples"
        )
        assert tiny_input(facts, one.splits) is None

    def test_tiny_inputs_name_the_option(self):
        x = (torch.rand(30, 1, 4, 4) < 0.5).to(torch.uint8)
        facts, one = self.facts(x)
        tiny_text = tiny_input(facts, one.splits)
        assert tiny_text is not None and tiny_text.endswith(
            "(uint8 divided by 255); check data.scale"
        )
        shares = {"rate_per_step": 0.0, "silent_share": 1.0, "full_share": 0.0}
        dead = HealthRecord(site="0.0.0", samples=9, verdict="dead", **shares)
        later = dead.model_copy(update={"site": "1.0.0"})
        well = dead.model_copy(update={"verdict": "ok"})
        assert health_lines([dead, later], tiny_text)[0].endswith(f"behind it; {tiny_text}.")
        assert "lower v_th" in health_lines([well, later], tiny_text)[0]
        assert "lower v_th" in health_lines([dead], None)[0]

    @pytest.mark.parametrize(("top", "said"), [(1.0, False), (16.0, True)])
    def test_a_poisson_code_that_saturates_says_so(self, top, said):
        facts, _ = self.facts(top * torch.rand(30, 1, 4, 4), encoder="poisson")
        assert (facts.caution is not None) == said
        assert not said or "fire at every step; set data.scale" in facts.caution
