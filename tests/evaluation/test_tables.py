import math

import pytest

from hf_localgan.evaluation.tables import cell, spread
from hf_localgan.metrics.intervals import Interval, no_interval


@pytest.mark.parametrize(
    "values, form, expected",
    [
        ([0.2, 0.3], ".3g", "0.25 (0.2 to 0.3)"),
        ([0.294], ".3f", "0.294"),
        ([0.294, 0.294], ".3f", "0.294"),
        ([0.2940, 0.2941, 0.2942], ".3f", "0.294"),  # equal in what is shown
        ([0.2939, 0.2951], ".3f", "0.294 (0.294 to 0.295)"),
        ([0.25, None, math.nan], ".3g", "0.25"),
        ([None, math.nan], ".3g", ""),
        ([], ".3g", ""),
    ],
)
def test_a_spread_is_shown_where_values_differ(values, form, expected):
    assert spread(values, form) == expected


def test_an_interval_is_shown_where_it_tells_something():
    def interval(*ends):
        return Interval(*ends, 0.95, "bootstrap", 9, 0)

    assert cell(interval(0.652, 0.641, 0.663)) == "0.652 (0.641 to 0.663)"
    assert cell(interval(1.0, 1.0, 1.0)) == "1" == cell(no_interval(1.0))  # no width: read as the lack of one
    assert cell(interval(0.3, 0.3001, 0.30012)) == "0.300" and cell(no_interval(math.nan)) == ""
    assert cell(interval(0.3, 0.2, 0.4), "{:+.1f}".format) == "+0.3 (+0.2 to +0.4)"
