import pytest

from experiments._schedules import cosine, in_equal_parts


@pytest.mark.parametrize(
    ("steps", "parts", "expected"),
    [
        (100, 4, (100, 25)),
        (103, 4, (104, 26)),
        (3, 8, (3, 1)),
        (0, 4, (1, 1)),
        (10, 0, (10, 10)),
    ],
)
def test_a_stage_consists_of_equal_parts(steps, parts, expected):
    assert in_equal_parts(steps, parts) == expected


@pytest.mark.parametrize(("steps", "rise"), [(1000, 100), (60, 30)])
def test_a_rate_rises_and_falls_to_0(steps, rise):
    rate = cosine(0.1, steps)
    assert float(rate(0)) == 0
    assert float(rate(rise // 2)) == pytest.approx(0.05)
    assert float(rate(rise)) == pytest.approx(0.1)
    assert float(rate((rise + steps) // 2)) == pytest.approx(0.05)
    assert float(rate(steps)) == pytest.approx(0, abs=1e-8)


def test_a_stage_without_steps_has_a_schedule():
    assert float(cosine(0.1, 0)(0)) == pytest.approx(0.1)
