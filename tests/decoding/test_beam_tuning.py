"""Width and length penalty of a beam, chosen from tables of candidates."""

import pytest
import torch

from hf_localgan.decoding.answers import Decoding, answer_queries
from hf_localgan.decoding.beam_tuning import PENALTIES, TUNED_BEAM, LengthRanker, tune_beam
from hf_localgan.decoding.tuning import tabulate_candidates

QUERIES = ["w1 w2 w3", "w4 w5", "w6", "w7 w8 w9 w3"]


@pytest.fixture
def generator(tiny_generator):
    """A generator whose answers end early or late, by the penalty of length."""
    model = tiny_generator(seed=5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)), alpha=0.3)
    return model.eval()


def test_the_rank_is_the_score_of_the_search(generator, tiny_tokenizer):
    table = tabulate_candidates(
        generator, tiny_tokenizer, QUERIES, LengthRanker(beams=4, samples=0), max_new_tokens=6, batch_size=2
    )
    assert table.parts["length"].min() >= 1 and len(table.groups) > len(QUERIES)
    scores = LengthRanker(beams=4, samples=0, length_penalty=0.5).combine(table.parts)
    torch.testing.assert_close(scores, (table.parts["log_prob"] / table.parts["length"] ** 0.5).double())


def test_the_best_width_and_penalty_on_the_given_queries_are_chosen(generator, tiny_tokenizer):
    def long(answers):
        return float(sum(len(answer.split()) for answer in answers))

    settings = {"max_new_tokens": 6, "batch_size": 2}
    longest = tune_beam(generator, tiny_tokenizer, QUERIES, long, [2, 4], **settings)
    shortest = tune_beam(generator, tiny_tokenizer, QUERIES, lambda answers: -long(answers), [2, 4], **settings)
    (decoding,), about = longest.decodings, longest.about[TUNED_BEAM]
    assert decoding.name == TUNED_BEAM and decoding.arguments["num_beams"] == about["settings"]["beams"]
    assert decoding.arguments["length_penalty"] == about["settings"]["length_penalty"] in PENALTIES
    assert len(about["tried"]) == 2 * len(PENALTIES) and about["queries"] == 4
    # The quality is that of a real search, and no search that was tried is better.
    answers = [texts[0] for texts in answer_queries(generator, tiny_tokenizer, QUERIES, decoding, **settings)]
    assert about["quality"] == long(answers) == max(value for _, value in about["searched"])
    assert long(answers) >= -shortest.about[TUNED_BEAM]["quality"]
    for width in (2, 4):  # the usual search is among them
        drawn = answer_queries(generator, tiny_tokenizer, QUERIES, Decoding.beam(width), **settings)
        assert [{"beams": width, "length_penalty": 1.0}, long([texts[0] for texts in drawn])] in about["searched"]


def test_beams_of_one_and_no_beams_are_refused(generator, tiny_tokenizer):
    for widths, message in (([], "names no beam"), ([1], "at least 2 hypotheses")):
        with pytest.raises(ValueError, match=message):
            tune_beam(generator, tiny_tokenizer, QUERIES, lambda answers: 0.0, widths)
