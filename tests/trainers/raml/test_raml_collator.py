import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AddedToken, DataCollatorForSeq2Seq

from hf_localgan.data.label_frames import regular_tokens
from hf_localgan.payoff.base import Draws, Payoff
from hf_localgan.payoff.edit import EditPayoff
from hf_localgan.payoff.hamming import HammingPayoff
from hf_localgan.trainers.raml.collator import RamlCollator, split_draws

PAD, BOS, EOS, UNK = range(4)
TOKENS = range(4, 20)


class Recorder(Payoff):
    """Puts `put` in the place of every reference, and keeps what it was asked."""

    def __init__(self, put=None, temperature=1.0):
        super().__init__(temperature)
        self.put, self.asked, self.keys = put, [], []

    def draw(self, labels, keys, *, temperature=None):
        self.asked.extend(labels)
        self.keys.extend(keys.tolist())
        drawn = [list(label) if self.put is None else list(self.put) for label in labels]
        return Draws(drawn, np.arange(len(labels)), np.arange(len(labels)) + 1.0)

    def sample(self, labels, rng):
        raise NotImplementedError

    def log_prob(self, candidate, reference, *, temperature=None):
        raise NotImplementedError


class Candidates(Recorder):
    """Two candidates for each reference: itself, and itself with 9 behind it."""

    def candidates(self, labels, keys, *, temperature=None):
        number = len(labels)
        return SimpleNamespace(
            labels=[[list(label), [*label, 9]] for label in labels],
            weights=np.tile([0.25, 0.75], (number, 1)),
            edits=np.tile([0, 1], (number, 1)),
            effective_sample_size=np.full(number, 1.6),
        )


def examples_of(number: int, seed: int = 0) -> list[dict]:
    """Pairs of 1 to 8 regular tokens each side and the end token."""
    rng = np.random.default_rng(seed)

    def side():
        return [*rng.integers(4, 20, rng.integers(1, 9)).tolist(), EOS]

    sides = [(side(), side()) for _ in range(number)]
    return [{"input_ids": s, "attention_mask": [1] * len(s), "labels": t} for s, t in sides]


def example(labels, source=(5, 6, EOS), **columns) -> dict:
    return {"input_ids": list(source), "attention_mask": [1] * len(source), "labels": labels, **columns}


@pytest.fixture
def pad(tiny_tokenizer):
    return DataCollatorForSeq2Seq(tiny_tokenizer)


def labels_of(batch) -> list[list[int]]:
    return [[token for token in row if token != -100] for row in batch["labels"].tolist()]


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


# ---- draws ----


@pytest.mark.parametrize("num_samples", [1, 3])
def test_at_temperature_zero_the_batch_is_the_wrapped_collators_own(pad, num_samples):
    examples = examples_of(8)
    batch, draws = split_draws(RamlCollator(pad, HammingPayoff(TOKENS, 0.0), num_samples=num_samples)(examples))
    assert same(dict(batch), dict(pad([row for row in examples for _ in range(num_samples)])))
    assert draws["raml_edits"].tolist() == [0] * 8 * num_samples
    lengths = [len(row["labels"]) - 1 for row in examples for _ in range(num_samples)]
    assert draws["raml_lengths"].tolist() == lengths
    assert draws["raml_temperature"].tolist() == [0.0] * 8 * num_samples


def test_the_end_token_stays_and_the_source_too(pad):
    examples = examples_of(64)
    batch = RamlCollator(pad, EditPayoff(TOKENS, 5.0))(examples)
    plain = pad(examples)
    assert torch.equal(batch["input_ids"], plain["input_ids"])
    changed = 0
    for row, drawn in zip(examples, labels_of(batch), strict=True):
        assert drawn[-1] == EOS and all(token in TOKENS for token in drawn[:-1])
        changed += drawn != row["labels"]
    assert changed > 50  # tau = 5 is high: nearly every row of up to 8 tokens has an edit


def test_edits_are_those_of_the_rows(pad):
    examples = examples_of(64)
    batch = RamlCollator(pad, HammingPayoff(TOKENS, 2.0))(examples)
    expected = [
        sum(a != b for a, b in zip(row["labels"], drawn, strict=True))
        for row, drawn in zip(examples, labels_of(batch), strict=True)
    ]
    assert batch["raml_edits"].tolist() == expected and max(expected) > 0
    assert batch["raml_lengths"].tolist() == [len(row["labels"]) - 1 for row in examples]
    assert batch["raml_temperature"].unique().tolist() == [2.0]
    assert "raml_effective_sample_size" not in batch and "raml_weights" not in batch


