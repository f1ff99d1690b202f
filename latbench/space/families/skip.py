"""Skips: the identity, or a projection where the shape changes.

skip_s2_i16_o24_h112_w112            a 1x1 convolution, BN and activation in place of the identity
"""

from dataclasses import dataclass
from typing import ClassVar, Self

from latbench.space.candidate import Candidate, Layer
from latbench.space.families.conv import Convolution
from latbench.space.opspec import Activation, OpSpec


@dataclass(frozen=True, kw_only=True)
class Projection(Convolution):
    """What takes the place of a skip where the shape changes: a 1x1 convolution."""

    kind: ClassVar[str] = "skip"
    form: ClassVar[str] = (
        "skip_s{stride}_i{in_channels}_o{out_channels}_h{height}_w{width}[_{activation}]"
    )
    is_block: ClassVar[bool] = False


class Skip(Candidate):
    """No block: the layer passes its input on."""

    family: ClassVar[str] = "skip"
    example: ClassVar[str] = "skip"

    activation: Activation = Activation.RELU

    @property
    def token(self) -> str:
        """Always skip."""
        return "skip"

    @classmethod
    def of_token(cls, token: str) -> Self | None:
        """See `Candidate.of_token`."""
        return cls() if token == "skip" else None

    def op(self, layer: Layer) -> OpSpec | None:
        """None, or the projection where the shape changes."""
        if layer.keeps_shape:
            return None
        return Projection(**layer.shape, activation=self.activation)


#: The skip that the notation means.
SKIP = Skip()
