"""A user's own files: what was saved comes back, and what cannot be read is named."""

import io
import os
import re
import struct
import zipfile
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from spikeloom.base.errors import DataError
from spikeloom.data import Scaling, load_data
from spikeloom.inference.files import read_file
from spikeloom.inference.opening import Inputs, describe_inputs
from spikeloom.inference.over_time import predict_over_time
from trainkit import bench, tiny


def inputs(shape=(1, 4, 4), peak=255.0, stored="uint8", **changes):
    table = {
        "format": 1,
        "data": "tiny",
        "in_shape": list(shape),
        "classes": 3,
        "stored": stored,
        "scaling": {"peak": peak, "mean": [], "std": []},
    }
    return Inputs.model_validate(table | changes)


GREY = inputs()
COLOUR = inputs((3, 4, 4))
LEVELS = (np.arange(16).reshape(4, 4) * 17).astype(np.uint8)


def image(path, array=LEVELS, mode=None, **options):
    Image.fromarray(array, mode).save(path, **options)
    return path


def values(path, given=GREY, **options):
    return read_file(path, given, **options).samples.x


def refused(path, *parts, given=GREY):
    """Check that a file is refused in one line that names it."""
    with pytest.raises(DataError) as caught:
        read_file(path, given)
    message = str(caught.value)
    assert message.startswith(f"{path}: expected ") and "\n" not in message and len(message) < 400
    assert all(part in message for part in parts), message


class TestRoundTrip:
    @pytest.mark.parametrize("name", ["a.png", "a.npy", "a.npz"])
    def test_digits_give_the_answers_of_the_test_part(self, tmp_path, name):
        """0..16 goes through 0..255 and back to the bit."""
        digits = load_data("digits")
        known = Inputs.model_validate(describe_inputs(digits))
        one = bench({"net": "c4 P f10"}, digits)
        true, spikes = predict_over_time(one, digits.test)
        for row in (0, 7, 100):
            path, stored = tmp_path / name, digits.test.x[row].numpy()
            if name.endswith("png"):
                image(path, (stored[0] * (255 / 16)).round().astype(np.uint8))
            elif name.endswith("npy"):
                np.save(path, stored)
            else:
                np.savez(path, x=stored)
            given = read_file(path, known)
            assert given.single and given.notes == ()
            assert torch.equal(given.samples.x[0], digits.test.x[row].float())
            answer, count = predict_over_time(one, given.samples)
            assert torch.allclose(answer[0], true[row], atol=1e-6)
            assert torch.equal(count[0], spikes[row])

    def test_normalised_data_are_normalised_alike(self, tmp_path):
        splits = load_data("digits", normalise=True)
        known = Inputs.model_validate(describe_inputs(splits))
        np.save(tmp_path / "a.npy", splits.test.x[:3].numpy())
        given = read_file(tmp_path / "a.npy", known)
        index = torch.arange(3)
        assert torch.equal(given.samples.take(index)[0], splits.test.take(index)[0])

    def test_floats_of_float_data(self, tmp_path):
        splits = tiny()
        known = Inputs.model_validate(describe_inputs(splits))
        np.save(tmp_path / "a.npy", splits.test.x.numpy())
        given = read_file(tmp_path / "a.npy", known)
        assert not given.single and torch.equal(given.samples.x, splits.test.x)


