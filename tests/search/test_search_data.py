"""Data sets: contents, splits, and errors for invalid ones."""

import io
import random
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from fbnet_search.data.batches import Augmentation, batch_count, batches
from fbnet_search.data.datasets import open_data
from fbnet_search.data.images import Split
from latbench.errors import BadRequest, LatbenchError, UnknownName


def all_pixels(split: Split) -> torch.Tensor:
    return split.images.read(list(range(len(split))))


def test_digits_are_scaled_up_in_three_channels_and_split_once_and_for_all() -> None:
    data = open_data("digits", 16)
    assert (len(data.train), len(data.test), len(data.classes)) == (1437, 360, 10)
    pixels = all_pixels(data.train)
    assert pixels.shape == (1437, 3, 16, 16)
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels[:, 0], pixels[:, 2])
    assert pixels.max() == 255
    again = open_data("digits", 16)
    assert torch.equal(all_pixels(again.test), all_pixels(data.test))
    assert torch.bincount(data.test.labels).tolist() == pytest.approx([36] * 10, abs=1)


def test_no_test_image_is_a_training_image() -> None:
    from sklearn.datasets import load_digits

    data = open_data("digits", 8)
    parts = [
        {bytes(image.numpy().tobytes()) for image in all_pixels(split)}
        for split in (data.train, data.test)
    ]
    source = load_digits().images
    assert len(parts[0] | parts[1]) == len({image.tobytes() for image in source})
    assert not parts[0] & parts[1]


def test_batches_hold_every_image_once_in_nearly_equal_parts() -> None:
    data = open_data("digits", 8)
    numbers = torch.randperm(131, generator=torch.Generator().manual_seed(0))
    parts = list(batches(data.train, numbers, 64))
    assert len(parts) == batch_count(131, 64) == 3
    assert [len(labels) for _, labels in parts] == [44, 44, 43]
    assert torch.equal(torch.cat([labels for _, labels in parts]), data.train.labels[numbers])
    images = torch.cat([images for images, _ in parts])
    assert images.min() == -1
    assert images.max() == 1


def test_augmentation_follows_its_seed_and_keeps_labels() -> None:
    data = open_data("digits", 16)

    def drawn(seed: int) -> torch.Tensor:
        numbers, shifts = torch.arange(32), Augmentation()
        return next(batches(data.train, numbers, 32, seed=seed, augmentation=shifts))[0]

    plain, labels = next(batches(data.train, torch.arange(32), 32))
    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert drawn(1).shape == plain.shape
    assert torch.equal(labels, data.train.labels[:32])


def test_a_folder_is_split_by_name_the_same_way_each_time(digit_folder: Path) -> None:
    data = open_data(f"imagefolder:{digit_folder}", 8)
    assert data.classes == ("0", "1", "2")
    assert torch.bincount(data.train.labels).tolist() == [6, 6, 6]
    assert torch.bincount(data.test.labels).tolist() == [2, 2, 2]
    again = open_data(f"imagefolder:{digit_folder}", 8)
    assert torch.equal(all_pixels(data.test), all_pixels(again.test))


@pytest.mark.parametrize("other", ["test", "val"])
def test_a_folder_with_its_own_split_keeps_it(digit_folder: Path, other: str) -> None:
    root = digit_folder.parent / "split"
    shutil.copytree(digit_folder, root / "train")
    for label in "012":
        (root / other / label).mkdir(parents=True)
        file = min((digit_folder / label).iterdir())
        shutil.copy(file, root / other / label / "one.png")
    data = open_data(f"imagefolder:{root}", 8)
    assert (len(data.train), len(data.test)) == (24, 3)


def test_pictures_of_any_mode_and_shape_become_rgb_squares(digit_folder: Path) -> None:
    for mode, size in (("L", (40, 20)), ("RGBA", (9, 33)), ("P", (8, 8)), ("1", (17, 17))):
        Image.new(mode, size, 1).save(digit_folder / "0" / f"a{mode}.png")
    data = open_data(f"imagefolder:{digit_folder}", 8)
    for split in (data.train, data.test):
        assert all_pixels(split).shape == (len(split), 3, 8, 8)


