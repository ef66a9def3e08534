"""Answers side by side: what models say, radii, places among the references, and how the page shows them."""

import dataclasses
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch

from hf_localgan import measure_locality
from hf_localgan.demo import markup
from hf_localgan.demo.answers import (
    Answer,
    Comparison,
    compare_answers,
    place_texts,
    ranked,
    read_settings,
    remembered_turns,
)
from hf_localgan.demo.loading import PageModels
from hf_localgan.demo.page import REFERENCES, first_reference
from hf_localgan.demo.references import ReferenceRadii, fold, measure_references
from hf_localgan.responses import ChatSettings, respond

from .conftest import ROWS

SEARCH = ChatSettings(num_beams=3, num_return_sequences=3, max_new_tokens=6)


def test_each_model_gives_its_own_answers_with_their_scores(page_models):
    found = compare_answers(page_models, "  how are\nyou ? ", SEARCH)
    assert found.query == "how are you ?" and list(found.answers) == ["first", "second"]
    for speaker in page_models.speakers:
        expected = respond(speaker.model, speaker.tokenizer, ["how are you ?"], SEARCH)[0]
        assert [(one.text, one.score) for one in found.answers[speaker.name]] == expected
    assert found.answers["first"] != found.answers["second"]


def test_models_that_were_trained_on_turns_remember_their_own_answers(page_models, tiny_tokenizer):
    tiny_tokenizer.init_kwargs |= {"history_turns": 2, "turn_separator": " . "}  # of both models
    assert remembered_turns(page_models) == 2
    first = compare_answers(page_models, "hello", SEARCH)
    second = compare_answers(page_models, "how are you ?", SEARCH, [first])
    third = compare_answers(page_models, "fine", SEARCH, [first, second])
    for speaker in page_models.speakers:
        said = [found.answers[speaker.name][0].text for found in (first, second)]
        assert all(said)
        read = [f"hello . {said[0]} . how are you ?", f"how are you ? . {said[1]} . fine"]
        assert [second.read[speaker.name], third.read[speaker.name]] == read
        expected = respond(speaker.model, speaker.tokenizer, [read[0]], SEARCH)[0]
        assert [(found.text, found.score) for found in second.answers[speaker.name]] == expected
    assert "reads: " not in markup.answers(page_models, first)
    assert f"reads: hello . {first.answers['first'][0].text} . how" in markup.answers(page_models, second)


def test_the_score_of_a_single_answer_is_the_models_own_loss_with_its_sign_changed(page_models):
    (single,) = compare_answers(page_models, "hello", ChatSettings(max_new_tokens=6)).answers["first"]
    model, inputs = page_models.speakers[0].model, page_models.speakers[0].tokenizer("hello", return_tensors="pt")
    row = model.generate(**inputs, max_new_tokens=6)[0, 1:].tolist()
    labels = row[: row.index(2) + 1] if 2 in row else row
    with torch.no_grad():
        assert single.score == pytest.approx(-model(**inputs, labels=torch.tensor([labels])).loss.item(), abs=1e-5)


def test_radii_are_those_of_measure_locality(page_models):
    texts = ["i am fine", "hello", "! ?", "my name is you"]
    found = place_texts(page_models, "how are you", texts, [0.0] * 4)
    expected = measure_locality(page_models.reader.energy, page_models.reader.tokenizer, "how are you", texts).radii
    np.testing.assert_allclose([one.radius for one in found], expected, atol=1e-5)
    assert math.isnan(found[2].radius) and found[2].nearer is None
    assert all(0 <= one.nearer <= 1 for one in found if one.text != "! ?")


def test_references_are_all_responses_of_the_data_set(page_models):
    expected = [
        radius
        for row in ROWS
        for radius in measure_locality(
            page_models.reader.energy, page_models.reader.tokenizer, row["query"], row["responses"]
        ).radii.tolist()
        if math.isfinite(radius)
    ]
    assert len(expected) == 6  # "! ?" has none
    np.testing.assert_allclose(page_models.references.radii, sorted(expected), atol=1e-5)


def test_the_share_counts_the_references_that_are_nearer():
    known = ReferenceRadii("by hand", np.array([1.0, 2.0, 2.0, 5.0]), 2, {})
    # nearer than 2 is one of four; than 2.5 three; than all, none; than none, all
    assert [known.share_nearer(radius) for radius in (2.0, 2.5, 0.5, 9.0)] == [0.25, 0.75, 0.0, 1.0]


