"""One reader of pictures: training, evaluation and prediction see the same bytes alike."""

import io
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from picturekit import encode, pixels, png, write_folders
from PIL import Image, ImageCms

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.data import load_data
from spikeloom.data.decode import Decoder, Reading
from spikeloom.inference.files import read_file
from spikeloom.program.inputs import Inputs, describe_inputs, load_splits
from spikeloom.train import build_recipe

MODES = {
    **{mode: "PNG" for mode in ("1", "L", "LA", "P", "P transparent", "RGB", "RGBA", "I;16")},
    **{mode: "TIFF" for mode in ("PA", "CMYK", "YCbCr", "LAB", "I", "I;16B", "F")},
    "RGB in JPEG": "JPEG",
}
"""Every mode that a file can hold, and a format that holds it; HSV is stored by none."""

WIDE = ("I", "I;16", "I;16B", "F")


def picture(mode: str, height: int, width: int, seed: int) -> Image.Image:
    """A picture of noise, transparent where it can be."""
    rng = np.random.default_rng(seed)
    if mode in WIDE:
        kind = {"I": np.int32, "I;16": np.uint16, "I;16B": ">u2", "F": np.float32}[mode]
        return Image.fromarray(rng.integers(0, 4096, (height, width)).astype(kind))
    image = Image.fromarray(rng.integers(0, 256, (height, width, 4), dtype=np.uint8), "RGBA")
    if mode == "LAB":
        srgb, lab = (ImageCms.createProfile(name) for name in ("sRGB", "LAB"))
        return ImageCms.profileToProfile(image.convert("RGB"), srgb, lab, outputMode="LAB")
    if mode == "PA":
        image = image.convert("RGB").convert("PA")
        image.putalpha(Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8)))
        return image
    mode = mode.split()[0]
    return image if mode == "RGBA" else image.convert("RGB" if mode == "RGB" else mode)


def write(path: Path, mode: str, size: tuple[int, int], seed: int, turn: int) -> None:
    """Save a picture with the camera's note of how it was held."""
    options: dict[str, object] = {"transparency": 3} if mode == "P transparent" else {}
    if MODES[mode] == "TIFF":
        options["tiffinfo"] = {0x0112: turn}
    else:
        exif = Image.Exif()
        exif[0x0112] = turn
        options["exif"] = exif
    picture(mode, *size, seed).save(path, MODES[mode], **options)


def seen_by_predict(file: Path, inputs: Inputs) -> torch.Tensor:
    return read_file(file, inputs).samples.take(torch.tensor([0]))[0][0]


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    turn=st.integers(1, 8),
    side=st.none() | st.integers(1, 6),
    grey=st.booleans(),
    fit=st.sampled_from(["crop", "pad", "squash"]),
    ground=st.sampled_from(["white", "black", "#2060a0", "none"]),
    normalise=st.booleans(),
)
def test_training_evaluation_and_prediction_read_alike(
    mode, size, turn, side, grey, fit, ground, normalise
):
    options = {"size": side, "grey": grey, "ground": ground, "test": 2, "validation": 2}
    options |= {"fit": "crop" if ground == "none" else fit, "normalise": normalise}
    options |= {"range": [0, 4096]} if mode == "F" else {}
    options = {key: value for key, value in options.items() if value is not None}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, "ab"[row % 2], f"{row}.png") for row in range(6)]
        for row, file in enumerate(files):
            file.parent.mkdir(exist_ok=True)
            write(file, mode, size, row, turn)
        data = {"name": "images", "path": folder} | options
        stages = [{"rule": "bptt", "steps": 1}]
        recipe = build_recipe({"name": "r", "net": "f2", "data": data, "stages": stages}, "r")
        try:
            trained = load_splits(recipe)
        except DataError as error:  # noise that happens to be constant in a channel
            assert "constant" in str(error)
            return
        inputs = Inputs.model_validate(json.loads(json.dumps(describe_inputs(trained))))
        again = load_splits(recipe, inputs=inputs)  # evaluation, and a run that goes on
        inputs.check_same("here", again)
        rows = torch.arange(len(trained.train.store))
        for splits in (trained, again):
            stored = splits.train.scaling.apply(splits.train.store[rows], torch.float32)
            for row, file in enumerate(sorted(files)):
                assert torch.equal(seen_by_predict(file, inputs), stored[row]), (mode, file.name)


def read(image: Image.Image, kind: str = "PNG", **options: object) -> np.ndarray:
    file = io.BytesIO()
    image.save(file, kind)
    size, grey = options.pop("size", None), options.pop("grey", False)
    return Decoder(size, grey, Reading(**options)).decode(file.getvalue(), "here")


class TestGround:
    RGBA = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]]], np.uint8)

    @pytest.mark.parametrize(
        ("ground", "expected"),
        [
            ("white", [(200, 100, 0), (255, 255, 255), (244, 224, 204)]),
            ("black", [(200, 100, 0), (0, 0, 0), (40, 20, 0)]),
            ("#0000ff", [(200, 100, 0), (0, 0, 255), (40, 20, 204)]),
            ("none", [(200, 100, 0)] * 3),
        ],
    )
    def test_alpha_is_composed_on_it(self, ground, expected):
        x = read(Image.fromarray(self.RGBA, "RGBA"), ground=ground)
        assert x[:, 0].T.tolist() == [list(one) for one in expected]

    def test_the_default_is_white(self):
        assert read(Image.fromarray(self.RGBA, "RGBA"))[:, 0, 1].tolist() == [255, 255, 255]

    def test_a_transparent_grey_level_of_16_bits(self):
        wide = Image.fromarray(np.array([[0, 30000, 65535]], np.uint16))
        file = io.BytesIO()
        wide.save(file, "PNG", transparency=30000)
        x = Decoder(None, True, Reading(ground="black")).decode(file.getvalue(), "here")
        assert x.tolist() == [[[0.0, 0.0, 1.0]]]

    @pytest.mark.parametrize("ground", ["grey", "#12345", "", 0, None, "#gg0000"])
    def test_refuses_what_is_no_colour(self, ground):
        with pytest.raises(ConfigError, match=r"^data.ground: expected white, black, #rrggbb or n"):
            Reading(ground=ground)


