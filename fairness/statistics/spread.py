"""How far groups are apart beyond what sampling alone puts between them.

The largest minus the smallest rate of several groups grows with noise and with the number of groups, and
so does their standard deviation. Subtracting what sampling adds gives an estimate that is not biased
upwards (Lum, Zhang and Bower, "De-biasing bias measurement", FAccT 2022).
"""

from __future__ import annotations

import numpy as np
from scipy.special import chndtr, ndtr

from unmasked.fairness.records import Spread


def between_group_spread(value: np.ndarray, variance: np.ndarray) -> Spread:
    """The standard deviation of J group values.

    Raw, corrected for sampling, and its 95 % interval.
    corrected² = max(0, S² - mean of v_j), with S² the sample variance (J - 1) of the values and v_j their
    sampling variances. S² is a quadratic form whose law is taken as a scaled non-central chi-squared with
    the same mean and, without any difference, the same variance (Satterthwaite); the interval holds every
    true spread that this law does not reject at 2.5 % on either side. Values that are more alike than
    sampling makes them bound it no closer than those that are as alike as it does: three rates that happen
    to be equal are no proof. Range [0, inf), 0 is equal groups.

    Args:
        value: (J,) the groups' values; NaN is left out.
        variance: (J,) sampling variances of the values.

    Returns:
        NaN where fewer than two values are defined.

    >>> found = between_group_spread(np.array([0.1, 0.3]), np.array([0.0, 0.0]))
    >>> round(found["raw"], 4), round(found["corrected"], 4)
    (0.1414, 0.1414)
    """
    defined = ~np.isnan(value) & ~np.isnan(variance)
    value, variance = value[defined], variance[defined]
    if len(value) < 2:
        nan = float("nan")
        return {"raw": nan, "corrected": nan, "corrected_ci": [nan, nan]}
    observed = float(np.var(value, ddof=1))
    corrected = max(0.0, observed - float(variance.mean()))
    low, high = _limits(observed, variance)
    return {
        "raw": float(np.sqrt(observed)),
        "corrected": float(np.sqrt(corrected)),
        "corrected_ci": [float(np.sqrt(low)), float(np.sqrt(high))],
    }


def _limits(observed: float, variance: np.ndarray) -> tuple[float, float]:
    """Limits of the true variance between groups."""
    from scipy.optimize import brentq  # a page that shows them has no need of it

    if not variance.max() > 0:
        return observed, observed
    centred = np.eye(len(variance)) - 1 / len(variance)
    root = np.sqrt(variance)
    weights = np.linalg.eigvalsh(root[:, None] * centred * root[None, :] / (len(variance) - 1))
    scale = float((weights**2).sum() / weights.sum())
    freedom = float(weights.sum() / scale)

    def limit(seen: float, level: float) -> float:
        def excess(between: float) -> float:
            found = float(chndtr(seen / scale, freedom, between / scale))
            # Far out SciPy has no value; there the distribution is normal.
            centre, spread = freedom + between / scale, np.sqrt(2 * (freedom + 2 * between / scale))
            return (float(ndtr((seen / scale - centre) / spread)) if np.isnan(found) else found) - level

        if excess(0.0) <= 0:
            return 0.0
        far = seen + float(variance.sum())
        while excess(far) > 0:
            far *= 2
        return float(brentq(excess, 0.0, far))

    return limit(observed, 0.975), limit(max(observed, float(variance.mean())), 0.025)
