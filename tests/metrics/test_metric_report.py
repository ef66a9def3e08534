import json
import math

import numpy as np
import pytest

from hf_localgan.metrics import (
    Signature,
    bleu,
    compare_systems,
    distinct_n,
    embedding_scores,
    entropy_n,
    metric_tokens,
    references_setting,
    score_references,
    score_responses,
)

REFERENCES = [
    ["Yes, I like tea.", "No, I prefer coffee.", "Tea is fine."],
    ["I live in a small town.", "Near the sea."],
    ["It's late.", "It is ten.", "Nearly midnight, I think."],
    ["He went home.", "I don't know."],
]
GENERATIONS = ["I like tea.", "In a town near the sea.", "I don't know.", "I don't know."]


class Vectors(dict):
    name, dim = "random-8", 8


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    words = {word for one in [*REFERENCES, GENERATIONS] for text in one for word in metric_tokens(text)}
    return Vectors({word: rng.normal(size=8) for word in sorted(words)})


def test_a_signature_lists_its_settings_and_the_version():
    from hf_localgan import __version__

    signature = Signature("distinct", {"n": 2, "tok": "words", "case": "lower", "N": 1000})
    assert str(signature) == f"distinct|n:2|tok:words|case:lower|N:1000|v:{__version__}"
    assert str(Signature("x", {"vectors": "a|b", "radius": 1 / 3})).startswith("x|vectors:a/b|radius:0.333333|v:")


def test_references_per_query_are_a_number_or_a_range():
    assert references_setting([[1, 2], [3, 4]]) == 2
    assert references_setting([[1, 2], [3], [4, 5, 6]]) == "1-3"


def test_every_score_equals_its_plain_function(vectors):
    report = score_responses(GENERATIONS, REFERENCES, vectors=vectors, resamples=50)
    tokens = [metric_tokens(text) for text in GENERATIONS]
    referred = [[metric_tokens(text) for text in one] for one in REFERENCES]
    assert report["dist_1"].value == distinct_n(tokens, 1) and report["dist_2"].value == distinct_n(tokens, 2)
    assert report["ent_4"].value == entropy_n(tokens, 4)
    assert report["distinct_responses"].value == 3 / 4
    # i like tea . / in a town near the sea . / i don 't know . twice
    assert report["mean_length"].value == (4 + 7 + 5 + 5) / 4
    for name, values in embedding_scores(tokens, referred, vectors).items():
        assert report[name].value == pytest.approx(values.mean())
    joined = [" ".join(one) for one in tokens], [[" ".join(reference) for reference in one] for one in referred]
    for order in (2, 4):
        assert report[f"bleu_{order}"].value == pytest.approx(bleu(*joined, tokenize="none", max_order=order).score)
    assert report.notes["vector_coverage_generations"] == 1.0
    for name in report.scores:
        assert report[name].interval.low <= report[name].value + 1e-9


def test_without_references_or_vectors_only_what_needs_none_is_scored(vectors):
    diversity = {"dist_1", "dist_2", "ent_4", "distinct_responses", "mean_dist_2", "mean_length"}
    assert set(score_responses(GENERATIONS, vectors=vectors).scores) == diversity
    assert set(score_responses(GENERATIONS, REFERENCES).scores) == diversity | {"bleu_2", "bleu_4"}
    single = score_responses(GENERATIONS, [one[:1] for one in REFERENCES], vectors=vectors)
    assert "relevance_max" in single.scores and "local_coverage" not in single.scores


@pytest.mark.parametrize(
    "change",
    [
        {"tokenization": "whitespace"},
        {"lowercase": False},
        {"references": [one[:2] for one in REFERENCES]},
        {"radius": 0.5},
        {"vectors": type("Renamed", (Vectors,), {"name": "others"})},
    ],
)
def test_a_signature_changes_when_a_setting_does(vectors, change):
    def signatures(references=REFERENCES, vectors=vectors, **settings):
        report = score_responses(GENERATIONS, references, vectors=vectors, resamples=0, **settings)
        return report["local_coverage"].signature, report["relevance_max"].signature, report["dist_2"].signature

    if "vectors" in change:
        change = {"vectors": change["vectors"](vectors)}
    before, after = signatures(), signatures(**change)
    assert before[0] != after[0]
    assert (before[1] != after[1]) == ("radius" not in change)
    assert (before[2] != after[2]) == bool({"tokenization", "lowercase"} & set(change))


def test_samples_serve_local_coverage(vectors):
    # the references themselves as samples cover everything at any radius
    report = score_responses(GENERATIONS, REFERENCES, samples=REFERENCES, vectors=vectors, radius=1e-9, resamples=0)
    assert report["local_coverage"].value == report["local_precision"].value == 1.0
    assert "|samples:2-3|" in report["local_coverage"].signature


def test_the_default_radius_is_stated(vectors):
    signature = score_responses(GENERATIONS, REFERENCES, vectors=vectors, resamples=0)["local_coverage"].signature
    assert "|radius:" in signature and "|chosen:median-nearest-reference|" in signature


def test_a_report_is_json_and_markdown(vectors):
    report = score_responses(GENERATIONS, REFERENCES, vectors=vectors, resamples=0)
    read = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert read["scores"]["mean_length"]["low"] is None  # no resamples, no interval
    assert read["scores"]["dist_2"]["method"] == "jackknife"
    assert read["scores"]["dist_2"]["signature"] == report["dist_2"].signature
    rows = report.to_markdown().splitlines()
    assert len(rows) == 2 + len(report.scores)
    assert all(row.replace(r"\|", "").count("|") == 5 for row in rows)


