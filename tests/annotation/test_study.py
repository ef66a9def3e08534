"""Studies: what is drawn, what a sheet gives away, and the key."""

import json

import numpy as np
import pytest

from hf_localgan.annotation import Question, Study, System, make_study, read_sheet
from hf_localgan.annotation.study import CONTROL, REFERENCE

from .conftest import QUERIES, REFERENCES


def test_equal_answers_to_a_query_are_one_item_and_every_source_is_judged(study, systems):
    assert len(study.queries) == 10 and len(set(study.queries)) == 10
    for query, text in enumerate(study.queries):
        index = QUERIES.index(text)
        items = [item for item in study.items if item.query == query]
        shared = [item for item in items if {"alpha", "beta"} <= set(item.sources)]
        assert len(shared) == index % 2  # beta copies alpha where the index is odd
        assert len({item.response for item in items}) == len(items)
        for system in systems:
            (own,) = [item for item in items if system.name in item.sources]
            assert own.response == system.answers[index]
        (reference,) = [item for item in items if REFERENCE in item.sources]
        assert reference.response in REFERENCES[index] and study.references[query] == REFERENCES[index]
    controls = [item for item in study.items if CONTROL in item.sources]
    assert len(controls) == 5
    for item in controls:
        own = REFERENCES[QUERIES.index(study.queries[item.query])]
        assert item.response not in own and any(item.response in some for some in REFERENCES)


def test_everybody_judges_everything_in_an_order_of_their_own_with_repeats_late(study):
    items = len(study.items)
    orders = []
    for rows in study.sheets.values():
        once = [row.item for row in rows if not row.repeat]
        assert sorted(once) == list(range(items))
        queries = [study.items[item].query for item in once]
        changes = 1 + sum(one != other for one, other in zip(queries, queries[1:], strict=False))
        assert changes == len(study.queries)  # responses of a query stand together
        repeats = [place for place, row in enumerate(rows) if row.repeat]
        assert len(repeats) == int(np.ceil(0.2 * items))
        for place in repeats:
            first = next(at for at, row in enumerate(rows) if row.item == rows[place].item)
            assert first < len(rows) / 2 + 3 < place
        orders.append(once)
    assert len({tuple(order) for order in orders}) == len(orders)
    ids = [row.id for rows in study.sheets.values() for row in rows]
    assert len(set(ids)) == len(ids)


def test_sheets_name_no_system_and_say_nothing_but_texts(study, tmp_path):
    study.write(tmp_path / "study")
    for path in (tmp_path / "study" / "sheets").glob("*.csv"):
        text = path.read_text(encoding="utf-8-sig")
        assert not [name for name in (*study.systems, REFERENCE, CONTROL, "repeat") if name in text]
    for name in study.sheets:
        pair = [read_sheet(tmp_path / "study" / "sheets" / f"{name}{suffix}") for suffix in (".csv", ".xlsx")]
        assert pair[0] == pair[1] and [row.id for row in pair[0].rows] == [row.id for row in study.sheet(name).rows]
    # an id does not depend on what is behind it: those of one person are not sorted like the items
    ids = {row.item: row.id for row in study.sheets["sheet_1"] if not row.repeat}
    order = sorted(ids, key=ids.get)
    assert order != sorted(order)


def test_equal_seeds_make_equal_studies(systems):
    def make(seed):
        return make_study(QUERIES, REFERENCES, systems, query_count=6, annotators=2, seed=seed).to_dict()

    assert make(3) == make(3) and make(3)["sheets"] != make(4)["sheets"]


def test_a_study_is_read_as_it_was_written_and_never_overwritten(study, tmp_path):
    files = study.write(tmp_path / "study")
    assert [path.name for path in files[:2]] == ["key.json", "sheet_1.csv"] and len(files) == 7
    assert Study.read(tmp_path / "study").to_dict() == study.to_dict()
    with pytest.raises(ValueError, match="is there already and not empty"):
        study.write(tmp_path / "study")
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


def test_a_failure_leaves_no_folder(study, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_localgan.annotation.sheets.Sheet.write_xlsx", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        study.write(tmp_path / "study")
    assert not list(tmp_path.iterdir())


def test_a_key_that_was_changed_is_refused(study, tmp_path):
    key = study.write(tmp_path / "study")[0]
    stored = json.loads(key.read_text())
    stored["items"][0]["response"] = "another"
    key.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="was changed by hand"):
        Study.read(tmp_path / "study")
    key.write_text("{}")
    with pytest.raises(ValueError, match="is not a key"):
        Study.read(tmp_path / "study")
    with pytest.raises(ValueError, match="has no key.json"):
        Study.read(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"query_count": 13}, "`query_count` is 13, but there are 12 distinct queries"),
        ({"annotators": 0}, "`annotators` must be at least 1, got 0"),
        ({"repeat_share": 1.5}, "`repeat_share` must be from 0 to 1, got 1.5"),
        ({"questions": []}, "at least one question"),
        ({"questions": [Question("a", "A?"), Question("a", "B?")]}, "Two questions are named `a`"),
    ],
)
def test_what_cannot_be_drawn_is_refused(systems, settings, message):
    with pytest.raises(ValueError, match=message):
        make_study(QUERIES, REFERENCES, systems, **{"query_count": 5, **settings})


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([System("alpha", [""] * 12)], "Two systems are called 'alpha'"),
        ([System("reference", [""] * 12)], "cannot be called 'reference'"),
        ([System("delta", ["one"])], "delta has 1 answers to 12 queries"),
    ],
)
def test_wrong_systems_are_refused(systems, others, message):
    with pytest.raises(ValueError, match=message):
        make_study(QUERIES, REFERENCES, systems + others, query_count=5)


def test_repeated_queries_are_drawn_once(systems):
    queries = ["same"] * 6 + QUERIES[6:]
    study = make_study(queries, REFERENCES, systems, query_count=7)
    assert len(set(study.queries)) == 7
    with pytest.raises(ValueError, match="7 distinct"):
        make_study(queries, REFERENCES, systems, query_count=8)
