"""Networks that FBNet's authors published, as data, and how each release counts them.

The 2019 release is the code that came with the paper: e1 blocks keep their first 1x1 convolution,
some 5x5 are two 3x3 (`sep`), and MACs are those of convolution and linear layers. Its layers are
reconstructed; they reproduce the published counts to the digit. The 2020 release drops the first
1x1 of e1 blocks and counts one more operation for each input element of the global average pool.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Release:
    """The conventions of one release."""

    name: str
    keeps_first_1x1: bool
    counts_pool: bool


RELEASES: dict[str, Release] = {
    "2019": Release("2019", keeps_first_1x1=True, counts_pool=False),
    "2020": Release("2020", keeps_first_1x1=False, counts_pool=True),
}


@dataclass(frozen=True)
class PublishedNetwork:
    """A published network: its layers a release, and the shape it was published at.

    `transcription` is set where the layers were read off a figure of the paper by third parties;
    they are no official file, and their head is assumed.
    """

    layers: dict[str, str]
    head: int = 1984
    input_size: int = 224
    width: float = 1.0
    transcription: bool = field(default=False)


_A = (
    "skip|k3e3 k3e1 skip skip|k5e6 k3e3 k5e1 k3e3|k5e6 k5e3 k5e1g2 k5e6"
    "|k3e6 k5e1g2 k5e3 k3e1g2|k5e6 k5e6 k5e3 k5e6|k5e6"
)

PUBLISHED: dict[str, PublishedNetwork] = {
    "fbnet_a": PublishedNetwork({"2019": _A, "2020": _A}, head=1504),
    "fbnet_b": PublishedNetwork(
        {
            "2019": "k3e1|k3e6 k5e1 k3e1 k3e1|k5e6 k5e3 k3e6 k3e6sep|k5e6 k5e1 skip k5e3"
            "|k5e6 k3e1 k5e1 k5e3|k5e6 k5e1 k5e6 k5e6|k3e6",
            "2020": "k3e1|k3e6 k5e1 k3e1 k3e1|k5e6 k5e3 k3e6 k5e6|k5e6 k5e6 skip k5e3"
            "|k5e6 k3e1 k5e1 k5e3|k5e6 k5e1 k5e6 k5e6|k3e6",
        }
    ),
    "fbnet_c": PublishedNetwork(
        {
            "2019": "k3e1|k3e6 skip k3e1 k3e1|k5e6 k5e3 k3e6sep k3e6|k5e6 k5e3 k5e6 k5e6"
            "|k5e6 k3e6sep k5e6 k5e3|k5e6 k5e6 k5e6 k5e6|k3e6",
            "2020": "k3e1|k3e6 skip k3e1 k3e1|k5e6 k5e3 k5e6 k3e6|k5e6 k5e3 k5e6 k5e6"
            "|k5e6 k5e6 k5e6 k5e3|k5e6 k5e6 k5e6 k5e6|k3e6",
        }
    ),
    "fbnet_samsung_s8": PublishedNetwork(
        {
            "2020": "k3e1|k3e3 k3e1 skip skip|k5e6 k3e3 k3e3 k3e6|k5e6 k5e3 k5e3 k5e3"
            "|k3e6 k5e3 k5e3 k5e3|k5e6 k5e6 k5e3 k5e6|k5e6"
        },
        transcription=True,
    ),
    "fbnet_iphonex": PublishedNetwork(
        {
            "2020": "skip|k3e6 k3e1 k3e1 k3e1|k3e6 k3e6 k3e6 k3e6|k3e6 k3e6 k3e3 k3e6"
            "|k3e6 k3e3 k3e3 k3e3|k5e6 k5e6 k5e6 k5e3|k5e6"
        },
        transcription=True,
    ),
    "fbnet_96_035_1": PublishedNetwork(
        {
            "2020": "k3e1|k3e6 k3e6 skip skip|k5e6 k5e6 skip skip|k5e6 skip skip skip"
            "|k3e6 skip skip skip|k5e6 k5e6 skip skip|k5e6"
        },
        input_size=96,
        width=0.35,
        transcription=True,
    ),
}