def test_examples_are_not_changed(pad):
    examples = examples_of(16)
    before = copy.deepcopy(examples)
    RamlCollator(pad, EditPayoff(TOKENS, 5.0), num_samples=2)(examples)
    assert examples == before


def test_order_and_company_change_no_draw(pad):
    examples = examples_of(40)
    collator = RamlCollator(pad, HammingPayoff(TOKENS, 2.0))
    together = labels_of(collator(examples))
    by_length = sorted(range(40), key=lambda i: len(examples[i]["labels"]))
    grouped = [labels_of(collator([examples[i] for i in by_length[at : at + 8]])) for at in range(0, 40, 8)]
    assert [together[i] for i in by_length] == [row for batch in grouped for row in batch]


def test_seeds_epochs_and_samples_have_draws_of_their_own(pad):
    examples = examples_of(16)

    def draw(seed=0, epoch=0, num_samples=1):
        collator = RamlCollator(pad, HammingPayoff(TOKENS, 3.0), seed=seed, num_samples=num_samples)
        collator.set_epoch(epoch)
        return labels_of(collator(examples))

    first = draw()
    assert first == draw()
    assert first != draw(seed=1) and first != draw(epoch=1) and draw(seed=1) != draw(epoch=1)
    assert draw(seed=-1) != first
    several = draw(num_samples=3)
    assert several[::3] == first  # rows of one example lie side by side, its first sample is the single one
    assert several[1::3] != first and several[2::3] != first and several[1::3] != several[2::3]


def test_the_source_and_every_part_of_the_label_enter_the_key(pad):
    payoff = Recorder()
    rows = [
        example([7, 8, EOS]), example([7, 8, EOS]), example([8, 7, EOS]), example([7, 8, EOS], source=(6, 5, EOS)),
        example([BOS, 7, 8, EOS]),
    ]  # fmt: skip
    RamlCollator(pad, payoff)(rows)
    assert payoff.keys[0] == payoff.keys[1]
    assert len(set(payoff.keys)) == 4


def test_arrays_and_tensors_are_drawn_as_lists_are_and_keep_their_kind(pad):
    given = []

    def keep(rows):
        given.append(rows)
        return pad(rows)

    lists = examples_of(8)
    arrays = [{name: np.array(values, dtype=np.int32) for name, values in row.items()} for row in lists]
    tensors = [{name: torch.tensor(values) for name, values in row.items()} for row in lists]
    collator = RamlCollator(keep, EditPayoff(TOKENS, 2.0), pad.tokenizer)
    batches = [collator(rows) for rows in (lists, arrays, tensors)]
    assert same(batches[0], batches[1]) and same(batches[0], batches[2])
    assert [type(rows[0]["labels"]) for rows in given] == [list, np.ndarray, torch.Tensor]
    assert given[1][0]["labels"].dtype == np.int32


def test_the_decoders_input_is_the_drawn_label_shifted_right(pad, tiny_bart, tiny_tokenizer):
    collator = RamlCollator(DataCollatorForSeq2Seq(tiny_tokenizer, model=tiny_bart()), HammingPayoff(TOKENS, 3.0))
    batch = collator(examples_of(8))
    shifted = batch["labels"][:, :-1].masked_fill(batch["labels"][:, :-1] == -100, PAD)
    assert torch.equal(batch["decoder_input_ids"][:, 1:], shifted)
    assert batch["decoder_input_ids"][:, 0].unique().tolist() == [BOS]  # the model's start token
    assert batch["raml_edits"].sum() > 0


def test_statistics_leave_the_batch_and_its_kind_stays(pad):
    whole = RamlCollator(pad, Recorder())(examples_of(3))
    batch, draws = split_draws(whole)
    assert type(batch) is type(whole) and set(batch) == {"input_ids", "attention_mask", "labels"}
    names = {"raml_edits", "raml_lengths", "raml_temperature", "raml_effective_sample_size"}
    assert set(draws) == names and names < set(whole)
    assert draws["raml_effective_sample_size"].tolist() == [1.0, 2.0, 3.0]
    assert all(values.shape == (3,) for values in draws.values())


