"""Which parts read the same tokens."""

from types import SimpleNamespace

import pytest

from hf_localgan.data.vocabulary import check_same_vocabulary, vocabulary_fingerprint


def part(size, vocabulary=None):
    return SimpleNamespace(vocab_size=size, vocabulary=vocabulary)


def test_a_fingerprint_is_that_of_tokens_and_ids(tiny_tokenizer, tmp_path):
    found = vocabulary_fingerprint(tiny_tokenizer)
    assert len(found) == 16 and int(found, 16) >= 0
    tiny_tokenizer.save_pretrained(tmp_path)
    assert vocabulary_fingerprint(type(tiny_tokenizer).from_pretrained(tmp_path)) == found

    class Other:
        def __init__(self, tokens):
            self.tokens = tokens

        def get_vocab(self):
            return self.tokens

    tokens = tiny_tokenizer.get_vocab()
    assert vocabulary_fingerprint(Other(dict(reversed(tokens.items())))) == found  # whatever the order
    assert vocabulary_fingerprint(Other({**tokens, "hello": tokens["how"], "how": tokens["hello"]})) != found
    assert (
        vocabulary_fingerprint(Other({("hallo" if key == "hello" else key): i for key, i in tokens.items()})) != found
    )
    assert vocabulary_fingerprint(Other({**tokens, "two": 20})) != found


def test_sizes(tiny_tokenizer):
    # The tokenizer has 20 tokens; a generator's table may have more rows, and parts as many as either or in between.
    for size in (20, 22, 24):
        check_same_vocabulary("energy", part(size), 24, tiny_tokenizer)
    for size in (19, 25):
        with pytest.raises(
            ValueError, match=f"energy knows {size} tokens, the generator's tokenizer has 20. Train the"
        ):
            check_same_vocabulary("energy", part(size), 24, tiny_tokenizer)
    check_same_vocabulary("energy", part(24, "00ff"), 24, None)  # nothing to compare with but the number of rows
    with pytest.raises(ValueError, match="knows 1,000 tokens, the generator's tokenizer has 24"):
        check_same_vocabulary("energy", part(1000), 24, None)
    with pytest.raises(ValueError, match="discriminator holds no word vectors.*`None`.*with the generator's tokenizer"):
        check_same_vocabulary("discriminator", part(None), 24, tiny_tokenizer)


def test_as_many_tokens_but_others(tiny_tokenizer):
    found = vocabulary_fingerprint(tiny_tokenizer)
    check_same_vocabulary("energy", part(20, found), 20, tiny_tokenizer)
    check_same_vocabulary("energy", part(20), 20, tiny_tokenizer)  # made before fingerprints were
    with pytest.raises(ValueError, match=rf"as many tokens, but not the same \(fingerprints 00ff and {found}\)"):
        check_same_vocabulary("energy", part(20, "00ff"), 20, tiny_tokenizer)
