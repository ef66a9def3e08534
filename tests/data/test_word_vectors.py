import gzip
import os

import numpy as np
import pytest
import torch
from torch import nn

from hf_localgan.data import (
    WordVectors,
    initialize_embeddings,
    load_word_vectors,
    train_tokenizer,
    train_word_vectors,
    vocabulary_words,
    word_vectors,
)
from hf_localgan.data.word_vectors import _positive_pmi

GLOVE = "the 1 0\ntea 0.5 -2\n. . . 3 4\ntea 9 9\n"
TEA = np.array([0.5, -2], np.float32)


@pytest.fixture
def vectors():
    return WordVectors(["the", "tea"], np.array([[1, 0], [0.5, -2]]), name="tiny")


# Files


@pytest.mark.parametrize(
    "name, content", [("v.txt", GLOVE), ("v.vec", "4 2\n" + GLOVE), ("v.txt", GLOVE.replace("\n", " \n"))]
)
@pytest.mark.parametrize("zipped", [False, True])
def test_glove_and_word2vec_text(tmp_path, name, content, zipped):
    path = tmp_path / (name + ".gz" * zipped)
    path.write_bytes(gzip.compress(content.encode()) if zipped else content.encode())
    vectors = load_word_vectors(path)
    assert vectors.words == ["the", "tea", ". . ."] and (len(vectors), vectors.dim, vectors.name) == (3, 2, "v")
    np.testing.assert_array_equal(vectors["tea"], TEA)  # the first of two
    assert "tea" in vectors and "Tea" not in vectors and vectors.matrix.dtype == np.float32


def test_only_wanted_words_are_kept(tmp_path, vectors):
    (tmp_path / "v.txt").write_text(GLOVE)
    vectors.save(tmp_path / "v.parquet")
    for name in ("v.txt", "v.parquet"):
        assert load_word_vectors(tmp_path / name, words=["tea", "coffee"]).words == ["tea"]
        assert load_word_vectors(tmp_path / name, words=["coffee"]).matrix.shape == (0, 2)


def test_saving_and_loading_is_exact(tmp_path):
    matrix = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    WordVectors(list("abcde"), matrix).save(tmp_path / "made.parquet")
    loaded = load_word_vectors(tmp_path / "made.parquet")
    assert loaded.words == list("abcde") and loaded.name == "made"
    np.testing.assert_array_equal(loaded.matrix, matrix)
    assert [path.name for path in tmp_path.iterdir()] == ["made.parquet"]