# ---- frames ----


@pytest.mark.parametrize(
    "label, body, drawn",
    [
        ([5, 6, EOS], [5, 6], [9, EOS]),
        ([BOS, 5, 6, EOS], [5, 6], [BOS, 9, EOS]),  # BART
        ([EOS, BOS, 5, EOS], [5], [EOS, BOS, 9, EOS]),  # language code
        ([5, 6, EOS, BOS], [5, 6], [9, EOS, BOS]),  # language code behind
        ([5, 6], [5, 6], [9]),  # cut without an end
        ([UNK, 5, UNK, EOS], [UNK, 5, UNK], [9, EOS]),  # unknown tokens are ordinary outsiders
        ([5, BOS, 6, EOS], [5, BOS, 6], [9, EOS]),  # so is a special token inside
        ([5, 6, EOS, PAD, PAD], [5, 6], [9, EOS, PAD, PAD]),
        ([-100, 5, 6, EOS, -100], [5, 6], [-100, 9, EOS, -100]),
        ([EOS], [], [9, EOS]),
        ([BOS, EOS], [], [BOS, 9, EOS]),
        ([BOS, EOS, PAD], [], [BOS, 9, EOS, PAD]),
        ([], [], [9]),
    ],
)
def test_the_body_is_drawn_and_the_frame_put_back(pad, label, body, drawn):
    for before, after in ([], []), ([example([7, EOS])], []), ([], [example([8, EOS])]):  # alone and beside others
        payoff, given = Recorder(put=[9]), []
        collator = RamlCollator(lambda rows, given=given: given.extend(rows) or pad(rows), payoff, pad.tokenizer)
        collator([*before, example(label), *after])
        assert payoff.asked[len(before)] == body
        assert given[len(before)]["labels"] == drawn


def test_the_targets_of_a_packed_row_are_drawn_one_by_one(pad):
    payoff, given = Recorder(put=[9]), []
    packed = [BOS, 5, 6, EOS, BOS, 7, EOS, 5, 6, 8, EOS, PAD]
    rows = [example([4, EOS]), example(packed), example([4, EOS], source=(7, EOS))]
    batch = RamlCollator(lambda rows: given.extend(rows) or pad(rows), payoff, pad.tokenizer)(rows)
    assert payoff.asked == [[4], [5, 6], [7], [5, 6, 8], [4]]
    assert given[1]["labels"] == [BOS, 9, EOS, BOS, 9, EOS, 9, EOS, PAD]
    assert len(set(payoff.keys)) == 5
    # The recorder counts 0, 1, 2, 3, 4 edits: the packed row has 1 + 2 + 3, and a mean sample size of (2 + 3 + 4) / 3.
    assert batch["raml_edits"].tolist() == [0, 6, 4]
    assert batch["raml_lengths"].tolist() == [1, 2 + 1 + 3, 1]
    assert batch["raml_effective_sample_size"].tolist() == [1.0, 3.0, 5.0]


def test_equal_targets_of_a_packed_row_have_draws_of_their_own(pad):
    row = example(([5, 6, 7, 8, 9, 10] + [EOS]) * 2)
    drawn = labels_of(RamlCollator(pad, HammingPayoff(TOKENS, 5.0))([row]))[0]
    assert drawn[6] == drawn[13] == EOS and drawn[:6] != drawn[7:13]


def test_samples_of_packed_rows_lie_side_by_side(pad):
    rows = [example([5, 6, EOS, 7, 8, EOS]), example([9, EOS])]
    several = labels_of(RamlCollator(pad, HammingPayoff(TOKENS, 5.0), num_samples=2)(rows))
    assert several[::2] == labels_of(RamlCollator(pad, HammingPayoff(TOKENS, 5.0))(rows))
    assert [len(row) for row in several] == [6, 6, 2, 2]
    counted = RamlCollator(pad, Recorder(), num_samples=2)(rows)
    # Draws 0 to 5 are first target (samples 0, 1), second target (2, 3), second row (4, 5): 0 + 2, 1 + 3, 4, 5.
    assert counted["raml_edits"].tolist() == [2, 4, 4, 5]


