"""Data sets by name, and the size at which their images are trained on.

`digits` is scikit-learn's handwritten digits (1797 images of 8x8, part of its wheel, so nothing is
downloaded), scaled up to the image size. `imagefolder:PATH` is a folder with one subfolder for each class,
or with `train/` and `test/` (or `val/`) of that layout; `webdataset:PATH` is a folder of tar files
(`fbnet_search.data.shards`). Networks take RGB images in NCHW with pixels from -1 to 1: pixel / 127.5 - 1.
"""

from pathlib import Path

from fbnet_search.data.digits import digits
from fbnet_search.data.folders import image_folder
from fbnet_search.data.images import ImageData
from fbnet_search.data.shards import web_dataset
from latbench.errors import BadRequest, UnknownName

#: The data set that is always there, and the default.
EMBEDDED = "digits"

_DATA_SETS = (EMBEDDED, "imagefolder:PATH", "webdataset:PATH")

_MIN_TRAINING_IMAGES = 10

#: The embedded images are 8x8: larger copies hold no more information and cost time in proportion to their
#: area. At 64 the last layers of FBNet's space, whose total stride is 32, still see 2x2 values.
_MAX_EMBEDDED_SIZE = 64


def open_data(name: str, image_size: int) -> ImageData:
    """Open the data set called `name`, with images of `image_size` x `image_size` pixels.

    Raises:
        UnknownName: there is no data set of that name.
        BadRequest: the folder does not have the layout that it must have.
        LatbenchError: an image cannot be read; the message names the file.
    """
    kind, _, path = name.partition(":")
    if name == EMBEDDED:
        return digits(image_size)
    if kind == "imagefolder" and path:
        return _require_enough(image_folder(name, Path(path).expanduser(), image_size))
    if kind == "webdataset" and path:
        return _require_enough(web_dataset(name, Path(path).expanduser(), image_size))
    takes_path = {option.partition(":")[0] for option in _DATA_SETS} - {EMBEDDED}
    hint = f"append the folder: {kind}:PATH" if kind in takes_path else None
    raise UnknownName("data set", name, _DATA_SETS, hint=hint)


def open_or_check(
    data: str | ImageData, image_size: int | None, input_size: int, multiple: int
) -> ImageData:
    """Open the data set of that name, or check that data which are open already have the image size.

    Args:
        image_size: pixels; None takes `default_image_size`, or the size of data that are open.
        input_size: of the search space, pixels; no image may be larger.
        multiple: an image size must be a multiple of this.

    Raises:
        BadRequest: the image size does not suit the space, or the data have another.
        UnknownName, LatbenchError: as `open_data`.
    """
    if image_size is not None:
        _require_image_size(image_size, input_size, multiple)
    if isinstance(data, str):
        return open_data(data, image_size or default_image_size(data, input_size, multiple))
    if image_size not in (None, data.image_size):
        raise BadRequest(
            f"image_size must be {data.image_size}, the size of the given images, got {image_size}"
        )
    return data


def default_image_size(name: str, input_size: int, multiple: int) -> int:
    """The image size for a data set where none is given: the space's input, at most 64 for `digits`.

    Args:
        input_size: of the search space, pixels.
        multiple: image sizes are multiples of this.
    """
    if name != EMBEDDED:
        return input_size
    return min(input_size, max(_MAX_EMBEDDED_SIZE // multiple, 1) * multiple)


def _require_image_size(image_size: int, input_size: int, multiple: int) -> None:
    if image_size % multiple or not multiple <= image_size <= input_size:
        raise BadRequest(
            f"the image size must be a multiple of {multiple} from {multiple} to the space's input, "
            f"{input_size}, got {image_size}",
            hint=f"give one such as --image-size {default_image_size(EMBEDDED, input_size, multiple)}",
        )


def _require_enough(data: ImageData) -> ImageData:
    if len(data.train) < _MIN_TRAINING_IMAGES:
        raise BadRequest(
            f"{data.name} must hold at least {_MIN_TRAINING_IMAGES} training images, "
            f"got {len(data.train)}"
        )
    return data
