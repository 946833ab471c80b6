"""How numbers go with a truth that was itself measured with error: correlation, its correction, its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
DRAWS = 2000
_LOW, _HIGH = 2.5, 97.5


@dataclass(frozen=True)
class Sums:
    """What a correlation follows from, summed over each cluster: n, Σx, Σy, Σx², Σy², Σxy and Σ(error of y)²."""

    sums: Floats  # [clusters, 7]

    @classmethod
    def of(cls, clusters: Sequence[tuple[Sequence[float], Sequence[float], Sequence[float]]]) -> Sums:
        """From each cluster's x, y and the standard errors of y."""
        rows = []
        for xs, ys, errors in clusters:
            x, y, e = (np.asarray(values, float) for values in (xs, ys, errors))
            rows.append([len(x), x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum(), (e * e).sum()])
        return cls(np.asarray(rows, float).reshape(len(clusters), 7))

    def resampled(self, weights: Floats) -> Sums:
        """Totals where cluster c counts `weights[b, c]` times: one row for each b."""
        return Sums(weights @ self.sums)

    @property
    def correlation(self) -> Floats:
        """Pearson's, of each row; nan where x or y does not vary."""
        n, x, y, xx, yy, xy, _ = self.sums.T
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = np.sqrt(np.maximum(n * xx - x * x, 0.0) * np.maximum(n * yy - y * y, 0.0))
            return np.where(spread > 1e-12, (n * xy - x * y) / spread, np.nan)

    @property
    def reliability(self) -> Floats:
        """The share of the variance of y that is not the error of its measurement, of each row: 0 to 1."""
        n, _, y, _, yy, _, ee = self.sums.T
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = (yy - y * y / n) / (n - 1)
            return np.clip(np.where(variance > 0, 1.0 - ee / n / variance, 0.0), 0.0, 1.0)

    @property
    def corrected(self) -> Floats:
        """The correlation with the truth itself: r / √reliability (Spearman 1904), at most 1 in size."""
        with np.errstate(invalid="ignore", divide="ignore"):
            reliability = self.reliability
            corrected = np.where(reliability > 0, self.correlation / np.sqrt(reliability), np.nan)
        return np.clip(corrected, -1.0, 1.0)


def bootstrap_weights(clusters: int, seed: int = 0, draws: int = DRAWS) -> Floats:
    """How often each cluster is in each of `draws` samples with replacement: [draws, clusters]."""
    return np.random.default_rng(seed).multinomial(clusters, np.full(clusters, 1 / clusters), draws).astype(float)


def percentiles(values: Floats) -> tuple[float, float] | None:
    """The 95 % interval of bootstrapped values; None where too few of them are numbers."""
    known = values[np.isfinite(values)]
    if len(known) < 0.9 * len(values):
        return None
    low, high = np.percentile(known, [_LOW, _HIGH])
    return float(low), float(high)