@pytest.mark.filterwarnings("error")
class TestImages:
    def test_grey(self, tmp_path):
        assert values(image(tmp_path / "a.png")).tolist() == [[LEVELS.tolist()]]

    def test_levels_become_those_of_the_data(self, tmp_path):
        path = image(tmp_path / "a.png")
        fine = values(path, inputs(peak=1.0, stored="float"))
        assert torch.allclose(fine, torch.from_numpy(LEVELS)[None, None] / 255)
        coarse = values(path, inputs(peak=16.0))
        assert coarse.flatten().tolist() == [round(16 * v / 255) for v in LEVELS.flatten().tolist()]

    def test_invert(self, tmp_path):
        path = image(tmp_path / "a.png")
        given = read_file(path, GREY, invert=True)
        assert given.notes == ("inverted",)
        assert torch.equal(given.samples.x, 255 - values(path))

    def test_grey_to_colour_and_back(self, tmp_path):
        path = image(tmp_path / "a.png")
        assert torch.equal(values(path, COLOUR), values(path).expand(1, 3, 4, 4))
        grey = np.repeat(LEVELS[..., None], 3, axis=2)
        assert torch.equal(values(image(tmp_path / "b.png", grey)), values(path))

    def test_channels_stay_in_order(self, tmp_path):
        colour = np.zeros((4, 4, 3), np.uint8)
        colour[..., 0], colour[0, 1, 2] = 200, 7
        x = values(image(tmp_path / "a.png", colour), COLOUR)[0]
        assert (x[0] == 200).all() and x[1].max() == 0 and x[2, 0, 1] == 7

    @pytest.mark.parametrize("given", [GREY, COLOUR])
    def test_palettes_and_bits(self, tmp_path, given):
        plain = values(image(tmp_path / "a.png"), given)
        palette = Image.fromarray(LEVELS).convert("P")
        palette.save(tmp_path / "p.png")
        assert torch.equal(values(tmp_path / "p.png", given), plain)
        Image.fromarray(LEVELS > 99).save(tmp_path / "b.png")
        assert set(values(tmp_path / "b.png", given).flatten().tolist()) == {0.0, 255.0}

    def test_transparent_parts_are_white(self, tmp_path):
        layers = np.stack([LEVELS] * 3 + [np.full((4, 4), 255, np.uint8)], axis=2)
        assert torch.equal(values(image(tmp_path / "a.png", layers)), values_of(LEVELS))
        layers[0, :, 3] = 0
        given = read_file(image(tmp_path / "b.png", layers), GREY)
        assert given.notes == ("transparent parts laid on white",)
        assert (given.samples.x[0, 0, 0] == 255).all()
        assert torch.equal(given.samples.x[..., 1:, :], values_of(LEVELS)[..., 1:, :])

    @pytest.mark.parametrize("given", [GREY, COLOUR])
    def test_sixteen_bits(self, tmp_path, given):
        path = image(tmp_path / "a.png", LEVELS.astype(np.uint16) * 257)
        read = read_file(path, given)
        assert read.notes == ("16 bits",)
        assert torch.equal(read.samples.x, values(image(tmp_path / "b.png"), given))

    def test_another_size(self, tmp_path):
        path = image(tmp_path / "a.png", np.full((9, 30), 50, np.uint8))
        given = read_file(path, GREY)
        assert given.notes == ("resized from 30x9 to 4x4, cropped",)
        assert given.samples.x.shape == (1, 1, 4, 4) and (given.samples.x == 50).all()

    def test_the_camera_held_upright(self, tmp_path):
        turned = Image.fromarray(LEVELS).transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[0x0112] = 6  # stored turned to the left
        turned.save(tmp_path / "a.png", exif=exif)
        assert torch.equal(values(tmp_path / "a.png"), values_of(LEVELS))

    def test_the_first_frame(self, tmp_path):
        frames = [Image.fromarray(LEVELS), Image.fromarray(255 - LEVELS)]
        frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
        given = read_file(tmp_path / "a.gif", GREY)
        assert given.notes == ("first frame",) and torch.equal(given.samples.x, values_of(LEVELS))

    @pytest.mark.parametrize("name", ["a.bmp", "a.tiff", "a.pgm", "a.webp", "a.jpg"])
    def test_kinds(self, tmp_path, name):
        exact = {"lossless": True} if name == "a.webp" else {}
        read = values(image(tmp_path / name, **exact))
        close = 12 if name == "a.jpg" else 0
        assert (read - values_of(LEVELS)).abs().max() <= close

    def test_the_name_need_not_tell(self, tmp_path):
        image(tmp_path / "a.png").rename(tmp_path / "noname")
        assert torch.equal(values(tmp_path / "noname"), values_of(LEVELS))


def values_of(levels):
    return torch.from_numpy(levels.astype(np.float32))[None, None]


