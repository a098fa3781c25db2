"""Records, the numbers they become, and what these say of claims: all by hand."""

import math
from types import SimpleNamespace

import pytest

from jaxstruct.training import Claim, Experiment, Reference, RunError, results
from tests.training.quick import CONFIG


def record(metric, value, member=None, seed=0, stage=None):
    return {"member": member, "seed": seed, "stage": stage, "metric": metric, "value": value}


def made(*stages, config=CONFIG):
    return Experiment(config, [SimpleNamespace(name=name) for name in stages])


def test_the_last_evaluation_of_each_stage_comes_before_what_is_scored():
    history = [
        {"stage": "a", "evaluation": {"error": 3.0}},
        {"stage": "a", "evaluation": {"error": 2.0, "loss": 0.5}},
        {"stage": "a", "train": {"square": 7.0}},
        {"stage": "b", "evaluation": {"error": 1.0}},
    ]
    scored = {"fid": 9, "coffee": {"accuracy": 0.75}}
    assert results.records_of(made("a", "b", "c"), history, scored) == [
        record("error", 2.0, stage="a"),
        record("loss", 0.5, stage="a"),
        record("error", 1.0, stage="b"),
        record("fid", 9.0),
        record("accuracy", 0.75, member="coffee"),
    ]


def test_a_configuration_without_a_seed_gives_records_without():
    assert results.records_of(made(config=None), [], {"x": 1}) == [record("x", 1.0, seed=None)]


def test_what_is_scored_is_finite():
    with pytest.raises(RunError, match="'accuracy' is nan"):
        results.records_of(made(), [], {"coffee": {"accuracy": math.nan}})


def test_a_run_s_records_become_those_of_a_member():
    own = [record("error", 1.0, stage="a"), record("accuracy", 0.5, member="coffee")]
    assert results.records_of_member(own, "rate=2", 5) == [
        record("error", 1.0, member="rate=2", seed=5, stage="a"),
        record("accuracy", 0.5, member="rate=2/coffee", seed=5),
    ]
    assert results.records_of_member(own, None, 0) == own


def test_a_name_has_the_stage_where_its_member_has_several():
    records = [
        record("error", 1.0, member="one", stage="a"),
        record("error", 2.0, member="two", stage="a"),
        record("error", 3.0, member="two", stage="b"),
        record("weight", 4.0, member="two"),
        record("error", 5.0, member="one", stage="a", seed=1),
        record("a/b", 6.0),
    ]
    assert results.named(records) == {
        "one/error": [1.0, 5.0],
        "two/a/error": [2.0],
        "two/b/error": [3.0],
        "two/weight": [4.0],
        "a/b": [6.0],
    }


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.123456], "0.1235"),
        ([-101.0], "-101"),
        ([1.0, 3.0], "2.0 ± 1.4"),  # the deviation of a sample: the root of 2
        ([100.0, 700.0], "400 ± 424"),
        ([0.00101, 0.00103], "0.001020 ± 0.000014"),
        ([2.0, 2.0], "2 ± 0"),
    ],
)
def test_means_and_deviations(values, text):
    assert str(results.mean_and_spread(values)) == text
    assert results.summary([record("x", v, seed=i) for i, v in enumerate(values)]) == f"x {text}"


def value(better, spread=None, **place):
    return Reference("x", better, value=1.0, spread=spread, source="table 1", **place)


@pytest.mark.parametrize(
    ("reference", "ours", "verdict"),
    [
        (value("lower"), 1.0, "reached"),
        (value("lower"), 0.9, "reached"),
        (value("lower"), 1.1, "missed"),
        (value("lower", 0.25), 1.25, "within the paper's spread"),
        (value("lower", 0.25), 1.26, "missed"),
        (value("higher"), 1.1, "reached"),
        (value("higher"), 0.9, "missed"),
        (value("higher", 0.25), 0.75, "within the paper's spread"),
        (value("near"), 1.0, "reached"),
        (value("near"), 1.25, "0.25 above"),
        (value("near"), 0.5, "0.5 below"),
        (value("near", 0.25), 0.75, "reached"),
        (value("near", 0.25), 0.5, "0.5 below"),
        (value("lower", member="a"), 0.9, "not measured"),
        (value("lower", stage="b"), 0.9, "not measured"),
    ],
)
def test_a_value_is_compared_with_the_paper_s(reference, ours, verdict):
    claim = Claim("x", values=[reference])
    (judged,) = results.judge(claim, [record("x", ours, stage="a"), record("y", 0.0)])
    assert judged.verdict == verdict
    assert judged.ours == ("" if verdict == "not measured" else f"{ours:g}")
    assert judged.paper == ("1" if reference.spread is None else "1 ± 0.25")
    assert judged.source == "table 1"