def test_fewer_queries_are_spread_over_the_data_set(page_models):
    found = measure_references(page_models.reader, ROWS, "tiny", queries=2, progress=False)
    assert found.queries == 2 and len(found.radii) == 5  # the first two rows: 0 * 3 // 2 and 1 * 3 // 2
    assert len(found.responses) == 3  # a query that was not measured is found all the same
    with pytest.raises(ValueError, match="`queries` must be at least 1, got 0"):
        measure_references(page_models.reader, ROWS, "tiny", queries=0, progress=False)


def test_a_query_of_the_data_set_brings_its_references(page_models):
    found = compare_answers(page_models, "How are YOU", ChatSettings(max_new_tokens=3))
    assert [one.text for one in found.references] == ROWS[1]["responses"]
    direct = place_texts(page_models, "How are YOU", ROWS[1]["responses"], [0.0] * 3)
    assert [one.radius for one in found.references] == [one.radius for one in direct]
    assert compare_answers(page_models, "fine thanks", ChatSettings(max_new_tokens=3)).references == []
    assert fold("? !") == "?!" and fold("Is it?") == fold("is  IT")


def test_a_query_without_a_known_word_is_answered_without_a_radius(page_models):
    (answer,) = compare_answers(page_models, "? !", ChatSettings(max_new_tokens=4)).answers["first"]
    assert math.isnan(answer.radius) and answer.nearer is None


def test_a_seed_repeats_the_draws_of_each_model(page_models):
    settings = read_settings("sampling", temperature=1.5, answers=4, max_new_tokens=8, seed=3)
    together = compare_answers(page_models, "hello", settings).answers
    alone = compare_answers(PageModels(page_models.speakers[1:]), "hello", settings).answers
    assert [one[:2] for one in together["second"]] == [one[:2] for one in alone["second"]]
    other = compare_answers(page_models, "hello", read_settings("sampling", temperature=1.5, answers=4, seed=4)).answers
    assert together["first"] != other["first"]


def test_without_an_energy_answers_have_no_radius(page_models):
    (answer,) = compare_answers(PageModels(page_models.speakers), "hello", ChatSettings(max_new_tokens=4)).answers[
        "first"
    ]
    assert answer.radius is None and answer.nearer is None
    shown = markup.answers(
        PageModels(page_models.speakers), compare_answers(PageModels(page_models.speakers), "hello", ChatSettings())
    )
    assert "radius" not in shown and "nats per token" in shown


@pytest.mark.parametrize("query", ["", "  \n\t "])
def test_an_empty_query_is_refused(page_models, query):
    with pytest.raises(ValueError, match="The query is empty. Type a sentence."):
        compare_answers(page_models, query, ChatSettings())


def test_an_endless_query_is_refused(page_models):
    with pytest.raises(ValueError, match="has 2,001 characters. Type at most 2,000"):
        compare_answers(page_models, "x" * 2001, ChatSettings())


def test_controls_of_other_decodings_are_left_out():
    values = {"num_beams": 5, "temperature": 0.3, "top_p": 0.9, "answers": 2, "max_new_tokens": 30.0, "seed": 7}
    assert read_settings("greedy", **values) == ChatSettings(max_new_tokens=30)
    assert read_settings("beams", **values) == ChatSettings(num_beams=5, num_return_sequences=2, max_new_tokens=30)
    assert read_settings("sampling", **values) == ChatSettings(
        do_sample=True, temperature=0.3, top_p=0.9, num_return_sequences=2, max_new_tokens=30, seed=7
    )
    assert read_settings("sampling", seed=None).seed is None


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match='must be "greedy", "beams" or "sampling", got \'warm\', or the name'):
        read_settings("warm")
    with pytest.raises(ValueError, match="needs sampling"):
        read_settings("beams", num_beams=2, answers=3)
    with pytest.raises(ValueError, match="`answers` must be a whole number, got 1.5"):
        read_settings("sampling", answers=1.5)
    for sampled in ({"temperature": None}, {"top_p": None}):
        with pytest.raises(ValueError, match="` must be a number, got None"):
            read_settings("sampling", **sampled)
    with pytest.raises(ValueError, match="`max_new_tokens` must be a whole number, got None"):
        read_settings("greedy", max_new_tokens=None)


# ---- as HTML ----