class TestBadImages:
    @pytest.mark.parametrize("keep", [0, 10, 40, -60])
    def test_cut(self, tmp_path, keep):
        path = image(tmp_path / "a.png", np.tile(LEVELS, (20, 20)))
        path.write_bytes(path.read_bytes()[:keep])
        refused(path, "a picture")

    def test_no_image(self, tmp_path):
        (tmp_path / "a.png").write_text("<svg/>")
        refused(tmp_path / "a.png", "got bytes of no known format (BMP, GIF, JPEG, ")
        (tmp_path / "b.png").touch()
        refused(tmp_path / "b.png", "got bytes of no known format")

    def test_places(self, tmp_path):
        refused(tmp_path, "expected a file, got a folder")
        refused(tmp_path / "no.png", "expected a file, found none")
        os.mkfifo(tmp_path / "pipe.png")
        refused(tmp_path / "pipe.png", "expected a plain file")

    def test_a_bomb(self, tmp_path):
        content = image(tmp_path / "a.png").read_bytes()
        for side in (9_000, 30_000):  # from 64 to 900 million pixels
            head = b"IHDR" + struct.pack(">II", side, side) + content[24:29]
            check = struct.pack(">I", zlib.crc32(head))
            (tmp_path / "b.png").write_bytes(content[:12] + head + check + content[33:])
            refused(tmp_path / "b.png", "expected a picture of at most", "pixels")

    def test_images_that_start_programs(self, tmp_path):
        Image.fromarray(LEVELS).save(tmp_path / "a.eps")
        refused(tmp_path / "a.eps", "got bytes of no known format")

    @pytest.mark.parametrize("name", ["a.png", "a.npy"])
    def test_a_file_without_end(self, tmp_path, name):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**40)  # sparse
        refused(tmp_path / name, "expected 1073741824 bytes at most")

    def test_floats(self, tmp_path):
        Image.fromarray(LEVELS.astype(np.float32)).save(tmp_path / "a.tiff")
        refused(tmp_path / "a.tiff", "data.range = [black, white] to read a picture of floats")

    @pytest.mark.parametrize("shape", [(5,), (2, 4, 4), (6, 1, 4, 4)])
    def test_data_that_are_no_images(self, tmp_path, shape):
        refused(image(tmp_path / "a.png"), f"shape {list(shape)}", given=inputs(shape))


