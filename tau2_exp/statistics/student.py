"""Student's t with any degrees of freedom, fractions included: what comparing few seeds stands on."""

from __future__ import annotations

import math

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_WIDEST = 1e6  # the greatest quantile looked for


def t_cdf(t: float, freedom: float) -> float:
    """The chance of at most `t`. With t = √ν tan θ the density becomes cos^(ν−1) θ, smooth on a bounded range
    (Abramowitz & Stegun 1964, Handbook of Mathematical Functions, 26.7); Gauss-Legendre integrates it."""
    angle = math.atan(abs(t) / math.sqrt(freedom))
    density = np.exp((freedom - 1.0) * np.log(np.cos((_NODES + 1.0) * angle / 2.0)))
    scale = math.exp(math.lgamma((freedom + 1.0) / 2.0) - math.lgamma(freedom / 2.0)) / math.sqrt(math.pi)
    return 0.5 + math.copysign(min(0.5, scale * angle / 2.0 * float(_WEIGHTS @ density)), t)


def t_quantile(chance: float, freedom: float) -> float:
    """The t below which `chance`, above one half, lies; found by bisection."""
    low, high = 0.0, _WIDEST
    while high - low > 1e-10 * max(1.0, high):
        middle = (low + high) / 2.0
        low, high = (middle, high) if t_cdf(middle, freedom) < chance else (low, middle)
    return high
