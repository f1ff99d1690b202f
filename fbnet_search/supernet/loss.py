"""The loss of a search: the paper's, and one that meets a latency target.

The paper's loss (Wu et al., CVPR 2019, equation 2) is CE * α * log(LAT)^β, that is (log LAT)^β and
not log(LAT^β), with the natural logarithm. It is defined only where log LAT > 0, so LAT is in
microseconds here: small networks take less than a millisecond, where the logarithm of milliseconds is
negative and its power undefined, but none takes less than a microsecond. The unit matters: the relative
gradient towards lower latency is d log(loss) / d log(LAT) = β / log(LAT), which for a 20 ms network is
0.06 in microseconds and 0.20 in milliseconds. α only rescales the loss.

The paper's loss fixes neither a latency nor a rate at which it is traded for accuracy. `target_loss` meets
a latency target, with the absolute-value penalty of TuNAS (Bender et al., CVPR 2020) on the logarithm.
"""

from torch import Tensor

_MICROSECONDS = 1000.0  # in a millisecond


def paper_loss(
    cross_entropy: Tensor, latency_ms: Tensor, alpha: float = 0.2, beta: float = 0.6
) -> Tensor:
    """Return cross_entropy * alpha * log(latency in µs)^beta, a scalar.

    `latency_ms` is a scalar above 0.001 (`latency_model` refuses LUTs that predict less).
    """
    return cross_entropy * alpha * (latency_ms * _MICROSECONDS).log() ** beta


def target_loss(
    cross_entropy: Tensor, latency_ms: Tensor, target_ms: float, strength: float = 1.0
) -> Tensor:
    """Return cross_entropy + strength * |ln(latency / target)|, a scalar.

    The slope is equal on both sides of the target, so latencies below it are penalised like those above;
    the latency converges to the target as long as a 1 % change of it changes the cross-entropy by less
    than 0.01 * strength.
    """
    return cross_entropy + strength * (latency_ms / target_ms).log().abs()
