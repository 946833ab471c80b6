"""Student's t with any degrees of freedom, fractions included: the distribution that comparisons of few seeds need."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_STEPS = 100  # far more than are taken


def t_cdf(t: float, freedom: float) -> float:
    """The probability of at most `t` under Student's t with `freedom` degrees of freedom.

    With t = √ν tan θ the density becomes cos^(ν−1) θ, smooth on a bounded range (Abramowitz & Stegun 1964, Handbook of
    Mathematical Functions, 26.7); Gauss-Legendre integrates it.
    """
    angle = math.atan(abs(t) / math.sqrt(freedom))
    density = np.exp((freedom - 1.0) * np.log(np.cos((_NODES + 1.0) * angle / 2.0)))
    scale = math.exp(math.lgamma((freedom + 1.0) / 2.0) - math.lgamma(freedom / 2.0)) / math.sqrt(math.pi)
    return 0.5 + math.copysign(min(0.5, scale * angle / 2.0 * float(_WEIGHTS @ density)), t)


def t_quantile(chance: float, freedom: float) -> float:
    """The quantile of Student's t at the probability `chance`, which is above one half.

    By Newton's method from the normal quantile, which lies below it: the distribution is concave there, so that no step
    goes too far.
    """
    t = NormalDist().inv_cdf(chance)
    scale = math.exp(math.lgamma((freedom + 1.0) / 2.0) - math.lgamma(freedom / 2.0)) / math.sqrt(freedom * math.pi)
    for _ in range(_STEPS):
        density = scale * math.exp(-(freedom + 1.0) / 2.0 * math.log1p(t * t / freedom))
        step = (chance - t_cdf(t, freedom)) / density
        t += step
        if step <= 1e-12 * t:
            break
    return t