@pytest.mark.parametrize("unknown, label", [("</s>", [5, 6, EOS]), ("<s>", [BOS, 5, 6, EOS])])
def test_an_unknown_token_that_is_also_a_token_of_the_frame_stays(tiny_tokenizer, unknown, label):
    tiny_tokenizer.unk_token = unknown
    payoff = Recorder(put=[9])
    batch = RamlCollator(DataCollatorForSeq2Seq(tiny_tokenizer), payoff)([example(label)])
    assert payoff.asked == [[5, 6]] and labels_of(batch) == [[*label[:-3], 9, EOS]]


# ---- speech ----


def pad_sounds(rows) -> dict[str, torch.Tensor]:
    def padded(values, fill):
        sequences = [torch.as_tensor(value) for value in values]
        return torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=fill)

    features = padded([row["input_features"] for row in rows], 0.0)
    return {"input_features": features, "labels": padded([row["labels"] for row in rows], -100)}


def test_sounds_key_the_draws_and_reach_the_wrapped_collator():
    rng = np.random.default_rng(0)
    sounds = [rng.normal(size=(frames, 3)).astype(np.float32) for frames in (5, 7, 5)]
    rows = [{"input_features": sound, "labels": [5, 6, 7, 8, 9, 10, EOS]} for sound in sounds]
    settings = {"special_ids": (PAD, BOS, EOS, UNK), "vocab_size": 20, "eos_token_id": EOS, "unk_token_id": UNK}
    collator = RamlCollator(pad_sounds, HammingPayoff(TOKENS, 5.0), **settings)
    batch = collator(rows)
    assert torch.equal(batch["input_features"], pad_sounds(rows)["input_features"])
    drawn = batch["labels"].tolist()
    assert drawn[0] != drawn[1] and drawn[0] != drawn[2] and all(row[-1] == EOS for row in drawn)
    # Lists of Python numbers, as a data set gives them without a format, are the same sounds.
    lists = [{**row, "input_features": row["input_features"].tolist()} for row in rows]
    assert collator(lists)["labels"].tolist() == drawn


def test_a_draw_key_takes_the_place_of_the_source(pad):
    settings = {"tokenizer": pad.tokenizer, "seed": 1}
    collator = RamlCollator(pad_sounds, HammingPayoff(TOKENS, 5.0), **settings)
    rng = np.random.default_rng(0)
    label = [5, 6, 7, 8, 9, 10, EOS]

    def drawn(keys):
        sounds = [rng.normal(size=(4, 3)).astype(np.float32) for _ in keys]
        rows = [
            {"input_features": sound, "labels": label, "draw_key": key} for sound, key in zip(sounds, keys, strict=True)
        ]
        rows = [{name: value for name, value in row.items() if value is not None} for row in rows]
        return collator(rows)["labels"].tolist()

    first, second = drawn([11, -12])
    assert drawn([np.int64(-12), 11]) == [second, first] and first != second  # whatever the sound
    assert drawn([None, None]) != drawn([None, None])
    with pytest.raises(ValueError, match="`draw_key` of example 1 of the batch must be a whole number.*got 'a'"):
        drawn([1, "a"])


# ---- candidates ----


def test_weighted_candidates_are_rows_with_weights_that_sum_to_one(pad):
    batch = RamlCollator(pad, Candidates(), weighted=True)([example([5, EOS]), example([BOS, 6, 7, EOS])])
    assert labels_of(batch) == [[5, EOS], [5, 9, EOS], [BOS, 6, 7, EOS], [BOS, 6, 7, 9, EOS]]
    assert batch["raml_weights"].view(2, 2).sum(1).tolist() == [1.0, 1.0]
    assert batch["raml_weights"].tolist() == [0.25, 0.75] * 2
    assert batch["raml_edits"].tolist() == [0, 1, 0, 1]
    assert batch["raml_lengths"].tolist() == [1, 1, 2, 2]
    assert torch.equal(batch["raml_effective_sample_size"], torch.full((4,), 1.6))
    assert len(batch["input_ids"]) == 4


def test_weights_of_a_packed_row_are_refused(pad):
    with pytest.raises(ValueError, match="needs rows of one target"):
        RamlCollator(pad, Candidates(), weighted=True)([example([5, EOS, 6, EOS])])


