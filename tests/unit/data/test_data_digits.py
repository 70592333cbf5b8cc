import hashlib
from importlib.resources import files

import pytest
import torch

from spikeloom.base.errors import ConfigError
from spikeloom.data import Splits, load_data
from spikeloom.data._split import stratified_order
from spikeloom.data.digits import stored_images, stored_split


@pytest.fixture(scope="module")
def digits() -> Splits:
    return load_data("digits")


def test_stored_split_is_stable():
    digest = hashlib.sha256(stored_split().encode()).hexdigest()
    assert digest == "9cea983a1d489390dcde74e97ccc40eb0f17c0832e4ce542472482a478671b9c"


def test_stored_split_was_drawn_as_it_says():
    order = stratified_order(stored_images()[1]).tolist()
    letters = stored_split()
    assert {letters[row] for row in order[-350:]} == {"e"}
    assert {letters[row] for row in order[-600:-350]} == {"v"}
    assert {letters[row] for row in order[:-600]} == {"t"}


def test_sizes_and_values(digits):
    assert [len(samples) for _, samples in digits.parts()] == [1197, 250, 350]
    assert digits.shape == (1, 8, 8) and digits.classes == 10
    for _, samples in digits.parts():
        assert samples.x.dtype == torch.uint8 and samples.y.dtype == torch.int64
        assert samples.x.min() == 0 and samples.x.max() == 16
        x, _ = samples.take(torch.arange(len(samples)))
        assert x.min() == 0 and x.max() == 1


def test_stratified(digits):
    whole = torch.stack([samples.y.bincount(minlength=10) for _, samples in digits.parts()])
    assert whole.sum(0).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    for counts in whole:
        share = whole.sum(0) * counts.sum() / 1797
        assert (counts - share).abs().max() < 1.5


def test_images_are_scikit_learns():
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    x, y = stored_images()
    assert torch.equal(x.view(1797, 64).double(), torch.from_numpy(theirs["data"]))
    assert torch.equal(y, torch.from_numpy(theirs["target"]))


def test_images_are_stable():
    """Also where scikit-learn is absent: results of any two releases must compare."""
    digest = hashlib.sha256()
    for tensor in stored_images():
        digest.update(tensor.numpy().tobytes())
    assert digest.hexdigest() == "65e5b4619795efb40c1082f4c350c049e4ad552200d369b6ae99e21eef5e72c5"


def test_the_licence_lies_beside_the_images():
    text = files("spikeloom.data").joinpath("digits_licence.txt").read_text("utf-8")
    for word in ("Alpaydin", "CC BY 4.0", "The scikit-learn developers", "BSD 3-Clause"):
        assert word in text


def test_parts_make_up_the_set(digits):
    """Every image is in one part, so no image is in two."""
    ours = torch.cat([samples.x for _, samples in digits.parts()]).view(1797, 64)
    assert sorted(ours.tolist()) == sorted(stored_images()[0].view(1797, 64).tolist())


def test_labels_stay_with_their_images(digits):
    """Nearest neighbours of the test images agree; shuffled labels would give 10 %."""
    train, test = digits.train, digits.test
    near = torch.cdist(test.x.view(350, 64).float(), train.x.view(1197, 64).float()).argmin(1)
    assert (train.y[near] == test.y).double().mean() > 0.97


def test_options(digits):
    some = load_data("digits", train_size=100, normalise=True)
    assert torch.equal(some.train.x, digits.train.x[:100])
    assert some.train.y.bincount().tolist() == [10] * 10
    assert len(some.scaling.mean) == 1
    drawn = load_data("digits", validation=100)
    assert [len(samples) for _, samples in drawn.parts()] == [1347, 100, 350]
    assert torch.equal(drawn.test.x, digits.test.x)


def test_refuses_more_than_there_is():
    with pytest.raises(
        ConfigError, match=r"^data.digits.train_size: expected 1197 samples at most"
    ):
        load_data("digits", train_size=1198)
