"""The quantiles that intervals and tests use, of the normal distribution and of Student's t.

SciPy takes a tenth of a second to import, which commands that only read a LUT need not spend; so the normal
distribution's come from the standard library.
"""

from statistics import NormalDist

#: 97.5 % quantile of the standard normal distribution: half the width of a 95 % interval.
Z975 = NormalDist().inv_cdf(0.975)

#: 95 % quantile of the standard normal distribution.
Z95 = NormalDist().inv_cdf(0.95)


def student_quantile(degrees: float, probability: float = 0.975) -> float:
    """A quantile of Student's t; fewer than 1 degree of freedom count as 1."""
    from scipy.special import stdtrit

    return float(stdtrit(max(1, degrees), probability))


def two_sided_p(t: float, degrees: float) -> float:
    """The two-sided p-value of Student's t."""
    from scipy.special import stdtr

    return float(2 * stdtr(degrees, -abs(t)))