@pytest.mark.parametrize(
    "content, message",
    [
        ("the 1 0\ntea 0.5\n", r'Line 2 of "v.txt" is not a word and 2 numbers .*: it has 1 numbers'),
        ("the 1 0\ntea 0.5 1 2\n", r"Line 2 .*more than 2 numbers"),
        ("the 1 0\ntea 0.5 x\n", r"Line 2 .*could not convert"),
        ("2 2\nthe 1 0\ntea 0.5\n", "Line 3 "),
        ("", "has no word vectors"),
        ("the 1 nan\n", "'the' is not finite"),
    ],
)
def test_a_bad_line_is_named(tmp_path, content, message):
    (tmp_path / "v.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_word_vectors(tmp_path / "v.txt")


def test_bytes_that_are_not_text_are_named(tmp_path):
    (tmp_path / "v.txt").write_bytes(b"the 1 0\n\xff\xfe 1 0\n")
    with pytest.raises(ValueError, match="Line 2 .*UTF-8"):
        load_word_vectors(tmp_path / "v.txt")


def test_files_of_another_kind_are_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"token": ["a"]}), tmp_path / "v.parquet")
    with pytest.raises(ValueError, match=r"columns `word` and `vector` \(found: `token`\)"):
        load_word_vectors(tmp_path / "v.parquet")
    pq.write_table(pa.table({"word": ["a", "b"], "vector": [[1.0, 2.0], [1.0]]}), tmp_path / "v.parquet")
    with pytest.raises(ValueError, match="row 1 has 1 numbers, row 0 has 2"):
        load_word_vectors(tmp_path / "v.parquet")
    (tmp_path / "v.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="binary"):
        load_word_vectors(tmp_path / "v.bin")
    with pytest.raises(ValueError, match="no word vector file"):
        load_word_vectors(tmp_path / "missing.txt")


def test_vectors_that_do_not_fit_their_words_are_refused():
    with pytest.raises(ValueError, match="a row per word"):
        WordVectors(["a"], np.zeros((2, 3)))
    with pytest.raises(ValueError, match="'a' occurs more than once"):
        WordVectors(["a", "a"], np.zeros((2, 3)))


# Embeddings


@pytest.fixture
def tokenizer():
    # the most frequent first: "▁zebra" 3, "▁Tea" 2, then "▁the" and the "tea" that no space precedes, 1 each
    return train_tokenizer(["zebra zebra zebra Tea Tea the -tea"])


@pytest.mark.parametrize("as_module", [True, False])
def test_found_rows_are_copied_as_published_and_no_other_moves(tokenizer, vectors, as_module):
    embedding = nn.Embedding(len(tokenizer) + 2, 2, padding_idx=0)
    before = embedding.weight.detach().clone()
    coverage = initialize_embeddings(embedding if as_module else embedding.weight, tokenizer, vectors)
    ids = tokenizer.get_vocab()
    expected = {ids["▁the"]: [1, 0], ids["▁Tea"]: [0.5, -2], ids["tea"]: [0.5, -2]}
    for row in range(len(before)):
        want = torch.tensor(expected[row], dtype=torch.float) if row in expected else before[row]
        torch.testing.assert_close(embedding.weight[row].detach(), want, rtol=0, atol=0)
    # tokens: ▁zebra ▁Tea ▁- ▁the tea
    assert (coverage.found, coverage.total, coverage.missing) == (3, 5, ["zebra", "-"])
    assert coverage.share == 3 / 5 and "60.0%" in str(coverage)
    assert embedding.weight.requires_grad and embedding.weight.grad_fn is None


def test_without_the_fallback_case_counts(tokenizer, vectors):
    coverage = initialize_embeddings(torch.zeros(9, 2), tokenizer, vectors, lowercase_fallback=False)
    assert coverage.found == 2 and "Tea" in coverage.missing


def test_vectors_of_special_tokens_are_not_used(tokenizer):
    weight = torch.zeros(9, 2)
    assert initialize_embeddings(weight, tokenizer, WordVectors(["<unk>", "</s>"], np.ones((2, 2)))).found == 0
    assert not weight.any()


def test_at_most_twenty_missing_words_are_named(vectors):
    tokenizer = train_tokenizer([" ".join(f"{chr(97 + n)}x" for n in range(25))])
    assert len(initialize_embeddings(torch.zeros(40, 2), tokenizer, vectors).missing) == 20


def test_embeddings_of_another_shape_are_refused(tokenizer, vectors):
    with pytest.raises(ValueError, match="has 3 dimensions, the word vectors 'tiny' have 2"):
        initialize_embeddings(torch.zeros(9, 3), tokenizer, vectors)
    with pytest.raises(ValueError, match="has 5 rows, but"):
        initialize_embeddings(torch.zeros(5, 2), tokenizer, vectors)


def test_vocabulary_words_are_bare_and_in_both_cases(tokenizer):
    assert {"Tea", "tea", "zebra", "the", "-"} <= vocabulary_words(tokenizer)


def test_half_precision_weights_take_vectors(tokenizer, vectors):
    weight = torch.zeros(9, 2, dtype=torch.bfloat16)
    initialize_embeddings(weight, tokenizer, vectors)
    assert weight[tokenizer.get_vocab()["▁Tea"]].tolist() == [0.5, -2]


# Vectors from text


def test_pmi_by_hand():
    from scipy.sparse import csr_matrix

    # counts: (a, b) 1 in both directions, (a, c) 3. Rows a 4, b 1, c 3, all 8.
    together = csr_matrix(np.array([[0, 1, 3], [1, 0, 0], [3, 0, 0]], dtype=float))
    count = np.array([4, 1, 3.0])
    smoothed = count**0.75 / (count**0.75).sum()
    # P(a, b) / (P(a) P_s(b)) = (1/8) / (4/8 * P_s(b)) = 1 / (4 P_s(b))
    expected = np.zeros((3, 3))
    for w, c, n in ((0, 1, 1), (1, 0, 1), (0, 2, 3), (2, 0, 3)):
        expected[w, c] = max(0, np.log(n / (count[w] * smoothed[c])))
    np.testing.assert_allclose(_positive_pmi(together).toarray(), expected)


def test_trained_vectors_factor_the_pmi_matrix():
    from scipy.sparse import csr_matrix

    texts = [["a", "b"], ["a", "c"], ["b", "c", "d"], ["d", "a"], ["e", "d"]] * 3
    vectors = train_word_vectors(texts, dim=4, window=1)
    assert vectors.words == ["a", "d", "b", "c", "e"]  # 9, 9, 6, 6, 3 times; ties in order of the word
    counts = np.zeros((5, 5))
    for text in texts:
        for left, right in zip(text, text[1:], strict=False):
            i, j = vectors.words.index(left), vectors.words.index(right)
            counts[i, j] += 1
            counts[j, i] += 1
    u, s, _ = np.linalg.svd(_positive_pmi(csr_matrix(counts)).toarray())
    # signs of singular vectors are free, inner products are not: W W' = U S U' over the four largest
    expected = (u[:, :4] * s[:4]) @ u[:, :4].T
    np.testing.assert_allclose(vectors.matrix @ vectors.matrix.T, expected, atol=1e-5)


def test_words_of_one_topic_are_nearer_than_words_of_another():
    rng = np.random.default_rng(0)
    topics = [[f"{topic}{n}" for n in range(10)] for topic in "xy"]
    texts = [list(rng.choice(topics[n % 2], size=6)) for n in range(400)]
    vectors = train_word_vectors(iter(texts), dim=5)
    unit = vectors.matrix / np.linalg.norm(vectors.matrix, axis=1, keepdims=True)
    same = np.array([[a[0] == b[0] for b in vectors.words] for a in vectors.words])
    cosine = unit @ unit.T
    assert cosine[same].mean() > cosine[~same].mean() + 0.5


def test_training_is_repeatable_and_limits_hold():
    texts = [f"w{a} w{b} w{a + b}".split() for a in range(12) for b in range(12)]
    first, second = (train_word_vectors(texts, dim=6, seed=3, max_words=10) for _ in range(2))
    np.testing.assert_array_equal(first.matrix, second.matrix)
    assert first.words == second.words and len(first) == 10


def test_windows_do_not_cross_texts_and_lone_words_are_left_out():
    texts = [["a", "b", "c"]] * 3 + [["lonely"]] * 5
    assert sorted(train_word_vectors(texts, dim=2).words) == ["a", "b", "c"]


def test_too_little_text_is_refused():
    with pytest.raises(ValueError, match=r"`dim` must be less than the number of words, got 5 with 3 words"):
        train_word_vectors([["a", "b", "c"]] * 3, dim=5)
    with pytest.raises(ValueError, match="`window` must be at least 1"):
        train_word_vectors([["a", "b"]], window=0)
    with pytest.raises(ValueError, match="0 words"):
        train_word_vectors([])


@pytest.mark.corpora
def test_published_vectors_cover_a_real_vocabulary():
    folder = os.environ.get("HF_LOCALGAN_DATA") or pytest.skip("HF_LOCALGAN_DATA is not set")
    from hf_localgan.data import load_pairs

    tokenizer = train_tokenizer(load_pairs(os.path.join(folder, "dailydialog_pp"), splits=["train"]), vocab_size=5_000)
    path = os.path.join(folder, "word_vectors", "glove_twitter_25d.parquet")
    vectors = load_word_vectors(path, words=vocabulary_words(tokenizer))
    coverage = initialize_embeddings(nn.Embedding(len(tokenizer), 25), tokenizer, vectors)
    assert coverage.share > 0.6


def test_neighbours_counted_piece_by_piece_give_the_same_vectors(monkeypatch):
    rng = np.random.default_rng(0)
    texts = [[f"w{number}" for number in rng.zipf(1.5, length) % 40] for length in rng.integers(0, 9, 300)]
    whole = train_word_vectors(texts, dim=5)
    for size in (1, 7, 100):
        monkeypatch.setattr(word_vectors, "PIECE", size)
        pieces = train_word_vectors(texts, dim=5)
        assert pieces.words == whole.words and (pieces.matrix == whole.matrix).all()