# ---- copies ----


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda collator: pickle.loads(pickle.dumps(collator))])
def test_a_copy_starts_at_the_same_time_and_goes_its_own_way(pad, duplicate):
    examples = examples_of(16)
    collator = RamlCollator(pad, HammingPayoff(TOKENS, 5.0))
    collator.set_epoch(3)
    third = labels_of(collator(examples))
    other = duplicate(collator)
    other.set_epoch(4)
    assert labels_of(collator(examples)) == third
    other.set_epoch(3)
    assert labels_of(other(examples)) == third
    assert other._clock._shared.is_shared()  # or its workers would never see another epoch


# ---- bad input ----


def test_special_tokens_in_the_set_are_named(pad):
    with pytest.raises(ValueError, match=r"HammingPayoff may draw special tokens: 2 \(</s>\), 3 \(<unk>\)"):
        RamlCollator(pad, HammingPayoff(range(2, 20), 0.9))
    with pytest.raises(ValueError, match="may draw special tokens: 0, 1, 2"):
        RamlCollator(pad_sounds, HammingPayoff(range(20), 0.9), special_ids=(0, 1), vocab_size=20, eos_token_id=2)


def test_special_tokens_that_were_added_later_are_found(pad):
    pad.tokenizer.add_special_tokens({"additional_special_tokens": ["<fr>"]})
    with pytest.raises(ValueError, match=r"special tokens: 20 \(<fr>\).*`hf_localgan.regular_tokens\(tokenizer\)`"):
        RamlCollator(pad, HammingPayoff(range(4, 21), 0.9))
    payoff = Recorder(put=[9])
    assert labels_of(RamlCollator(pad, payoff)([example([20, 5, EOS])])) == [[20, 9, EOS]]


def test_a_proposals_token_set_is_checked_too(pad):
    payoff = Recorder()
    payoff.proposal = HammingPayoff(range(2, 20), 0.9)
    with pytest.raises(ValueError, match="may draw special tokens"):
        RamlCollator(pad, payoff)


def test_a_token_set_beyond_the_vocabulary_is_refused(pad):
    with pytest.raises(ValueError, match="HammingPayoff draws ids outside of the vocabulary of 20 tokens: 20, 21"):
        RamlCollator(pad, HammingPayoff(range(4, 22), 0.9))
    with pytest.raises(ValueError, match="Recorder draws ids outside of the vocabulary of 20 tokens: -1, 20"):
        RamlCollator(pad, Recorder(put=[20, -1]))([example([5, EOS])])


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize("token", [20, -1, -101])
def test_labels_outside_of_the_vocabulary_are_refused(pad, token, temperature):
    rows = [example([5, EOS]), example([5, token, EOS])]
    with pytest.raises(ValueError, match=rf"vocabulary of 20 tokens: {token} \(first in example 1"):
        RamlCollator(pad, HammingPayoff(TOKENS, temperature))(rows)


def test_padding_between_tokens_is_refused(pad):
    with pytest.raises(ValueError, match="example 1 of the batch hold -100 between tokens"):
        RamlCollator(pad, HammingPayoff(TOKENS, 0.9))([example([5, EOS]), example([5, -100, 6, EOS])])


@pytest.mark.parametrize("columns", [{"input_ids": [5, EOS]}, {"input_ids": [5, EOS], "labels": None}])
def test_examples_without_labels_are_refused(pad, columns):
    with pytest.raises(ValueError, match="Example 0 of the batch has no `labels`"):
        RamlCollator(pad, HammingPayoff(TOKENS, 0.9))([columns])


def test_labels_that_are_no_list_of_ids_are_refused(pad):
    for labels in ([[5, 6]], torch.tensor([[5, 6]]), np.array([5.5, 6.0]), [6.5, 1], [6.0, 1], [None, 5], [2**70]):
        with pytest.raises(ValueError, match="`labels` of each example must be one list of token ids"):
            RamlCollator(pad, HammingPayoff(TOKENS, 0.9))([example(labels)])


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_batch_of_nothing_is_refused(pad, temperature):
    with pytest.raises(ValueError, match="The batch has no examples"):
        RamlCollator(pad, HammingPayoff(TOKENS, temperature))([])


def test_an_example_without_the_source_of_the_others_is_named(pad):
    rows = [example([5, EOS]), {"input_values": [0.5], "labels": [5, EOS]}]
    with pytest.raises(ValueError, match=r"Example 1 of the batch has no `input_ids`.*found: `input_values`, `labels`"):
        RamlCollator(pad, HammingPayoff(TOKENS, 0.9))(rows)


