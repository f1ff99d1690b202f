"""FBNet as data: the search space (Wu et al., CVPR 2019, Table 1 and section 3.1) and its networks.

22 layers each take one of 9 candidates between a fixed stem and head. `fbnet-cifar` is the layout of the
same space for 32x32 images in HW-NAS-Bench (Li et al., ICLR 2021).

The 2019 release is the code published with the paper: e1 blocks keep their first 1x1 convolution,
some 5x5 are two 3x3 (`sep`), and MACs are those of convolution and linear layers. Its layers are
reconstructed; they reproduce the published counts exactly. The 2020 release drops the first 1x1 of
e1 blocks and counts one more operation for each input element of the global average pool.
"""

from latbench.space.macro import (
    SKIP,
    Candidate,
    MacroArchitecture,
    PublishedNetwork,
    Release,
    Stage,
)

#: The nine candidates of FBNet's Table 2, in the order that LUTs and supernets use.
CANDIDATES: tuple[Candidate, ...] = (
    *tuple(
        Candidate(kernel, expansion, groups)
        for kernel in (3, 5)
        for expansion, groups in ((1, 1), (1, 2), (3, 1), (6, 1))
    ),
    SKIP,
)

#: The search space, the release and the sentinel that are used unless another is named.
DEFAULT_SPACE, DEFAULT_RELEASE, SENTINEL = "fbnet", "2020", "fbnet_b"

_CHANNELS = (16, 24, 32, 64, 112, 184, 352)
_LAYERS = (1, 4, 4, 4, 4, 4, 1)


def _stages(*strides: int) -> tuple[Stage, ...]:
    return tuple(map(Stage, _CHANNELS, _LAYERS, strides))


MACRO_ARCHITECTURES: dict[str, MacroArchitecture] = {
    macro.name: macro
    for macro in (
        MacroArchitecture(
            "fbnet", (224, 192, 128, 96), 32, 16, 2, _stages(1, 2, 2, 2, 1, 2, 1), (1984, 1504), 1000
        ),
        MacroArchitecture(
            "fbnet-cifar", (32, 16), 8, 16, 1, _stages(1, 1, 2, 2, 1, 2, 1), (1504,), 10
        ),
    )
}  # fmt: skip

RELEASES: dict[str, Release] = {
    "2019": Release("2019", keeps_first_1x1=True, counts_pool=False),
    "2020": Release("2020", keeps_first_1x1=False, counts_pool=True),
}

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