class TestArrays:
    def save(self, folder, array):
        np.save(folder / "a.npy", array)
        return folder / "a.npy"

    def test_one_and_many(self, tmp_path):
        one = read_file(self.save(tmp_path, LEVELS[None]), GREY)
        assert one.single and torch.equal(one.samples.x, values_of(LEVELS))
        many = read_file(self.save(tmp_path, np.stack([LEVELS[None]] * 3)), GREY)
        assert not many.single and len(many.samples) == 3

    @pytest.mark.parametrize("kind", ["uint8", "int64", ">i4", "uint16"])
    def test_whole_numbers_are_as_stored(self, tmp_path, kind):
        path = self.save(tmp_path, (LEVELS[None] // 17).astype(kind))
        assert values(path, inputs(peak=16.0)).flatten().tolist() == list(range(16))

    @pytest.mark.parametrize("kind", ["float64", "float32", "<f2", ">f4"])
    def test_floats_are_shares_of_the_peak(self, tmp_path, kind):
        path = self.save(tmp_path, (LEVELS[None] / 255).astype(kind))
        index = torch.tensor([0])
        seen = read_file(path, GREY).samples.take(index)[0]
        assert torch.allclose(seen, values_of(LEVELS) / 255, atol=1e-3)

    @pytest.mark.parametrize("kind", ["uint8", "int64", "bool"])
    def test_whole_numbers_are_no_floats(self, tmp_path, kind):
        path = self.save(tmp_path, LEVELS[None].astype(kind))
        refused(
            path, f"expected floats, as data 'tiny' has, got {kind}", given=inputs(stored="float")
        )

    @pytest.mark.parametrize("kind", ["bool", "uint8", "int16", "int64", "float32"])
    def test_counts_have_no_bound(self, tmp_path, kind):
        known = inputs(peak=1.0, stored="uint8", bounded=False)
        path = self.save(tmp_path, LEVELS[None].astype(kind))
        seen = read_file(path, known).samples.take(torch.tensor([0]))[0]
        assert torch.equal(seen[0], torch.from_numpy(LEVELS[None].astype(kind)).float())
        refused(image(tmp_path / "a.png"), "are no grey or colour pictures", given=known)

    def test_truth_values(self, tmp_path):
        assert values(self.save(tmp_path, LEVELS[None] > 99)).max() == 1

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_memory_order(self, tmp_path, order):
        colour = np.asarray(np.arange(48).reshape(3, 4, 4), order=order)
        x = values(self.save(tmp_path, colour), COLOUR)
        assert x.flatten().tolist() == list(range(48))

    def test_of_an_archive(self, tmp_path):
        np.savez_compressed(tmp_path / "a.npz", x=LEVELS[None], y=np.arange(3))
        assert torch.equal(values(tmp_path / "a.npz"), values_of(LEVELS))
        np.savez(tmp_path / "b.npz", anything=LEVELS[None])
        assert torch.equal(values(tmp_path / "b.npz"), values_of(LEVELS))


class TestBadArrays(TestArrays):
    @pytest.mark.parametrize("shape", [(4, 4), (16,), (), (0, 1, 4, 4), (2, 2, 1, 4, 4), (1, 4, 5)])
    def test_shapes(self, tmp_path, shape):
        path = self.save(tmp_path, np.zeros(shape, np.uint8))
        refused(path, f"an array [1, 4, 4] or [N, 1, 4, 4], got {list(shape)}")

    @pytest.mark.parametrize(
        "array",
        [np.zeros((1, 4, 4), "c8"), np.zeros((1, 4, 4), "U3"), np.zeros((1, 4, 4), "M8[s]")],
    )
    def test_no_numbers(self, tmp_path, array):
        refused(self.save(tmp_path, array), "expected booleans, whole", array.dtype.name)

    def test_objects_are_not_unpickled(self, tmp_path):
        array = np.empty((1, 4, 4), dtype=object)
        array[:] = Trap()
        np.save(tmp_path / "a.npy", array, allow_pickle=True)
        refused(tmp_path / "a.npy", "objects")
        np.savez(tmp_path / "a.npz", x=array)
        refused(tmp_path / "a.npz", "objects")
        assert Trap.sprung == 0

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_not_finite(self, tmp_path, value):
        array = np.zeros((2, 1, 4, 4), np.float32)
        array[1, 0, 2, 3] = value
        for given in (GREY, inputs(stored="float")):
            refused(self.save(tmp_path, array), f"got {value} at [1, 0, 2, 3]", given=given)

    @pytest.mark.parametrize(
        "array", [np.full((1, 4, 4), 200), np.full((1, 4, 4), -1), np.full((1, 4, 4), 1.5)]
    )
    def test_values_out_of_range(self, tmp_path, array):
        parts = ("whole numbers from 0 to 16 or floats from 0 to 1", "scale the array")
        refused(self.save(tmp_path, array), *parts, given=inputs(peak=16.0))

    @pytest.mark.parametrize("keep", [0, 5, 60, -3])
    @pytest.mark.parametrize("name", ["a.npy", "a.npz"])
    def test_cut(self, tmp_path, name, keep):
        path = tmp_path / name
        (np.save if name.endswith("y") else np.savez)(path, LEVELS[None])
        path.write_bytes(path.read_bytes()[:keep])
        refused(path, "a plain array")

    def test_a_header_that_promises_too_much(self, tmp_path):
        path = self.save(tmp_path, np.zeros((7, 1, 4, 4), np.uint8))
        for count, message in (("9" * 7, "for an array of"), ("9" * 9, "bytes at most")):
            text = path.read_bytes().replace(b"(7, 1", f"({count}, 1".encode())
            (tmp_path / "b.npy").write_bytes(re.sub(rb"  {%d}\n" % (len(count) - 2), b"\n", text))
            refused(tmp_path / "b.npy", message)

    @pytest.mark.parametrize("length", [0, 1, 30, 60])
    def test_a_header_that_says_it_is_shorter(self, tmp_path, length):
        content = self.save(tmp_path, LEVELS[None]).read_bytes()
        short = content[:8] + length.to_bytes(2, "little") + content[10:]
        (tmp_path / "b.npy").write_bytes(short)
        refused(tmp_path / "b.npy", "a plain array")

    def test_a_zip_bomb(self, tmp_path):
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            head, {"descr": "|u1", "fortran_order": False, "shape": (2**27, 1, 4, 4)}
        )
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", head.getvalue() + bytes(2**20))
        refused(tmp_path / "a.npz", "bytes at most, got 2147483648; predict in parts")

    def test_a_header_nested_deep(self, tmp_path):
        text = ("(" * 50_000).encode()
        content = b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text
        (tmp_path / "a.npy").write_bytes(content)
        refused(tmp_path / "a.npy", "a plain array")

    def test_archives_of_several(self, tmp_path):
        np.savez(tmp_path / "a.npz", a=LEVELS, b=LEVELS)
        refused(tmp_path / "a.npz", "expected one array, or one named 'x', got a, b")
        with zipfile.ZipFile(tmp_path / "b.npz", "w"):
            pass
        refused(tmp_path / "b.npz", "got none")


class Trap:
    """What a pickle would run."""

    sprung = 0

    def __reduce__(self):
        return (Trap.spring, ())

    @staticmethod
    def spring():
        Trap.sprung += 1


def test_scaling_is_that_of_the_training(tmp_path):
    np.save(tmp_path / "a.npy", LEVELS[None])
    known = inputs(scaling={"peak": 255.0, "mean": [0.5], "std": [0.25]})
    given = read_file(tmp_path / "a.npy", known)
    assert given.samples.scaling == Scaling(255.0, (0.5,), (0.25,))
    blank = replace(given.samples, scaling=Scaling(255.0))
    index = torch.tensor([0])
    assert torch.allclose(given.samples.take(index)[0], (blank.take(index)[0] - 0.5) / 0.25)