class TestFit:
    WIDE = Image.fromarray(np.repeat(np.array([[0] * 4 + [100] * 4 + [200] * 4], np.uint8), 4, 0))

    def test_crop_keeps_the_centre(self):
        assert (read(self.WIDE, grey=True, size=4) == 100).all()

    def test_pad_keeps_all_on_the_ground(self):
        x = read(self.WIDE, grey=True, size=12, fit="pad", ground="#ff0000")[0]
        assert (x[:4] == 76).all() and (x[8:] == 76).all()  # the grey of red
        assert np.array_equal(x[4:8], np.asarray(self.WIDE))

    def test_squash_changes_the_aspect(self):
        x = read(self.WIDE, grey=True, size=(4, 3), fit="squash")[0]
        assert x.shape == (4, 3) and (np.diff(x.astype(int), axis=1) > 50).all()

    def test_a_line_can_be_padded(self):
        thin = Image.fromarray(np.zeros((1, 300), np.uint8))
        assert (read(thin, size=4, fit="pad") == 0).any()

    @pytest.mark.parametrize("fit", ["scale", "", None])
    def test_refuses_other_words(self, fit):
        with pytest.raises(ConfigError, match=r"^data.fit: expected one of crop, pad, squash, g"):
            Reading(fit=fit)

    def test_padding_needs_a_colour(self):
        with pytest.raises(ConfigError, match=r"^data.ground: expected a colour to pad with"):
            Reading(fit="pad", ground="none")


class TestRange:
    LEVELS = Image.fromarray((np.arange(720, dtype=np.uint16) * 5 + 400).reshape(24, 30))

    def test_twelve_bits_keep_every_level(self, tmp_path):
        """Cut to a byte, 720 levels of 12 bits in 16 would become 15."""
        for row in range(6):
            (tmp_path / "ab"[row % 2]).mkdir(exist_ok=True)
            self.LEVELS.save(tmp_path / "ab"[row % 2] / f"{row}.png")
        for options, white in (({}, 65535), ({"range": [0, 4095]}, 4095)):
            splits = load_data("images", path=tmp_path, test=2, validation=1, grey=True, **options)
            x = splits.train.take(torch.tensor([0]))[0]
            assert len(x.unique()) == 720
            assert torch.equal(x[0, 0], torch.from_numpy(np.asarray(self.LEVELS) / white).float())

    def test_floats_and_masks(self):
        half = Image.fromarray(np.array([[-1.0, 0.0, 1.0]], np.float32))
        assert read(half, "TIFF", grey=True, range=(-1.0, 1.0)).tolist() == [[[0.0, 0.5, 1.0]]]
        mask = Image.fromarray(np.array([[0, 1, 1]], np.uint8))
        assert read(mask, grey=True, range=(0, 1)).tolist() == [[[0.0, 1.0, 1.0]]]

    def test_alpha_beside_a_range(self):
        layers = np.array([[[10, 10, 255], [10, 10, 0]]], np.uint8)[..., 1:]
        x = read(Image.fromarray(layers, "LA"), grey=True, range=(0, 20), ground="black")
        assert x[0, 0] == pytest.approx([0.5, 0.0])

    @pytest.mark.parametrize("value", [70_000, -1])
    def test_refuses_values_outside(self, value):
        wide = Image.fromarray(np.array([[0, value]], np.int32))
        with pytest.raises(
            DataError, match=rf"^here: expected pixels from 0 to 65535, got .*{value}"
        ):
            read(wide, "TIFF")

    @pytest.mark.parametrize("span", [(1.0,), (1.0, 1.0), (2.0, 1.0), (0.0, float("nan"))])
    def test_refuses_a_range_that_does_not_rise(self, span):
        with pytest.raises(ConfigError, match=r"^data.range: expected the stored values of black"):
            Reading(range=span)

    def test_refuses_colour_of_16_bits(self):
        """Pillow would keep the high bytes only."""
        with pytest.raises(DataError, match=r"^here: expected 8 bits per channel for a col"):
            Decoder().decode(png(1, 16, 2, bytes(7)), "here")

    @pytest.mark.parametrize("wide", ["a/0.png", "b/4.png"])
    def test_refuses_a_mixture_of_depths(self, tmp_path, wide):
        folder = write_folders(tmp_path / "set", ["a", "b"], side=8)
        Image.fromarray(np.zeros((8, 8), np.uint16)).save(folder / wide)
        with pytest.raises(DataError, match=r"expected a picture of .* as the others, got one of"):
            load_data("images", path=folder)


def test_a_picture_changed_under_the_same_name_size_and_date_is_decoded_again(tmp_path):
    folder = write_folders(tmp_path / "set", ["a", "b"], side=8)
    file = folder / "a" / "0.png"
    file.write_bytes(encode(pixels(5), "BMP"))  # stored, since compressed sizes differ
    before = load_data("images", path=folder, test=2, validation=1)
    facts = file.stat()
    file.write_bytes(encode(pixels(1), "BMP"))
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (facts.st_size, facts.st_mtime_ns)
    after = load_data("images", path=folder, test=2, validation=1)
    assert torch.equal(before.train.store[1:], after.train.store[1:])
    assert after.train.store[0, 0, 0, 0] == 1 and before.train.store[0, 0, 0, 0] == 5
