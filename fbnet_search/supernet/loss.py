"""What a search minimises: the paper's loss, and one that meets a latency budget.

The paper's loss (Wu et al., CVPR 2019, equation 2) is CE * α * log(LAT)^β, that is (log LAT)^β and
not log(LAT^β), with the natural logarithm. It is defined only where log LAT > 0, so LAT is taken in
microseconds here: a small network takes less than a millisecond, where the logarithm of
milliseconds is negative and its power undefined, but no network takes less than a microsecond.
The unit is not neutral: the pull towards lower latency is d log(loss) / d log(LAT) = β / log(LAT),
which for a 20 ms network is 0.06 in microseconds and 0.20 in milliseconds. α only rescales the
loss.

The paper's loss trades accuracy for latency at a rate that nobody chooses. `target_loss` meets a
budget instead, with the absolute-value penalty of TuNAS (Bender et al., CVPR 2020), of the logarithm.
"""

from torch import Tensor

_MICROSECONDS = 1000.0  # in a millisecond


def paper_loss(
    cross_entropy: Tensor, latency_ms: Tensor, alpha: float = 0.2, beta: float = 0.6
) -> Tensor:
    """Return cross_entropy * alpha * log(latency in µs)^beta, a scalar.

    `latency_ms` is a scalar above 0.001 (`latency_model` makes sure of that).
    """
    return cross_entropy * alpha * (latency_ms * _MICROSECONDS).log() ** beta


def target_loss(
    cross_entropy: Tensor, latency_ms: Tensor, target_ms: float, strength: float = 1.0
) -> Tensor:
    """Return cross_entropy + strength * |ln(latency / target)|, a scalar.

    Its slope is the same on both sides of the target, so a network that is too fast is drawn up to
    the budget as firmly as one that is too slow is drawn down; the latency settles at the target as
    long as a 1 % change of it changes the cross-entropy by less than 0.01 * strength.
    """
    return cross_entropy + strength * (latency_ms / target_ms).log().abs()