def test_empty_and_unknown_generations_are_scored_as_zero(vectors):
    report = score_responses(["", "zzz", "", ""], REFERENCES, vectors=vectors, resamples=10)
    zero = "dist_2 ent_4 bleu_4 relevance_max local_coverage local_precision".split()
    assert [report[name].value for name in zero] == [0.0] * len(zero)
    assert math.isnan(report["mean_dist_2"].value)
    json.dumps(report.to_dict(), allow_nan=False)


def test_chinese_by_character():
    report = score_responses(["我喜欢你", "我喜欢"], [["我喜欢他"], ["我喜欢"]], tokenization="characters")
    # bigrams 我喜 喜欢 欢你 | 我喜 喜欢: 3 distinct of 5
    assert report["dist_2"].value == pytest.approx(3 / 5)
    assert "|tok:characters|" in report["dist_2"].signature


def test_the_references_own_scores_leave_the_chosen_one_out(vectors):
    # every reference of a query is one and the same, except for one query whose two have no word in common
    references = [["tea is fine"] * 3, ["he went home", "near the sea"]]
    report = score_references(references, vectors=vectors, resamples=0)
    assert report.per_query["relevance_max"][0] == pytest.approx(3)
    assert report.per_query["relevance_max"][1] < 2.9  # would be 3 were the chosen one among its own references
    assert "|refs:1-2|" in report["relevance_max"].signature
    assert score_references(references, resamples=0).to_dict() == score_references(references, resamples=0).to_dict()


def test_single_references_have_diversity_only_and_mixed_ones_count_where_they_can(vectors):
    assert "bleu_4" not in score_references([["a b"], ["c d"]], vectors=vectors).scores
    mixed = score_references([["a b"], ["tea", "tea"]], vectors=vectors, resamples=10)
    assert math.isnan(mixed.per_query["relevance_max"][0]) and mixed["relevance_max"].value == pytest.approx(3)
    assert "|N:1|" in mixed["relevance_max"].signature and "|N:2|" in mixed["dist_1"].signature


def test_references_and_system_are_scored_at_one_radius(vectors):
    def radius(report):
        return report["local_coverage"].signature.split("|radius:")[1].split("|")[0]

    system = score_responses(GENERATIONS, REFERENCES, vectors=vectors, resamples=0)
    assert radius(score_references(REFERENCES, vectors=vectors, resamples=0)) == radius(system)


def test_comparing_a_system_with_itself_finds_nothing(vectors):
    report = score_responses(GENERATIONS, REFERENCES, vectors=vectors, resamples=0)
    table = compare_systems(report, report, permutations=20)
    assert set(table.rows) == set(report.scores)
    assert all(row.test.difference == 0 and row.test.p_value == 1 for row in table.rows.values())


def test_a_comparisons_differences_are_those_of_the_reports_and_a_real_one_is_found(vectors):
    references, good = REFERENCES * 5, [one[0] for one in REFERENCES] * 5
    dull = ["I don't know."] * 20
    a, b = (score_responses(one, references, vectors=vectors, resamples=0) for one in (good, dull))
    table = compare_systems(a, b, permutations=99)
    for name, row in table.rows.items():
        assert row.test.difference == pytest.approx(a[name].value - b[name].value), name
    for name in ("bleu_4", "relevance_first", "dist_2", "ent_4", "distinct_responses"):
        assert table[name].test.p_value == pytest.approx(0.01)
    texts = compare_systems(good, dull, references, vectors=vectors, permutations=99)
    assert texts.to_dict() == table.to_dict()
    assert len(table.to_markdown(("good", "dull")).splitlines()) == 2 + len(table.rows)
    json.dumps(table.to_dict(), allow_nan=False)


def test_systems_scored_differently_are_not_compared(vectors):
    a = score_responses(GENERATIONS, REFERENCES, vectors=vectors, resamples=0)
    with pytest.raises(ValueError, match=r"`dist_1` was computed differently.*case:lower.*case:mixed"):
        compare_systems(a, score_responses(GENERATIONS, REFERENCES, lowercase=False, resamples=0))
    people = score_references(REFERENCES, vectors=vectors, resamples=0)
    with pytest.raises(ValueError, match="`bleu_2` was computed differently"):
        compare_systems(a, people, permutations=5)
    assert set(compare_systems(a, people, metrics=["dist_2"], permutations=5).rows) == {"dist_2"}


def test_different_queries_and_unequal_lengths_are_refused():
    a = score_responses(GENERATIONS, queries=["1", "2", "3", "4"])
    with pytest.raises(ValueError, match="at 3 '4' and '5'"):
        compare_systems(a, score_responses(GENERATIONS, queries=["1", "2", "3", "5"]))
    with pytest.raises(ValueError, match="got 4 and 3"):
        compare_systems(a, score_responses(GENERATIONS[:3]))
    with pytest.raises(ValueError, match="got 3 and 4"):
        score_responses(GENERATIONS[:3], REFERENCES)
    with pytest.raises(ValueError, match="`generations` and `samples`.*got 4 and 1"):
        score_responses(GENERATIONS, REFERENCES, samples=[["a"]])
    with pytest.raises(ValueError, match="nothing to score"):
        score_responses([])
    with pytest.raises(ValueError, match="got the string"):
        score_responses(GENERATIONS, [one[0] for one in REFERENCES])
    with pytest.raises(KeyError, match="No score 'bleu'"):
        a["bleu"]
