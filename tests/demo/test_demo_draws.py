"""Draws on the page: they are the sampler's own, and what is told of them is its distribution."""

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from hf_localgan.data import regular_tokens
from hf_localgan.demo import markup
from hf_localgan.demo.draws import (
    KEPT,
    NEW,
    REMOVED,
    Piece,
    draw_keys,
    encode_reference,
    make_sampler,
    mark_edits,
    show_draws,
    token_texts,
)
from hf_localgan.payoff import EditPayoff, ExactEditPayoff, HammingPayoff, ImportancePayoff, SentenceBleu

REFERENCE = "how are you my name"
IDS = [5, 6, 7, 16, 15]
HOT = {"hamming": 1.5, "edit": 1.2, "exact_edit": 1.2}


@pytest.fixture
def tokens(tiny_tokenizer):
    return regular_tokens(tiny_tokenizer)


@pytest.mark.parametrize("payoff", HOT)
def test_draws_are_the_samplers_own(tiny_tokenizer, tokens, payoff):
    sampler = {"hamming": HammingPayoff, "edit": EditPayoff, "exact_edit": ExactEditPayoff}[payoff](tokens, HOT[payoff])
    expected = sampler.draw([IDS] * 9, draw_keys(3, 9))
    found = show_draws(tiny_tokenizer, REFERENCE, payoff, draws=9, seed=3, temperature=HOT[payoff])
    assert [one.text for one in found.draws] == [tiny_tokenizer.decode(labels) for labels in expected.labels]
    assert [one.edits for one in found.draws] == expected.edits.tolist()
    assert max(one.edits for one in found.draws) > 0
    expected = [sampler.log_prob(labels, IDS) for labels in expected.labels]
    assert [one.log_prob for one in found.draws] == pytest.approx(expected) and not found.approximate
    probs = sampler.distance_probs(IDS) if payoff == "exact_edit" else sampler.edit_probs(5)
    np.testing.assert_allclose(found.probs, probs)
    assert found.edit_rate == pytest.approx(probs @ np.arange(len(probs)) / 5) and not found.estimated_from
    assert found.vocab_size == len(tokens) == 16 and found.length == 5


def test_draws_by_a_reward_show_it_and_no_log_probability(tiny_tokenizer, tokens):
    found = show_draws(tiny_tokenizer, REFERENCE, "importance", draws=5, temperature=0.2, proposal_rate=0.3)
    proposal = EditPayoff.for_edit_rate(tokens=tokens, edit_rate=0.3, length=5)
    expected = ImportancePayoff(proposal, SentenceBleu(), 16, 0.2).draw([IDS] * 5, draw_keys(0, 5))
    assert [one.text for one in found.draws] == [tiny_tokenizer.decode(labels) for labels in expected.labels]
    assert [one.reward for one in found.draws] == [SentenceBleu()(labels, IDS) for labels in expected.labels]
    assert all(one.log_prob is None for one in found.draws)
    assert found.estimated_from == 200 and found.error > 0 and found.probs.sum() == pytest.approx(1)


def test_more_draws_begin_with_the_same_ones(tiny_tokenizer):
    few, many = (show_draws(tiny_tokenizer, REFERENCE, "edit", draws=n, temperature=1.2).draws for n in (3, 8))
    assert many[:3] == few
    assert not set(draw_keys(0, 50).tolist()) & set(draw_keys(1, 50).tolist())
    assert not set(draw_keys(0, 50).tolist()) & set(draw_keys(0, 50, 1).tolist())


def test_at_temperature_0_every_draw_is_the_reference(tiny_tokenizer):
    for payoff in (*HOT, "importance"):
        found = show_draws(tiny_tokenizer, REFERENCE, payoff, draws=3, temperature=0)
        assert {one.text for one in found.draws} == {REFERENCE} and found.edit_rate == 0
        assert {piece.status for one in found.draws for piece in one.pieces} == {KEPT}


def test_an_edit_rate_is_reached(tiny_tokenizer):
    for payoff in HOT:
        found = show_draws(tiny_tokenizer, REFERENCE, payoff, edit_rate=0.2)
        assert found.edit_rate == pytest.approx(0.2, rel=1e-4) and found.temperature > 0


def test_long_references_are_estimated_and_say_so(tiny_tokenizer):
    text = "hello how are you i am fine thanks what is your name"  # 12 different tokens
    found = show_draws(tiny_tokenizer, text, "exact_edit", temperature=0.9, draws=4)
    assert found.approximate and found.estimated_from == 2000 and found.error > 0
    sampler = make_sampler(tiny_tokenizer, "exact_edit", 12, temperature=0.9)
    normalizer, error = sampler.estimate_log_normalizer(
        encode_reference(tiny_tokenizer, text), np.random.default_rng(9), 20_000
    )
    for one in found.draws:
        assert one.log_prob == pytest.approx(-one.edits * sampler.edit_cost / 0.9 - normalizer, abs=0.2)
    assert "ln q ≈" in markup.draws(found) and "from 2,000 draws" in markup.draws(found)


