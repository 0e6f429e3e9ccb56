"""Graded labels: a normal quality cut into grades of equal shares, and the best that can be known of them.

A prediction sees of the quality q, a standard normal number, what has correlation rho with it: another standard normal
number z, given which q is normal with mean rho z and variance 1 - rho^2. Everything here is an integral over z alone,
taken numerically to about 1e-7.
"""

from __future__ import annotations

import numpy as np
import scipy  # its parts load on first use, and `scipy.special` long before `scipy.stats`

from aqa.store.draws import Floats

Z = np.linspace(-9, 9, 20_001)
DENSITY = np.exp(-(Z**2) / 2) / np.sqrt(2 * np.pi)
WEIGHT = DENSITY * (Z[1] - Z[0])  # of each z; the trapezoid rule, as the density is 0 at both ends


def grade_of(quality: Floats, grades: int) -> Floats:
    """The grade, 0 to grades - 1, of each quality: which of so many equal shares of a normal distribution it is in."""
    return np.searchsorted(_cuts(grades), quality).astype(np.float64)


def best_accuracy(rho: float, grades: int) -> float:
    """The share of videos whose most likely grade is the right one: no prediction can have a higher accuracy."""
    return float(WEIGHT @ _chances(rho, grades).max(axis=1))


def expected_grade_accuracy(rho: float, grades: int) -> float:
    """The accuracy of the best regression: of the grade that is nearest to the expected one, halves upwards."""
    chances = _chances(rho, grades)
    nearest = np.floor(chances @ np.arange(grades) + 0.5).astype(np.int64)
    return float(WEIGHT @ np.take_along_axis(chances, nearest[:, None], axis=1)[:, 0])


def best_srcc(rho: float, grades: int) -> float:
    """The highest Spearman correlation of a prediction with the grades, which have mean ranks where they are equal.

    The prediction's ranks are those of z: only in that order is the sum of products with the expected ranks largest.
    """
    middle = (np.arange(grades) + 0.5) / grades - 0.5  # mean ranks of the grades, centred, as shares of all
    together = WEIGHT @ ((scipy.special.ndtr(Z) - 0.5) * (_chances(rho, grades) @ middle))
    return float(together / np.sqrt(np.square(middle).mean() / 12))


def _cuts(grades: int) -> Floats:
    """Where one grade ends and the next begins, (grades - 1,)."""
    return np.asarray(scipy.special.ndtri(np.arange(1, grades) / grades), np.float64)


def _chances(rho: float, grades: int) -> Floats:
    """The chances of the grades given each z, (len(Z), grades); rho below 1."""
    below = scipy.special.ndtr((_cuts(grades) - rho * Z[:, None]) / np.sqrt(1 - rho**2))
    return np.diff(below, axis=1, prepend=0.0, append=1.0)
