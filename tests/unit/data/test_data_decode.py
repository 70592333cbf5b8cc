import io
import warnings

import numpy as np
import pytest
from picturekit import encode, pixels, png
from PIL import Image, ImageFile

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.data.decode import Decoder, bombs_refused

COLOUR = pixels(7, side=12)


def decoded(encoded: bytes, **options: object) -> np.ndarray:
    with bombs_refused():
        return Decoder(**options).decode(encoded, "here: row 3")


class TestModes:
    def test_png_comes_back_exactly(self):
        assert np.array_equal(decoded(encode(COLOUR)), COLOUR.transpose(2, 0, 1))

    def test_a_file_is_read_as_its_bytes(self, tmp_path):
        (tmp_path / "a.png").write_bytes(encode(COLOUR))
        x = Decoder().decode(tmp_path / "a.png", "here")
        assert np.array_equal(x, COLOUR.transpose(2, 0, 1))

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
    def test_every_mode_becomes_three_channels(self, mode):
        x = decoded(encode(COLOUR, mode=mode))
        assert x.shape == (3, 12, 12) and x.dtype == np.uint8
        grey = mode in ("1", "L", "LA")
        assert (x[0] == x[1]).all() == grey and (x[1] == x[2]).all() == grey

    def test_cmyk_becomes_colour(self):
        flat = np.full((12, 12, 3), (200, 40, 90), np.uint8)
        x = decoded(encode(flat, "JPEG", "CMYK"))
        assert np.abs(x.mean((1, 2)) - (200, 40, 90)).max() < 4

    def test_sixteen_bits_keep_every_level(self):
        wide = (np.arange(144, dtype=np.uint16) * 5).reshape(12, 12)
        x = decoded(encode(wide), grey=True)
        assert x.dtype == np.float32 and len(np.unique(x)) == 144
        assert np.array_equal(x[0], (wide / 65535).astype(np.float32))

    def test_grey_is_the_luma(self):
        x = decoded(encode(COLOUR), grey=True)[0]
        luma = COLOUR @ np.array([0.299, 0.587, 0.114])
        assert np.abs(x - luma).max() <= 1

    def test_the_cameras_turn_is_applied(self):
        exif = Image.Exif()
        exif[0x0112] = 6  # stored lying on its left side
        file = io.BytesIO()
        Image.fromarray(pixels(0, 16)[:8]).save(file, "PNG", exif=exif)
        assert decoded(file.getvalue()).shape == (3, 16, 8)

    def test_floats_need_a_range(self):
        file = io.BytesIO()
        Image.fromarray(np.ones((4, 4), np.float32)).save(file, "TIFF")
        with pytest.raises(DataError, match=r"^here: row 3: expected data.range = .*, got none; "):
            decoded(file.getvalue())


class TestSize:
    def test_the_shorter_side_is_scaled_and_the_centre_kept(self):
        wide = np.zeros((10, 30, 3), np.uint8)
        wide[:, 10:20] = 255
        x = decoded(encode(wide), size=5)
        assert x.shape == (3, 5, 5) and (x[:, :, 1:-1] == 255).all()

    def test_a_picture_of_the_size_stays_as_it_is(self):
        assert np.array_equal(decoded(encode(COLOUR), size=12), COLOUR.transpose(2, 0, 1))

    @pytest.mark.parametrize("size", [0, -1, 2.0, "32", True])
    def test_refuses_other_sizes(self, size):
        with pytest.raises(
            ConfigError, match=r"^data.size: expected (1 pixel or more|a whole number), got "
        ):
            Decoder(size=size)

    def test_refuses_a_size_of_no_picture(self):
        with pytest.raises(ConfigError, match=r"^data.size: expected 4096 at most, got 1000"):
            Decoder(size=10**9)

    def test_refuses_text_for_grey(self):
        with pytest.raises(ConfigError, match=r"^data.grey: expected true or false, got 'no'; "):
            Decoder(grey="no")


JPEG = encode(pixels(3, side=48), "JPEG")
PNG = encode(pixels(3, side=48))


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\x00",
        b"these are words, not pixels\n",
        JPEG[:20],
        JPEG[: len(JPEG) // 2],
        JPEG[:-40],
        PNG[:20],
        PNG[: len(PNG) // 2],
        PNG[:60] + bytes(40) + PNG[100:],
        b"\xff\xd8\xff\xe0" + bytes(300),
    ],
)
def test_damage_is_one_line_with_the_place(damaged):
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    with pytest.raises(DataError, match=r"^here: row 3: expected a picture, got .*; fetch it agai"):
        decoded(damaged)


def test_every_cut_of_a_jpeg_is_noticed_or_harmless():
    """Only bytes behind the last block may be missing."""
    whole = decoded(JPEG)
    for stop in range(0, len(JPEG), 37):
        try:
            assert np.array_equal(decoded(JPEG[:stop]), whole)
        except DataError as error:
            assert str(error).startswith("here: row 3: ") and "\n" not in str(error)


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that says it is huge."""
    return png(side, 8, 2, bytes(1000))


@pytest.mark.parametrize("side", [10_000, 40_000])  # Pillow warns of the first, refuses the second
def test_bombs_are_refused_unopened(side):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(DataError, match=r"^here: row 3: expected a picture of at most \d+ pi"):
            decoded(bomb(side))
    assert not seen