def test_the_body_of_a_reference_is_what_is_edited(tiny_tokenizer):
    assert encode_reference(tiny_tokenizer, REFERENCE) == IDS  # without the end token
    assert encode_reference(tiny_tokenizer, "hello xyzzy you") == [4, 3, 7]
    for text in ("", "   "):
        with pytest.raises(ValueError, match="The reference is empty"):
            encode_reference(tiny_tokenizer, text)
    with pytest.raises(ValueError, match="has 61 tokens. Type at most 60"):
        encode_reference(tiny_tokenizer, "hello " * 61)


def test_wrong_settings_of_draws_are_refused(tiny_tokenizer):
    with pytest.raises(ValueError, match="`payoff` must be one of hamming, edit, exact_edit, importance, got 'bleu'"):
        show_draws(tiny_tokenizer, REFERENCE, "bleu", temperature=1)
    for settings in ({}, {"temperature": 1.0, "edit_rate": 0.1}):
        with pytest.raises(ValueError, match="either `temperature` or `edit_rate`"):
            show_draws(tiny_tokenizer, REFERENCE, "edit", **settings)
    with pytest.raises(ValueError, match="no edit rate to solve for"):
        show_draws(tiny_tokenizer, REFERENCE, "importance", edit_rate=0.1)
    with pytest.raises(ValueError, match="`reward` must be one of bleu"):
        show_draws(tiny_tokenizer, REFERENCE, "importance", temperature=0.1, reward="length")
    with pytest.raises(ValueError, match="edit_rate"):
        show_draws(tiny_tokenizer, REFERENCE, "hamming", edit_rate=1.5)


# ---- what was changed ----


def test_edits_are_marked(tiny_tokenizer):
    # how are you -> how i are: `i` is new, `you` is gone
    assert mark_edits(tiny_tokenizer, [5, 6, 7], [5, 8, 6]) == [
        Piece(KEPT, "how"), Piece(NEW, " i"), Piece(KEPT, " are"), Piece(REMOVED, " you")
    ]  # fmt: skip


def test_replacements_are_marked_place_by_place(tiny_tokenizer):
    # a shortest script of insertions and deletions would keep `are`; Hamming replaced all three
    assert mark_edits(tiny_tokenizer, [5, 6, 7], [6, 7, 5], aligned=True) == [
        Piece(REMOVED, "how"), Piece(NEW, "are"), Piece(REMOVED, " are"), Piece(NEW, " you"), Piece(REMOVED, " you"),
        Piece(NEW, " how"),
    ]  # fmt: skip


def test_marks_read_as_the_draw_and_number_its_edits(tiny_tokenizer):
    for seed in range(5):
        found = show_draws(tiny_tokenizer, REFERENCE, "exact_edit", temperature=1.2, seed=seed)
        for one in found.draws:
            kept = "".join(piece.text for piece in one.pieces if piece.status != REMOVED)
            assert kept.strip() == one.text
            distance = Levenshtein.distance(REFERENCE.split(), one.text.split())
            assert one.edits == distance
            changed = [piece.status for piece in one.pieces if piece.status != KEPT]
            assert max(changed.count(NEW), changed.count(REMOVED)) <= distance <= len(changed)


def test_pieces_of_words_stay_together():
    class Pieces:
        def decode(self, ids, skip_special_tokens):
            return {1: "go", 2: "go�", 3: "going é"}[len(ids)]

        def convert_ids_to_tokens(self, token):
            return f"<{token}>"

    # the second piece ends within a character, the third takes it back: both are shown by their names or as they grow
    assert token_texts(Pieces(), [7, 8, 9]) == ["go", " <8>", " <9>"]


def test_draws_are_shown_as_text(tiny_tokenizer):
    found = show_draws(tiny_tokenizer, "hello <b>you</b> you", "edit", temperature=1.2, draws=4)
    shown = markup.draws(found)
    assert "<ins>" in shown and "<del>" in shown and "&lt;unk&gt;" in shown and "<unk>" not in shown
    assert f"{found.edit_rate:.3f}" in shown and "(exact)" in shown and "ln q = <b>−" in shown
    assert shown.count('class="lg-draw"') == 4


def test_bars_add_up():
    probs = np.array([0.5, 0.3, 0.1996, 0.0003, 0.0001])
    assert "".join(markup._bars(probs)).count("lg-bar") == 4  # 0, 1, 2 and the rest
    assert "<span>over 2</span>" in "".join(markup._bars(probs)) and "<span>0.0004</span>" in "".join(
        markup._bars(probs)
    )
    many = np.zeros(101)
    many[90] = 1.0  # nearly all at many edits
    assert "<span>under 84</span>" in "".join(markup._bars(many)) and "<span>90</span>" in "".join(markup._bars(many))
