"""The arithmetic of tables."""

import numpy as np
import pytest
from scipy import stats

from cmav.experiments.table import Cell


def test_intervals_are_students_and_differences_are_within_runs():
    one, other = Cell((0.9, 0.7, 0.8)), Cell((0.5, 0.3, 0.4))
    low, high = stats.t.interval(0.95, 2, loc=np.mean(one.values), scale=stats.sem(one.values))
    assert one.interval == pytest.approx((low, high))
    assert (one - other).mean == pytest.approx(0.4) and (one - other).half_width == pytest.approx(0, abs=1e-9)
    assert str(one) == "0.800 ± 0.248" and (one - other).signed() == "+0.400 ± 0.000"


def test_a_single_run_has_the_interval_over_its_clips():
    assert str(Cell((0.5,))) == "0.500" and Cell((0.5,)).interval is None
    assert str(Cell((0.5,), (0.25, 0.75))) == "0.500 (0.250–0.750)"


def test_where_the_seed_changes_nothing_it_says_nothing_of_how_sure_a_number_is():
    same, other, varying = Cell((0.5, 0.5), (0.0, 1.0)), Cell((0.75, 0.75), (0.5, 1.0)), Cell((0.5, 0.75), (0.0, 1.0))
    assert str(same) == "0.500 (0.000–1.000)" and (other - same).signed() == "+0.250"
    assert str(varying) == "0.625 ± 1.588" and (varying - same).signed() == "+0.125 ± 1.588"


def test_what_is_only_known_to_be_at_least_so_much_has_no_interval_and_its_differences_are_bounds():
    known, over = Cell((300.0, 350.0)), Cell((650.0, 700.0), (0.0, 1.0), "≥")
    assert str(over) == "≥ 675" and over.interval is None
    assert (over - known).signed() == "≥ +350" and (known - over).signed() == "≤ -350"
    assert (over - over).signed() == "?"


def test_numbers_are_shown_as_far_as_anybody_reads():
    assert [str(Cell((x,))) for x in (0.12345, -0.5, 52.449, 700.4)] == ["0.123", "-0.500", "52.4", "700"]