def test_hidden_files_are_not_images_and_do_no_harm(digit_folder: Path) -> None:
    (digit_folder / "0" / ".DS_Store").write_bytes(b"\0")
    (digit_folder / "Thumbs.db").write_bytes(b"\0")
    assert len(open_data(f"imagefolder:{digit_folder}", 8).train) == 18


@pytest.mark.parametrize("name", ["digit", "mnist", "", "imagefolder:", "digits:8"])
def test_an_unknown_data_set_is_answered_with_what_there_is(name: str) -> None:
    with pytest.raises(UnknownName) as caught:
        open_data(name, 8)
    assert caught.value.hint


def test_a_file_that_is_no_image_is_named(digit_folder: Path) -> None:
    bad = digit_folder / "1" / "notes.txt"
    bad.write_text("not a picture")
    with pytest.raises(BadRequest, match=r"1/notes\.txt is not an image"):
        open_data(f"imagefolder:{digit_folder}", 8)


@pytest.mark.parametrize("content", [b"", b"not a picture", None])
def test_an_image_that_does_not_open_is_named(digit_folder: Path, content: bytes | None) -> None:
    good = min((digit_folder / "1").iterdir())
    bad = digit_folder / "1" / "broken.png"
    bad.write_bytes(good.read_bytes()[:60] if content is None else content)
    data = open_data(f"imagefolder:{digit_folder}", 8)
    with pytest.raises(LatbenchError, match=r"1/broken\.png"):
        [all_pixels(split) for split in (data.train, data.test)]


def test_folders_that_hold_too_little_are_refused(tmp_path: Path, digit_folder: Path) -> None:
    with pytest.raises(BadRequest, match="cannot read the folder"):
        open_data(f"imagefolder:{tmp_path / 'nowhere'}", 8)
    one = tmp_path / "one"
    shutil.copytree(digit_folder / "0", one / "0")
    with pytest.raises(BadRequest, match="at least 2 classes, got 1"):
        open_data(f"imagefolder:{one}", 8)
    (one / "empty").mkdir()
    with pytest.raises(BadRequest, match="holds no images"):
        open_data(f"imagefolder:{one}", 8)
    halves = tmp_path / "halves"
    shutil.copytree(digit_folder, halves / "train")
    with pytest.raises(BadRequest, match="neither test/ nor val/"):
        open_data(f"imagefolder:{halves}", 8)
    shutil.copytree(digit_folder / "0", halves / "test" / "0")
    with pytest.raises(BadRequest, match="same classes") as caught:
        open_data(f"imagefolder:{halves}", 8)
    assert caught.value.details == ("1", "2")


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp", "bmp", "tiff"])
def test_whatever_is_wrong_with_a_picture_its_file_is_named(kind: str, tmp_path: Path) -> None:
    rng = random.Random(7)
    for part in ("train", "test"):
        for label in "ab":
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            for number in range(6):
                pixels = Image.effect_noise((24, 24), 60 + number).convert("RGB")
                pixels.save(folder / f"{number}.png")
    (tmp_path / "train/a/0.png").unlink()
    bad = tmp_path / f"train/a/0.{kind}"
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a picture on its side"
    saved = io.BytesIO()
    Image.effect_noise((24, 24), 80).convert("RGB").save(saved, kind, exif=exif)
    whole = saved.getvalue()
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole[: rng.choice((len(whole), rng.randrange(8, len(whole))))])
        for _ in range(rng.randrange(1, 9)):
            damaged[rng.randrange(min(len(damaged), 200))] = rng.randrange(256)
        bad.write_bytes(damaged)
        told = _read(tmp_path)
        assert bad.name in (told or bad.name)
        refused += told is not None
    assert refused > 10


def _read(folder: Path) -> str | None:
    """Read all training images; returns what was told if that cannot be done."""
    try:
        all_pixels(open_data(f"imagefolder:{folder}", 16).train)
    except LatbenchError as error:
        return error.message
    return None
