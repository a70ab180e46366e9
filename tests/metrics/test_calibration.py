"""Calibration at numbers worked out by hand."""

from __future__ import annotations

import pytest

from fledge.metrics.calibration import brier, calibration_error, reliability


def test_hand_values() -> None:
    stated, true = [0.9, 0.9, 0.6, 0.1], [True, False, True, False]
    assert brier(stated, true) == pytest.approx((0.01 + 0.81 + 0.16 + 0.01) / 4)
    curve = reliability(stated, true)
    assert [(one.size, round(one.stated, 3), one.found) for one in curve] == [
        (1, 0.1, 0.0),
        (1, 0.6, 1.0),
        (2, 0.9, 0.5),
    ]
    assert calibration_error(curve) == pytest.approx((0.1 + 0.4 + 2 * 0.4) / 4)


def test_certainty_has_a_bin() -> None:
    (only,) = reliability([1.0], [True])
    assert (only.low, only.high) == (0.9, 1.0)


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1\.2 is no probability"):
        reliability([1.2], [True])
    with pytest.raises(ValueError, match="at least one"):
        brier([], [])