def test_the_last_stage_that_has_a_metric_is_compared_unless_one_is_named():
    records = [record("x", 3.0, stage="a"), record("x", 2.0, stage="b"), record("y", 0.0)]
    for reference, ours, names in (
        (value("lower"), "2", "x"),
        (value("lower", stage="a"), "3", "x of a"),
    ):
        (judged,) = results.judge(Claim("x", values=[reference]), records)
        assert (judged.ours, judged.numbers) == (ours, names)


def order(*references, **options):
    return Claim("order", orders=[references], **options)


def ranked(member, paper=None):
    return Reference("x", "lower", member=member, value=paper, source="table 1")


def members(**values):
    return [record("x", v, member=m, seed=i) for m, vs in values.items() for i, v in enumerate(vs)]


@pytest.mark.parametrize(
    ("records", "ours", "verdict"),
    [
        (members(a=[1], b=[2], c=[3]), "1 < 2 < 3", "order holds"),
        (members(a=[1], b=[3], c=[2]), "1 < 3 > 2", "order does not hold"),
        (members(a=[1], b=[2], c=[2]), "1 < 2 = 2", "order does not hold"),
        (members(a=[1], b=[2]), "", "not measured"),
        # Deviations of 0.1414: a distance of 0.2 is more, one of 0.1 is less.
        (
            members(a=[0.9, 1.1], b=[1.1, 1.3], c=[2, 2]),
            "1.00 ± 0.14 < 1.20 ± 0.14 < 2 ± 0",
            "order holds",
        ),
        (
            members(a=[0.9, 1.1], b=[1.1, 1.1], c=[2, 2]),
            "1.00 ± 0.14 < 1.1 ± 0 < 2 ± 0",
            "order holds, by less than the spread",
        ),
    ],
)
def test_an_order_holds_where_each_is_better_than_the_next(records, ours, verdict):
    claim = order(ranked("a", 0.5), ranked("b", 0.75), ranked("c"))
    (judged,) = results.judge(claim, records)
    assert (judged.ours, judged.verdict) == (ours, verdict)
    assert judged.paper == "0.5 < 0.75"
    assert judged.numbers == "x of a, b, c"
    assert judged.source == "table 1"


@pytest.mark.parametrize(
    ("records", "verdict"),
    [
        (members(a=[1], b=[2], c=[3]), "order holds"),
        (members(a=[2.25], b=[2], c=[3]), "order holds within 0.25"),
        (members(a=[2], b=[2], c=[3]), "order holds within 0.25"),
        (members(a=[2.5], b=[2], c=[3]), "order does not hold"),
        (members(a=[4], b=[2], c=[2]), "order does not hold"),
    ],
)
def test_an_order_may_be_missed_by_so_much(records, verdict):
    claim = order(ranked("a"), ranked("b"), ranked("c"), within=0.25)
    assert [j.verdict for j in results.judge(claim, records)] == [verdict]


def test_an_order_of_metrics_where_higher_is_better():
    claim = order(
        *(Reference(m, "higher", member="coffee") for m in ("after", "before")), source="figure 2"
    )
    records = [record("before", 0.5, "coffee"), record("after", 0.75, "coffee")]
    (judged,) = results.judge(claim, records)
    assert judged == ("after, before of coffee", "", "figure 2", "0.75 > 0.5", "order holds")
    mixed = order(Reference("after", "higher", member="a"), Reference("before", "higher"))
    assert results.judge(mixed, records)[0].numbers == "after of a, before"


def test_a_picture_is_judged_by_eye():
    (judged,) = results.judge(Claim("x", figure="samples", source="figure 3"), [])
    assert judged == ("", "", "figure 3", "", "to be seen in samples.png")


def test_the_verdicts_of_a_claim_in_one():
    claim = Claim("x", values=[ranked("a", 1.0), ranked("b", 1.0), ranked("c", 1.0)])
    judged = results.judge(claim, members(a=[1], b=[0], c=[2]))
    assert results.verdict(judged) == "reached (2 of 3), missed (1 of 3)"
    assert results.verdict(judged[:2]) == "reached"


def test_lines_of_the_claims_about_a_configuration():
    claims = [
        Claim("both small", values=[ranked("a", 1.0), ranked("b", 1.5)], config={"latent": 2}),
        Claim("larger", orders=[[ranked("a"), ranked("b")]], config={"latent": 20}),
        Claim("ordered", orders=[[ranked("a"), ranked("b")]]),
        Claim("beautiful", figure="samples"),
    ]
    records = members(a=[1], b=[2])
    assert results.judged_claims(claims, {"latent": 2, "seed": 0}, records) == [
        "both small: paper 1; 1.5, ours 1; 2: reached (1 of 2), missed (1 of 2)",
        "ordered: ours 1 < 2: order holds",
        "beautiful: to be seen in samples.png",
    ]
