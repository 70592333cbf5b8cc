"""Folders of pictures: layouts, names of classes, and what is refused by name."""

import os
from pathlib import Path

import pytest
from picturekit import encode, pixels, write_folders

from spikeloom.base.errors import DataError
from spikeloom.data import load_data
from spikeloom.data.images import Known, load_known

CLASSES = ("ape", "bee", "cat")


def load(path: Path, **options):
    return load_data("images", path.parent, path=path.name, **options)


@pytest.fixture
def folder(tmp_path):
    """Fifteen pictures of three classes; train, validation and test part are taken from them."""
    return write_folders(tmp_path / "set", CLASSES)


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        load(folder)
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message
    return message.replace(str(folder), "FOLDER")


class TestLayouts:
    def test_a_folder_per_class(self, folder):
        splits = load(folder, test=3)
        assert splits.labels == CLASSES and splits.test.y.tolist().count(0) == 1
        for _, part in splits.parts():
            assert (part.x[:, 0, 0, 0] // 5).tolist() == part.y.tolist()

    @pytest.mark.parametrize("held", ["test", "val", "validation"])
    def test_a_folder_per_part(self, tmp_path, held):
        write_folders(tmp_path / "set" / "train", CLASSES)
        write_folders(tmp_path / "set" / held, CLASSES, each=2)
        splits = load(tmp_path / "set", validation=3)
        assert [len(samples) for _, samples in splits.parts()] == [12, 3, 6]

    def test_pictures_may_lie_deeper_and_beside_other_files(self, folder):
        (folder / "ape" / "more").mkdir()
        (folder / "ape" / "5.png").write_bytes(encode(pixels(0)))
        (folder / "ape" / "more" / "6.PNG").write_bytes(encode(pixels(0)))
        for junk in ("notes.txt", ".DS_Store", ".hidden.png"):
            (folder / "ape" / junk).write_text("words")
        (folder / "README.md").write_text("words")
        (folder / ".git").mkdir()
        (folder / "__MACOSX").mkdir()
        splits = load(folder, test=1, validation=1)
        assert splits.classes == 3 and len(splits.train) == 15

    def test_numbers_as_names_keep_their_order(self, tmp_path):
        write_folders(tmp_path / "set", [str(k) for k in range(12)], each=2)
        assert load(tmp_path / "set").labels == tuple(str(k) for k in range(12))

    def test_links_to_classes_are_followed(self, tmp_path, folder):
        (tmp_path / "linked").mkdir()
        for name in CLASSES:
            (tmp_path / "linked" / name).symlink_to(folder / name)
        assert load(tmp_path / "linked").labels == CLASSES

    def test_tiny_imagenet_as_published(self, tmp_path):
        """Pictures in train/<code>/images, val with a list, test without labels, words.txt."""
        top = tmp_path / "tiny-imagenet-200"
        codes = ["n01443537", "n01629819", "n01641577"]
        for number, code in enumerate(codes):
            images = top / "train" / code / "images"
            images.mkdir(parents=True)
            (top / "train" / code / f"{code}_boxes.txt").write_text(f"{code}_0.JPEG\t0\t0\t9\t9\n")
            for row in range(10):
                x = encode(pixels(number, side=16), "JPEG")
                (images / f"{code}_{row}.JPEG").write_bytes(x)
        for part in ("val", "test"):
            (top / part / "images").mkdir(parents=True)
            for row in range(6):
                x = encode(pixels(row, side=16), "JPEG")
                (top / part / "images" / f"{part}_{row}.JPEG").write_bytes(x)
        rows = [f"val_{row}.JPEG\t{codes[2 - row % 3]}\t0\t0\t9\t9\n" for row in range(6)]
        (top / "val" / "val_annotations.txt").write_text("".join(rows))
        words = ["goldfish, Carassius auratus", "salamander", "bullfrog, Rana catesbeiana"]
        lines = [f"{code}\t{text}\n" for code, text in zip(codes, words, strict=True)]
        (top / "words.txt").write_text("".join(lines) + "n9\tanother\n")
        known = Known("tiny_imagenet", ("tiny-imagenet", "tiny-imagenet-200"), 16, 3)
        splits = load_known(known, tmp_path, validation=6)
        assert splits.labels == ("goldfish", "salamander", "bullfrog")
        assert [len(samples) for _, samples in splits.parts()] == [24, 6, 6]
        assert splits.test.y.tolist() == [2, 1, 0, 2, 1, 0]
        (top / "val" / "val_annotations.txt").write_text(rows[0] + "val_1.JPEG\n")
        with pytest.raises(
            DataError, match=r"val_annotations.txt: row 1: expected a file and a cl"
        ):
            load_known(known, tmp_path)

    def test_classes_that_share_a_word_keep_their_codes(self, folder):
        (folder / "words.txt").write_text("ape\tcrane, bird\nbee\tcrane, machine\ncat\tcat\n")
        assert load(folder).labels == ("crane (ape)", "crane (bee)", "cat")


class TestDamage:
    def test_nothing_there(self, tmp_path):
        with pytest.raises(
            DataError, match=r"nowhere: expected a folder of pictures, found none; "
        ):
            load(tmp_path / "nowhere")

    def test_empty_folder(self, tmp_path):
        (tmp_path / "set").mkdir()
        assert refusal(tmp_path / "set").startswith(
            "FOLDER: expected train.parquet, a folder train or a folder per class, got nothing; "
        )

    def test_empty_training_folder(self, tmp_path):
        (tmp_path / "set" / "train").mkdir(parents=True)
        assert refusal(tmp_path / "set").startswith("FOLDER/train: expected a folder per class, go")

    def test_class_without_pictures(self, folder):
        (folder / "dog").mkdir()
        (folder / "dog" / "notes.txt").write_text("none yet")
        assert refusal(folder).startswith("FOLDER/dog: expected pictures of class 'dog', got none")

    def test_text_that_ends_as_a_picture(self, folder):
        (folder / "bee" / "2.png").write_text("words\n")
        assert refusal(folder).startswith("FOLDER/bee/2.png: expected a picture, got bytes of no ")

    def test_empty_file(self, folder):
        (folder / "bee" / "2.png").write_bytes(b"")
        assert refusal(folder).startswith("FOLDER/bee/2.png: expected a picture, got ")

    def test_other_size(self, folder):
        (folder / "cat" / "0.png").write_bytes(encode(pixels(0, side=9)))
        assert "FOLDER/cat/0.png: expected a picture of 8 x 8 pixels as the others, got 9 x 9" in (
            refusal(folder)
        )
        assert load(folder, size=8).shape == (3, 8, 8)

    def test_test_pictures_of_another_size(self, tmp_path):
        write_folders(tmp_path / "set" / "train", CLASSES)
        write_folders(tmp_path / "set" / "test", CLASSES, side=9)
        assert "FOLDER/test/ape/0.png: expected a picture of 8 x 8" in refusal(tmp_path / "set")

    def test_links_that_lead_nowhere(self, folder):
        (folder / "cat" / "9.png").symlink_to(folder / "cat" / "9.png")
        assert refusal(folder).startswith("FOLDER/cat/9.png: expected a picture, got ")

    def test_loops_of_folders_are_not_walked(self, folder):
        (folder / "cat" / "again").symlink_to(folder)
        assert len(load(folder, test=1, validation=1).train) == 13

    def test_a_class_that_leads_back(self, folder):
        (folder / "dog").symlink_to(folder)
        assert refusal(folder).startswith("FOLDER/dog: expected a class folder, got a link to a f")

    def test_words_that_are_no_text(self, folder):
        (folder / "words.txt").write_bytes(b"\xff\xfe\x80")
        assert refusal(folder).startswith("FOLDER/words.txt: expected text, got ")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_file_without_the_right_to_read(self, folder):
        (folder / "cat" / "0.png").chmod(0)
        assert refusal(folder).startswith("FOLDER/cat/0.png: expected ")


def test_one_class_is_no_choice(tmp_path):
    write_folders(tmp_path / "set", ["ape"])
    with pytest.raises(DataError, match=r"^data.images: expected at least 2 classes, got 1; "):
        load(tmp_path / "set")
