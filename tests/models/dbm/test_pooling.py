"""The three vectors of an utterance: by hand, soft as hard, free of padding, kept by files and by a discriminator."""

import json

import pytest
import torch

from hf_localgan.models import DbmConfig, DbmModel, PairDiscriminator
from hf_localgan.models.dbm import WordVectorTable

WORDS = torch.tensor([[0.0, 0.0], [9.0, 9.0], [1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])  # 0 and 1 are special
IDS = torch.tensor([[2, 3, 2, 1, -100], [4, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
# of the words 2, 3, 2: sums (2, 2) of three and (1, 2) of two different ones
EXPECTED = {
    "mean": [[2 / 3, 2 / 3], [3, 3], [0, 0]],
    "sqrt": [[2 / 3**0.5, 2 / 3**0.5], [3, 3], [0, 0]],
    "distinct_sqrt": [[1 / 2**0.5, 2 / 2**0.5], [3, 3], [0, 0]],
}


def table(pooling: str) -> WordVectorTable:
    return WordVectorTable(5, 2, pooling).load(WORDS, [2, 3, 4])


@pytest.mark.parametrize("pooling", EXPECTED)
def test_a_vector_by_hand_soft_as_hard_and_without_its_neighbours(pooling):
    made, words = table(pooling), torch.tensor(EXPECTED[pooling])
    vectors, known = made(IDS)
    torch.testing.assert_close(vectors, words)
    assert known.tolist() == [True, True, False]
    torch.testing.assert_close(made(IDS[:1, :3])[0], words[:1])  # padding and neighbours change nothing
    torch.testing.assert_close(made(IDS, (IDS != 4).long())[0][1], torch.zeros(2))  # what is masked does not count

    certain = torch.nn.functional.one_hot(IDS.clamp(min=0), 5).float()
    torch.testing.assert_close(made.soft(certain, (IDS >= 0).float())[0], words)
    among = torch.stack([IDS.clamp(min=0), torch.full_like(IDS, 3)], dim=2)  # the k best, the second without weight
    weights = torch.tensor([1.0, 0.0]).expand(3, 5, 2)
    torch.testing.assert_close(made.soft(weights, (IDS >= 0).float(), among)[0], words)


def test_a_words_count_saturates_at_one_and_gradients_are_right():
    made = table("distinct_sqrt").double()
    # counts .6 + .7 of word 2 saturate at 1; .4 + .1 of word 3 are .5; .2 of word 4
    chosen = torch.tensor([[[0.0, 0, 0.6, 0.4, 0], [0, 0, 0.7, 0.1, 0.2]]], dtype=torch.float64, requires_grad=True)
    vectors, _ = made.soft(chosen, torch.ones(1, 2))
    torch.testing.assert_close(vectors, torch.tensor([[1 + 0.6, 1.0 + 0.6]], dtype=torch.float64) / 1.7**0.5)
    assert torch.autograd.gradcheck(lambda p: made.soft(p, torch.ones(1, 2))[0], chosen)
    assert torch.autograd.grad(vectors.sum(), chosen)[0][0, :, 2].abs().max() == 0  # more of the word brings nothing
    ids = torch.arange(5).expand(1, 2, 5)
    torch.testing.assert_close(made.soft(chosen, torch.ones(1, 2), ids)[0], vectors)


def test_files_keep_the_pooling_and_old_ones_have_the_mean(tmp_path):
    model = DbmModel(DbmConfig(query_size=2, response_size=2, hidden_size=3, top_size=2, vocab_size=5, pooling="sqrt"))
    model.word_vectors.load(WORDS, [2, 3, 4])
    model.save_pretrained(tmp_path)
    loaded = DbmModel.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.response_features(IDS), model.response_features(IDS))
    assert loaded.word_vectors.pooling == "sqrt"
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("pooling") == "sqrt"
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert DbmModel.from_pretrained(tmp_path).word_vectors.pooling == "mean"
    with pytest.raises(ValueError, match='`pooling` must be one of "mean", "sqrt", "distinct_sqrt", got "sum"'):
        DbmConfig(pooling="sum")


@pytest.mark.parametrize("pooling", EXPECTED)
def test_a_discriminator_made_from_an_energy_sees_the_same_vectors(pooling):
    model = DbmModel(DbmConfig(query_size=2, response_size=2, hidden_size=3, top_size=2, vocab_size=5, pooling=pooling))
    model.word_vectors.load(WORDS, [2, 3, 4])
    judge = PairDiscriminator.from_energy(model).eval()
    torch.testing.assert_close(judge.response_features(IDS), model.response_features(IDS))
    certain = torch.nn.functional.one_hot(IDS.clamp(min=0), 5).float()
    soft = judge.response_features(mask=(IDS >= 0).float(), probabilities=certain)
    torch.testing.assert_close(soft, model.response_features(IDS))
    among, weights = IDS.clamp(min=0)[:, :, None], torch.ones(3, 5, 1)
    soft = judge.response_features(mask=(IDS >= 0).float(), probabilities=weights, ids=among)
    torch.testing.assert_close(soft, model.response_features(IDS))
