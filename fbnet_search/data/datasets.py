"""The images that a search and a training learn from.

`digits` is scikit-learn's handwritten digits (1797 images of 8x8; part of its wheel, so nothing is
downloaded), scaled up to the input size. `imagefolder:PATH` is a folder with one subfolder a class,
or with `train/` and `test/` (or `val/`) of that shape; `webdataset:PATH` one with tar files
(`fbnet_search.data.shards`). Networks see pixels from -1 to 1 in NCHW, three channels: pixel / 127.5 - 1.
"""

from pathlib import Path

from fbnet_search.data.digits import digits
from fbnet_search.data.folders import image_folder
from fbnet_search.data.images import ImageData
from fbnet_search.data.shards import web_dataset
from latbench.errors import BadRequest, UnknownName

_DATA_SETS = ("digits", "imagefolder:PATH", "webdataset:PATH")

_FEWEST = 10


def open_data(name: str, input_size: int) -> ImageData:
    """Return the data set called `name` at `input_size` x `input_size` pixels.

    Raises:
        UnknownName: it is no data set's name.
        BadRequest: the folder does not hold what it must.
        LatbenchError: an image cannot be read; the message names the file.
    """
    kind, _, path = name.partition(":")
    if name == "digits":
        return digits(input_size)
    if kind == "imagefolder" and path:
        return _enough(image_folder(name, Path(path).expanduser(), input_size))
    if kind == "webdataset" and path:
        return _enough(web_dataset(name, Path(path).expanduser(), input_size))
    known = {option.partition(":")[0] for option in _DATA_SETS} - {"digits"}
    hint = f"write {kind}: and then the folder's path" if kind in known else None
    raise UnknownName("data set", name, _DATA_SETS, hint=hint)


def _enough(data: ImageData) -> ImageData:
    if len(data.train) < _FEWEST:
        raise BadRequest(
            f"{data.name} holds {len(data.train)} training images; a search needs {_FEWEST} or more"
        )
    return data
