"""Ranking responses to a query, measuring how local they are, and the radii of answers."""

import math

import numpy as np
import pytest
import torch

from hf_localgan import measure_locality, rank_responses
from hf_localgan.evaluation import answer_radii

QUERY = "how are you"
CANDIDATES = ["i am fine", "hello", "my name is what", "? !", "thanks you"]


@pytest.fixture
def energy(text_energy):
    """A tiny energy of text whose scalers are not the identity."""
    model = text_energy()
    model.query_scaler.mean.fill_(0.1)
    model.response_scaler.std.fill_(0.5)
    return model


def vectors(energy, tokenizer, texts):
    """Standardised vectors, one text at a time."""
    table = energy.word_vectors.vectors
    means = [table[tokenizer(text, add_special_tokens=False).input_ids].mean(dim=0) for text in texts]
    return torch.stack(means)


def test_candidates_are_ranked_by_the_difference_of_free_energies(energy, tiny_tokenizer):
    found = rank_responses(energy, tiny_tokenizer, QUERY, CANDIDATES)
    known = [text for text in CANDIDATES if text != "? !"]
    response = energy.response_scaler(vectors(energy, tiny_tokenizer, known))
    query = energy.query_scaler(vectors(energy, tiny_tokenizer, [QUERY])).expand(len(known), -1)
    neutral = energy.visible_bias[:3].expand(len(known), -1)
    free = energy.free_energy(query, response)
    expected = (free - energy.free_energy(neutral, response)).detach()
    order = expected.argsort().tolist()
    assert [one.text for one in found] == [*(known[index] for index in order), "? !"]
    np.testing.assert_allclose([one.difference for one in found[:-1]], expected[order], rtol=1e-4)
    np.testing.assert_allclose([one.free_energy for one in found[:-1]], free.detach()[order], rtol=1e-4)
    radii = energy.radius(query, response).detach()[order]
    np.testing.assert_allclose([one.radius for one in found[:-1]], radii, rtol=1e-3, atol=1e-5)
    assert math.isnan(found[-1].difference)  # no token of it has a vector

    by_energy = rank_responses(energy, tiny_tokenizer, QUERY, CANDIDATES, by="free_energy")
    assert [one.text for one in by_energy[:-1]] == [known[index] for index in free.argsort().tolist()]


def test_neighbours_change_nothing(energy, tiny_tokenizer):
    together = {one.text: one for one in rank_responses(energy, tiny_tokenizer, QUERY, CANDIDATES)}
    (alone,) = rank_responses(energy, tiny_tokenizer, QUERY, ["hello"])
    assert alone[1:] == pytest.approx(together["hello"][1:], abs=1e-5)


def test_locality_is_that_of_the_vectors(energy, tiny_tokenizer):
    found = measure_locality(energy, tiny_tokenizer, QUERY, CANDIDATES)
    ranked = {one.text: one.radius for one in rank_responses(energy, tiny_tokenizer, QUERY, CANDIDATES)}
    np.testing.assert_allclose(found.radii, [ranked[text] for text in CANDIDATES], atol=1e-4)
    assert np.isnan(found.radii).tolist() == [text == "? !" for text in CANDIDATES]
    some = energy.response_scaler(vectors(energy, tiny_tokenizer, [one for one in CANDIDATES if one != "? !"]))
    assert found.spread == pytest.approx(np.trace(np.cov(some.T.numpy())), rel=1e-4)
    query = energy.query_scaler(vectors(energy, tiny_tokenizer, [QUERY]))
    center = energy.center(query)
    assert found.center_energy == pytest.approx(energy.free_energy(query, center).item(), rel=1e-5)
    cosine = torch.cosine_similarity(some[0], center[0], dim=0)
    assert found.cosines[0] == pytest.approx(cosine.item(), abs=1e-5)


def test_the_centres_own_text_would_have_the_radius_0(energy, tiny_tokenizer):
    # the vector of "hello" is put where the centre is
    query = energy.query_scaler(vectors(energy, tiny_tokenizer, [QUERY]))
    row = tiny_tokenizer.convert_tokens_to_ids("hello")
    energy.word_vectors.vectors[row] = energy.response_scaler.inverse(energy.center(query))[0]
    found = measure_locality(energy, tiny_tokenizer, QUERY, ["hello"])
    assert found.radii[0] == pytest.approx(0, abs=1e-4) and found.cosines[0] == pytest.approx(1)
    assert math.isnan(found.spread)


def test_what_cannot_be_ranked_is_refused(energy, tiny_energy, tiny_tokenizer):
    for function, name in ((rank_responses, "candidates"), (measure_locality, "responses")):
        for texts in ("hello", []):
            with pytest.raises(ValueError, match=f"`{name}` must be a list of at least one text"):
                function(energy, tiny_tokenizer, QUERY, texts)
        with pytest.raises(ValueError, match="No word of the query '!' has a vector"):
            function(energy, tiny_tokenizer, "!", CANDIDATES)
        with pytest.raises(ValueError, match="holds no word vectors"):
            function(tiny_energy(), tiny_tokenizer, QUERY, CANDIDATES)
    with pytest.raises(ValueError, match='`by` must be "difference" or "free_energy", got "radius"'):
        rank_responses(energy, tiny_tokenizer, QUERY, CANDIDATES, by="radius")


# ---- radii of answers ----


def test_radii_of_texts_are_those_of_their_vectors(text_energy, tiny_tokenizer):
    energy = text_energy()
    queries = ["hello you", "how are you ?", "hello you"]
    answers = ["fine thanks", "i am fine", "my name"]
    found = answer_radii(energy, tiny_tokenizer, queries, answers, batch_size=2)
    assert found.dtype == torch.float64 and found.shape == (3,)
    for query, answer, radius in zip(queries, answers, found.tolist(), strict=True):
        sides = [torch.tensor([tiny_tokenizer(text).input_ids]) for text in (query, answer)]
        with torch.no_grad():
            q, r = energy.query_features(sides[0]), energy.response_features(sides[1])
            center = energy.center(q)
            wanted = energy.free_energy(q, r) - energy.free_energy(q, center)
        assert radius == pytest.approx(wanted.item(), abs=1e-4)


def test_radii_do_not_depend_on_the_batch(text_energy, tiny_tokenizer):
    queries = ["hello", "how are you ?", "what is your name ?", "are you fine ?", "hello", "how are you ?"]
    answers = ["fine", "i am fine thanks you", "my name", "how are you", "you", "hello what is your name"]
    one, all_ = (answer_radii(text_energy(), tiny_tokenizer, queries, answers, batch_size=size) for size in (1, 99))
    torch.testing.assert_close(one, all_, atol=1e-4, rtol=1e-5)


def test_texts_without_a_known_word_have_no_radius(text_energy, tiny_tokenizer):
    found = answer_radii(text_energy(), tiny_tokenizer, ["hello", "hello", "?", "hello"], ["", "? !", "you", "you"])
    assert found[:3].isnan().all() and found[3].isfinite()
    assert answer_radii(text_energy(), tiny_tokenizer, [], []).shape == (0,)


def test_radii_refuse_what_they_cannot_read(text_energy, tiny_energy, tiny_tokenizer):
    with pytest.raises(ValueError, match="one answer per query, got 1 queries and 2 answers"):
        answer_radii(text_energy(), tiny_tokenizer, ["hello"], ["you", "you"])
    with pytest.raises(ValueError, match="holds no word vectors"):
        answer_radii(tiny_energy(), tiny_tokenizer, ["hello"], ["you"])