def test_nothing_that_a_model_says_is_markup(page_models):
    evil = Answer("<script>alert('x')</script>", -1.0, 2.0, 0.5)
    shown = markup.answers(page_models, Comparison("q", SEARCH, {"first": [evil], "second": [evil]}, [evil]))
    assert "<script" not in shown and shown.count("&lt;script&gt;") >= 4  # card, mark, tick, references


def test_answers_are_shown_with_their_numbers(page_models):
    given = {"first": [Answer("fine", -1.25, 20.04, 0.756)], "second": [Answer("", -0.5, math.nan, None)]}
    shown = markup.answers(page_models, Comparison("q", SEARCH, given, []))
    assert "<b>−1.25</b> nats per token" in shown and '<b class="lg-radius">20.0</b> nats' in shown
    assert "farther than <b>76 %</b> of references" in shown
    assert "(an empty response)" in shown and "no radius: no word that the energy knows" in shown
    assert shown.count('class="lg-mark"') == 1 and "not in the data set" in shown


def test_marks_stand_where_the_radius_is():
    known = ReferenceRadii("by hand", np.arange(101.0), 1, {})
    given = {"a": [Answer("x", -1.0, 49.25, 0.5)], "b": [Answer("y", -1.0, 500.0, 1.0)]}
    page_models = PageModels([type("S", (), {"name": name, "objective": ""}) for name in given], None, known)
    shown = markup.answers(page_models, Comparison("q", SEARCH, given, []))
    # from 0 to the quantile .985 of 0 .. 100, which is 98.5: 49.25 is in the middle, 500 at the end
    assert 'style="left: 50.00%' in shown and 'style="left: 100.00%' in shown


def test_labels_do_not_cover_each_other():
    assert markup._levels([10.0, 10.5, 40.0, 11.0]) == [0, 1, 0, 2]
    assert markup._levels([]) == []


def test_a_share_does_not_claim_all_or_none():
    assert [markup._percent(share) for share in (0.0, 0.001, 0.42, 0.999, 1.0)] == [
        "0 %", "&lt; 1 %", "42 %", "&gt; 99 %", "100 %"
    ]  # fmt: skip


def test_answers_are_ranked_by_the_energy_over_all_models(page_models):
    found = compare_answers(page_models, "how are you ?", SEARCH)
    given = ranked(found.answers)
    energies = {
        answer.text: measure_locality(
            page_models.reader.energy, page_models.reader.tokenizer, "how are you ?", [answer.text]
        ).radii.item()
        for answers in given.values()
        for answer in answers
    }
    everything = [answer for answers in given.values() for answer in answers]
    known = [answer for answer in everything if math.isfinite(energies[answer.text])]
    assert len(known) > 2
    for answer in known:
        assert answer.rank == 1 + sum(energies[other.text] < energies[answer.text] - 1e-5 for other in known)
    assert all(answer.rank is None for answer in everything if answer not in known)
    assert f'<b class="lg-rank">1</b> of {len(known)}' in markup.answers(page_models, found)
    # One answer alone has no rank, and without an energy none has.
    assert ranked({"first": [Answer("x", 0.0, 1.0, 0.5)]}) == {"first": [Answer("x", 0.0, 1.0, 0.5)]}
    silent = Comparison("x", SEARCH, {"first": [Answer("x", 0.0, None, None)] * 2, "second": []}, [])
    assert "rank by energy" not in markup.answers(PageModels(page_models.speakers), silent)


def test_the_tab_of_draws_begins_with_a_sentence_that_the_tokenizer_knows(page_models, tiny_tokenizer):
    sentence = first_reference(page_models)
    assert sentence in ("i am fine thanks", "how are you ?", "my name is what", "my name is hello")
    assert tiny_tokenizer.unk_token_id not in tiny_tokenizer(sentence).input_ids
    assert first_reference(PageModels(page_models.speakers)) in REFERENCES


def test_without_an_energy_the_sentence_is_one_of_the_evaluation(page_models, tiny_tokenizer, tmp_path):
    speaker = dataclasses.replace(page_models.speakers[0], path=str(tmp_path))
    table = pa.table({"query": ["a", "b"], "references": [["zzz hello"], [None, "how are you ?"]]})
    parquet.write_table(table, tmp_path / "generations.parquet")
    assert first_reference(PageModels([speaker])) == "how are you ?"
    (tmp_path / "generations.parquet").write_bytes(b"damaged")
    assert first_reference(PageModels([speaker])) in REFERENCES