def test_examples_without_a_source_are_refused(pad):
    with pytest.raises(ValueError, match=r"no source, which the draws depend on \(found: `labels`\)"):
        RamlCollator(pad, HammingPayoff(TOKENS, 0.9))([{"labels": [5, EOS]}])


def test_the_references_decoder_inputs_are_refused(pad):
    with pytest.raises(ValueError, match="`decoder_input_ids`, which are made from the reference"):
        RamlCollator(pad, HammingPayoff(TOKENS, 0.9))([example([5, EOS], decoder_input_ids=[1, 5])])


def test_a_column_with_a_value_for_each_label_needs_labels_of_the_same_length(pad):
    def pad_all(rows):
        return pad([{name: row[name] for name in ("input_ids", "attention_mask", "labels")} for row in rows])

    rows = [example([5, 6, 7, EOS], decoder_attention_mask=[1] * 4), example([5, EOS], decoder_attention_mask=[1] * 2)]
    longer = RamlCollator(pad_all, Recorder(put=[9] * 5), pad.tokenizer)
    with pytest.raises(ValueError, match="`decoder_attention_mask` has a value for each label"):
        longer(rows)
    RamlCollator(pad_all, HammingPayoff(TOKENS, 5.0), pad.tokenizer)(rows)
    # A source's mask that is as long as the labels by chance is no hindrance, and neither are a number and a text.
    longer([example([5, 6, EOS], weight=0.5, text="abc")])
    assert longer([example([5, 6, EOS]), example([7, EOS])])["labels"].shape == (2, 6)


@pytest.mark.parametrize("payoff", ["edit", None, HammingPayoff], ids=str)
def test_what_is_no_sampler_is_refused(pad, payoff):
    with pytest.raises(ValueError, match=r"`payoff` must be a sampler, such as `HammingPayoff\(regular_tokens.*got "):
        RamlCollator(pad, payoff)


@pytest.mark.parametrize("seed", [None, 1.5, "1"])
def test_a_seed_that_is_no_whole_number_is_refused(pad, seed):
    with pytest.raises(ValueError, match="`seed` must be a whole number, got "):
        RamlCollator(pad, HammingPayoff(TOKENS, 0.9), seed=seed)


def test_regular_tokens_are_those_that_a_collator_accepts(tiny_tokenizer):
    tiny_tokenizer.add_tokens(["colour"])
    tiny_tokenizer.add_tokens([AddedToken("<fr>", special=True)])  # none of `all_special_ids`
    regular = regular_tokens(tiny_tokenizer)
    assert regular == [*TOKENS, tiny_tokenizer.convert_tokens_to_ids("colour")]
    RamlCollator(DataCollatorForSeq2Seq(tiny_tokenizer), HammingPayoff(regular, 0.9))


@pytest.mark.parametrize("num_samples", [0, -1, 1.5, True])
def test_less_than_one_sample_is_refused(pad, num_samples):
    with pytest.raises(ValueError, match="`num_samples` must be a whole number of at least 1"):
        RamlCollator(pad, HammingPayoff(TOKENS, 0.9), num_samples=num_samples)


def test_weights_need_a_sampler_of_candidates(pad):
    with pytest.raises(ValueError, match="needs a sampler of weighted candidates .* got HammingPayoff"):
        RamlCollator(pad, HammingPayoff(TOKENS, 0.9), weighted=True)
    with pytest.raises(ValueError, match="`num_samples` must be 1 with `weighted=True`.*got 2"):
        RamlCollator(pad, Candidates(), weighted=True, num_samples=2)


def test_a_vocabulary_is_needed_once(pad, tiny_tokenizer):
    for settings in ({}, {"special_ids": [0], "vocab_size": 20}, {"tokenizer": tiny_tokenizer, "vocab_size": 20}):
        with pytest.raises(ValueError, match="Give `tokenizer`, or all of"):
            RamlCollator(pad_sounds, HammingPayoff(TOKENS, 0.9), **settings)
    with pytest.raises(ValueError, match=r"`special_ids` must be ids of the vocabulary, 0 to 19, got \[30\]"):
        RamlCollator(pad_sounds, HammingPayoff(TOKENS, 0.9), special_ids=[30], vocab_size=20, eos_token_id=2)
