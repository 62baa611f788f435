"""Charts of the statistics: where bars, dots and ticks stand."""

from dpu_api.v1.archive_pb2 import TrendPoint
from dpud.web.charts import LEFT, LOW, TOP, WIDTH, Chart, bars
from dpud.web.trends import TRENDS, drawn

EMPTY = Chart(title="Jobs", columns=("Day", "Jobs"), rows=[])


def point(night, value, *, valid=True):
    return TrendPoint(night=night, value=value, is_valid=valid)


def test_parts_of_a_bar_stand_on_one_another_and_what_is_none_is_not_drawn():
    chart = bars(EMPTY, [("a", [8.0, 2.0]), ("b", [0.0, 5.0])], ("good", "bad"), "{:.0f}".format)
    good, bad, alone = chart.blocks
    assert (good.kind, bad.kind, alone.kind) == ("good", "bad", "bad")
    assert (good.y + good.height, bad.y + bad.height, bad.y) == (LOW, good.y, TOP)
    assert (good.height, alone.height) == (118.4, 74.0)
    assert good.x < alone.x < WIDTH
    assert chart.kinds == ("good", "bad")


def test_ticks_are_round_few_and_whole_for_few():
    for most, texts in (
        (0.0, "0 1 2 3 4 5"),
        (1.0, "0 1 2 3 4 5"),
        (37.0, "0 10 20 30 40"),
        (4e6, "0 1e+06 2e+06 3e+06 4e+06"),
    ):
        assert " ".join(tick.text for tick in bars(EMPTY, [("a", [most])], ("k",), "{:.4g}".format).up) == texts


def test_of_many_days_some_are_named_the_last_among_them():
    chart = bars(EMPTY, [(str(day), [1.0]) for day in range(90)], ("k",), str)
    assert len(chart.along) == 5
    assert chart.along[-1].text == "89"


def test_a_trend_has_a_dot_a_product_and_a_line_through_the_medians():
    points = [point("2000-04-27", 2.0), point("2000-04-28", 4.0), point("2000-04-28", 2.0, valid=False)]
    chart = drawn(TRENDS[0], points, days=7)
    assert [(dot.valid, dot.x) for dot in chart.dots] == [(True, LEFT + 8), (True, WIDTH - 8), (False, WIDTH - 8)]
    assert [chart.dots[0].y, chart.dots[1].y] == [LOW, TOP]
    assert chart.line == f"M{LEFT + 8.0} {LOW:.1f} L{WIDTH - 8.0} {(LOW + TOP) / 2:.1f}"
    assert chart.rows == [
        ("2000-04-28", "2", "3", "2", "4", "1"),
        ("2000-04-27", "1", "2", "2", "2", "0"),
    ]


def test_a_trend_ends_with_the_newest_night_whenever_that_was():
    chart = drawn(TRENDS[0], [point("2000-04-01", 1.0), point("2000-04-28", 2.0)], days=7)
    assert [row[0] for row in chart.rows] == ["2000-04-28"]
    assert drawn(TRENDS[0], [], days=7).rows == []
