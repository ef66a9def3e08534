"""A vector for each token: from files, embeddings and text."""

import numpy as np
import pytest
import torch

from hf_localgan.data import WordVectors, embedding_vectors, token_vectors, train_token_vectors, train_word_vectors

TEXTS = ["hello how are you ?", "i am fine thanks .", "what is your name ?", "my name is you !"] * 3


def test_tokens_take_the_vectors_of_their_words_and_the_others_do_not_count(tiny_tokenizer):
    vectors = WordVectors(["hello", "you", "tea"], np.arange(6.0).reshape(3, 2), name="three")
    found = token_vectors(tiny_tokenizer, vectors)
    hello, you = tiny_tokenizer.convert_tokens_to_ids(["hello", "you"])
    assert found.tokens == [hello, you] and found.name == "three" and found.vectors.shape == (20, 2)
    assert found.vectors[hello].tolist() == [0, 1] and found.vectors[you].tolist() == [2, 3]
    assert found.vectors.abs().sum() == 6  # zeros elsewhere


def test_a_vector_of_zeros_counts_and_the_unknown_token_never_does(tiny_tokenizer):
    vectors = WordVectors(["hello", "<unk>"], np.zeros((2, 3)))
    assert token_vectors(tiny_tokenizer, vectors).tokens == tiny_tokenizer.convert_tokens_to_ids(["hello"])


def test_vectors_of_another_language_are_refused(tiny_tokenizer):
    with pytest.raises(ValueError, match="None of the tokenizer's 16 tokens has a vector in 'greek'"):
        token_vectors(tiny_tokenizer, WordVectors(["alpha"], np.ones((1, 2)), name="greek"))


def test_embeddings_are_copied_and_all_regular_tokens_count(tiny_tokenizer, tiny_generator):
    embedding = tiny_generator().get_input_embeddings()
    found = embedding_vectors(tiny_tokenizer, embedding)
    assert found.tokens == list(range(4, 20))
    torch.testing.assert_close(found.vectors, embedding.weight.detach())
    with torch.no_grad():
        embedding.weight.zero_()
    assert found.vectors.abs().sum() > 0
    with pytest.raises(ValueError, match="10 rows, but the tokenizer has ids up to 19"):
        embedding_vectors(tiny_tokenizer, torch.zeros(10, 2))


def test_vectors_from_text_are_those_of_its_tokens(tiny_tokenizer):
    found = train_token_vectors(tiny_tokenizer, TEXTS, dim=4)
    expected = train_word_vectors([text.split() for text in TEXTS], dim=4)
    assert len(expected) == 16 and found.tokens == list(range(4, 20))
    for word in expected.words:
        row = tiny_tokenizer.convert_tokens_to_ids(word)
        np.testing.assert_array_equal(found.vectors[row].numpy(), expected[word])
    assert found.name == expected.name
    torch.testing.assert_close(train_token_vectors(tiny_tokenizer, iter(TEXTS), dim=4).vectors, found.vectors)


def test_rare_and_unknown_words_have_no_vector(tiny_tokenizer):
    found = train_token_vectors(tiny_tokenizer, [*TEXTS, "thanks hello strange things !"] * 2, dim=4, min_count=7)
    rare = tiny_tokenizer.convert_tokens_to_ids(["how", "are", "fine", "<unk>", "</s>", "<pad>"])
    assert not set(rare) & set(found.tokens) and not found.vectors[rare].any()
    assert set(tiny_tokenizer.convert_tokens_to_ids(["hello", "thanks", "!"])) <= set(found.tokens)


def test_too_little_text_is_refused(tiny_tokenizer):
    with pytest.raises(ValueError, match="`dim` must be less than the number of words"):
        train_token_vectors(tiny_tokenizer, ["hello you"], dim=4)


def test_normalized_vectors_have_length_1_and_zeros_stay(tiny_tokenizer):
    found = token_vectors(tiny_tokenizer, WordVectors(["hello", "you"], np.array([[3.0, 4.0], [0.1, 0.0]])))
    lengths = found.normalized().vectors.norm(dim=1)
    assert lengths[found.tokens].tolist() == pytest.approx([1, 1]) and lengths.sum() == pytest.approx(2)
    assert found.normalized().tokens == found.tokens
