"""Tar files of pictures: contents, splits, and errors for invalid ones."""

import io
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from fbnet_search.data.batches import Augmentation, InputStats, batches, read_ahead
from fbnet_search.data.datasets import open_data
from fbnet_search.data.images import ImageData, some_classes
from latbench.errors import BadRequest, LatbenchError, UnknownName


def write_shard(path: Path, folder: Path, part: slice = slice(None)) -> None:
    """Put the pictures of an image folder into a tar file, two files a sample."""
    with tarfile.open(path, "w") as archive:
        for file in sorted(folder.glob("*/*.png"))[part]:
            key = f"{file.parent.name}_{file.stem}"
            archive.add(file, f"{key}.png")
            label = io.BytesIO(file.parent.name.encode())
            entry = tarfile.TarInfo(f"{key}.cls")
            entry.size = len(label.getvalue())
            archive.addfile(entry, label)


@pytest.fixture
def shards(digit_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    write_shard(folder / "train-000.tar", digit_folder, slice(0, None, 2))
    write_shard(folder / "train-001.tar", digit_folder, slice(1, None, 2))
    return folder


def pixels_of(data: ImageData) -> set[bytes]:
    splits = data.train, data.test
    return {
        bytes(one.numpy().tobytes())
        for split in splits
        for one in split.images.read(list(range(len(split))))
    }


def test_shards_hold_what_the_image_folder_holds(shards: Path, digit_folder: Path) -> None:
    data = open_data(f"webdataset:{shards}", 8)
    assert data.classes == ("0", "1", "2")
    assert len(data.train) + len(data.test) == 24
    assert pixels_of(data) == pixels_of(open_data(f"imagefolder:{digit_folder}", 8))
    again = open_data(f"webdataset:{shards}", 8)
    assert torch.equal(again.test.images.read([0]), data.test.images.read([0]))
    assert some_classes(data, 2).classes in {("0", "1"), ("0", "2"), ("1", "2")}


def test_a_split_of_their_own_is_kept(shards: Path, digit_folder: Path) -> None:
    write_shard(shards / "val-000.tar", digit_folder, slice(0, None, 4))
    data = open_data(f"webdataset:{shards}", 8)
    assert (len(data.train), len(data.test)) == (24, 6)


def test_too_few_samples_are_refused(tmp_path: Path, digit_folder: Path) -> None:
    write_shard(tmp_path / "train-000.tar", digit_folder, slice(0, None, 3))
    write_shard(tmp_path / "test-000.tar", digit_folder, slice(1, None, 3))
    with pytest.raises(BadRequest, match="at least 10 training images, got"):
        open_data(f"webdataset:{tmp_path}", 8)


def test_a_damaged_shard_is_named(shards: Path) -> None:
    file = shards / "train-001.tar"
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2 + 100], b"no archive" * 100):
        file.write_bytes(damaged)
        with pytest.raises(LatbenchError, match=r"train-001\.tar"):
            open_data(f"webdataset:{shards}", 8)


def test_a_shard_that_is_cut_short_anywhere_is_named(shards: Path) -> None:
    file = shards / "train-001.tar"
    with tarfile.open(file) as archive:
        members = archive.getmembers()
    whole = file.read_bytes()
    last = members[-1]
    ends = (last.offset, last.offset + 200, last.offset_data, last.offset_data + 1)
    flipped = whole[: last.offset] + b"?" + whole[last.offset + 1 :]
    for damaged in (*(whole[:end] for end in ends), flipped):
        file.write_bytes(damaged)
        with pytest.raises(LatbenchError, match=r"train-001\.tar is damaged: "):
            open_data(f"webdataset:{shards}", 8)
    # What fills a record up after the end need not be there, and anything may be.
    end = last.offset_data + 512 + 1024
    for fine in (whole[:end], whole[:end] + b"\n"):
        file.write_bytes(fine)
        open_data(f"webdataset:{shards}", 8)


def test_a_damaged_picture_is_named_with_its_shard(shards: Path) -> None:
    file = shards / "train-000.tar"
    file.write_bytes(file.read_bytes().replace(b"\x89PNG", b"\x00PNG", 1))
    data = open_data(f"webdataset:{shards}", 8)
    with pytest.raises(
        LatbenchError,
        match=r"cannot read the image .* in .*train-000\.tar: unknown image format",
    ):
        pixels_of(data)


def test_samples_that_lack_something_are_refused(shards: Path, tmp_path: Path) -> None:
    with tarfile.open(shards / "train-002.tar", "w") as archive:
        entry = tarfile.TarInfo("lonely.cls")
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"0"))
    with pytest.raises(BadRequest, match="without a picture") as caught:
        open_data(f"webdataset:{shards}", 8)
    assert caught.value.details == ("lonely",)
    with pytest.raises(BadRequest, match=r"no train\*\.tar"):
        open_data(f"webdataset:{tmp_path}", 8)
    with pytest.raises(UnknownName):
        open_data("webdataset:", 8)


# What is read and cut


def test_a_box_is_cut_from_the_whole_picture(tmp_path: Path) -> None:
    for label in "01":
        (tmp_path / label).mkdir()
        for number in range(8):
            picture = Image.new("RGB", (64, 32), (0, 0, 0))
            picture.paste((255, 255, 255), (0, 0, 16, 32))
            picture.save(tmp_path / label / f"{number}.png")
    images = open_data(f"imagefolder:{tmp_path}", 8).train.images
    left, right, whole = images.read([0, 0, 0], [(0, 0, 0.25, 1), (0.5, 0, 1, 1), (0, 0, 1, 1)])
    assert left[..., :7].min() == 255  # but for the edge, where Pillow's filter sees both sides
    assert right.max() == 0
    assert 0 < whole.float().mean() < 128


def test_two_processes_share_the_batch_that_one_would_see() -> None:
    data = open_data("digits", 8)
    numbers = torch.arange(45)

    def seen(part: tuple[int, int]) -> list[torch.Tensor]:
        crops = Augmentation(0.3, flips=True)
        drawn = batches(data.train, numbers, 15, seed=5, augmentation=crops, part=part)
        return [images for images, _ in drawn]

    parts = [torch.cat(both) for both in zip(seen((0, 2)), seen((1, 2)), strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(parts, seen((0, 1)), strict=True))
    assert not torch.equal(parts[0], parts[1])


def test_reading_ahead_changes_nothing_and_tells_of_waiting() -> None:
    data = open_data("digits", 8)
    intake = InputStats()
    plain = list(batches(data.train, torch.arange(30), 10))
    ahead = list(read_ahead(batches(data.train, torch.arange(30), 10), intake))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(plain, ahead, strict=True))
    assert intake.images == 30
    assert intake.images_s > 0
    assert InputStats(waited_s=1e9).bottleneck_note.endswith("waiting for images (0/s)")
    assert intake.bottleneck_note == ""


def test_a_picture_that_fails_while_prefetching_is_named() -> None:
    def failing() -> object:
        yield torch.zeros(1), torch.zeros(1)
        raise LatbenchError("cannot read the image")

    with pytest.raises(LatbenchError, match="cannot read"):
        list(read_ahead(failing(), InputStats()))  # type: ignore[arg-type]
