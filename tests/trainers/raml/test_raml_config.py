"""The settings of RAML: what they make, what the command line reads, and what is refused before anything is loaded."""

import math

import pytest

from hf_localgan.payoff.edit import EditPayoff
from hf_localgan.payoff.exact_edit import ExactEditPayoff
from hf_localgan.payoff.hamming import HammingPayoff
from hf_localgan.payoff.importance import ImportancePayoff
from hf_localgan.recipes import (
    DataArguments,
    EvaluationArguments,
    GeneratorArguments,
    RecipeParser,
    TokenizerArguments,
)
from hf_localgan.trainers.expected_reward.config import ExpectedRewardConfig
from hf_localgan.trainers.raml.config import REWARDS, SERIES_FIELDS, RamlConfig, make_payoff

REGULAR = 16  # of the 20 tokens of the tiny tokenizer, ids 4 to 19


@pytest.fixture
def config(tmp_path):
    def build(**fields) -> RamlConfig:
        return RamlConfig(str(tmp_path), use_cpu=True, **fields)

    return build


@pytest.mark.parametrize(
    ("fields", "kind", "temperature"),
    [
        ({}, HammingPayoff, 0.85),
        ({"payoff": "edit"}, EditPayoff, 0.9),
        ({"payoff": "exact_edit"}, ExactEditPayoff, 0.9),
        ({"payoff": "edit", "temperature": 0.0}, EditPayoff, 0.0),
        ({"payoff": "importance", "temperature": 0.1}, ImportancePayoff, 0.1),
    ],
    ids=str,
)
def test_each_payoff_is_made_at_its_temperature(fields, kind, temperature, config, tiny_tokenizer):
    payoff = make_payoff(config(**fields), tiny_tokenizer)
    assert type(payoff) is kind and payoff.temperature == temperature


@pytest.mark.parametrize("payoff", ["hamming", "edit", "exact_edit"])
@pytest.mark.parametrize(
    ("edit_cost", "cost"), [("log_vocab", 1 + math.log(REGULAR)), ("unit", 1.0), ("2.5", 2.5), ("3", 3.0)]
)
def test_the_cost_of_an_edit_is_a_name_or_a_number(payoff, edit_cost, cost, config, tiny_tokenizer):
    made = make_payoff(config(payoff=payoff, edit_cost=edit_cost), tiny_tokenizer)
    assert made.edit_cost == pytest.approx(cost)


def test_only_regular_tokens_are_drawn(config, tiny_tokenizer):
    tiny_tokenizer.add_tokens(["colour"])
    tiny_tokenizer.add_special_tokens({"additional_special_tokens": ["<fr>"]})
    made = make_payoff(config(), tiny_tokenizer)
    assert made.tokens.tolist() == [*range(4, 20), tiny_tokenizer.convert_tokens_to_ids("colour")]


@pytest.mark.parametrize("payoff", ["hamming", "edit", "exact_edit"])
def test_an_edit_rate_is_solved_for_at_the_length_given(payoff, config, tiny_tokenizer):
    made = make_payoff(config(payoff=payoff, edit_rate=0.05, edit_rate_length=10), tiny_tokenizer)
    if payoff == "hamming":
        rate = made.edit_probs(10) @ range(11) / 10
    elif payoff == "edit":
        rate = made.edit_probs(10) @ range(21) / 10
    else:
        reference = list(range(4, 14))
        probs = made.distance_probs(reference)
        rate = probs @ range(len(probs)) / 10
    assert rate == pytest.approx(0.05, rel=0.02 if payoff == "exact_edit" else 1e-6)


def test_most_edits_are_handed_on(config, tiny_tokenizer):
    assert len(make_payoff(config(payoff="edit", max_edits=3), tiny_tokenizer).edit_probs(20)) == 4


@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("proposal", ["hamming", "edit", "exact_edit"])
def test_importance_sampling_is_made_of_a_proposal_and_a_reward(reward, proposal, config, tiny_tokenizer):
    made = make_payoff(
        config(
            payoff="importance", temperature=0.1, reward=reward, num_candidates=5, proposal=proposal,
            proposal_temperature=0.7, edit_cost="2", base="uniform",
        ),
        tiny_tokenizer,
    )  # fmt: skip
    assert (made.num_candidates, made.base, made.temperature) == (5, "uniform", 0.1)
    assert (made.proposal.temperature, made.proposal.edit_cost) == (0.7, 2.0)
    default = make_payoff(config(payoff="importance", temperature=0.1, proposal=proposal), tiny_tokenizer)
    assert default.proposal.temperature == {"hamming": 0.85, "edit": 0.9, "exact_edit": 0.9}[proposal]
    assert default.base == "proposal" and default.num_candidates == 16


def test_yaml_and_options_reach_every_field(tmp_path, tiny_tokenizer):
    path = tmp_path / "raml.yaml"
    path.write_text(
        f"output_dir: {tmp_path}\nuse_cpu: true\npayoff: edit\nedit_cost: 5.5\nmax_edits: 9\nnum_samples: 2\n"
        "temperature: 0.8\ntemperature_schedule: cosine\ntemperature_start: 0.3\nweighted: false\n"
    )
    groups = (DataArguments, TokenizerArguments, GeneratorArguments, EvaluationArguments)  # share one name space
    *_, read = RecipeParser(*groups, RamlConfig).read([str(path), "--temperature", "0.7", "--num_samples=3"])
    assert (read.payoff, read.temperature, read.num_samples, read.max_edits) == ("edit", 0.7, 3, 9)
    assert (read.temperature_schedule, read.temperature_start, read.weighted) == ("cosine", 0.3, False)
    assert make_payoff(read, tiny_tokenizer).edit_cost == 5.5
    (read,) = RecipeParser(RamlConfig).read([f"--output_dir={tmp_path}", "--use_cpu", "--edit_rate=0.1"])
    assert (read.edit_rate, read.edit_cost, read.temperature) == (0.1, "log_vocab", None)


def test_settings_are_saved_as_they_were_given(config):
    saved = config(payoff="edit", edit_cost="unit", edit_rate=0.05).to_dict()
    assert (saved["payoff"], saved["edit_cost"], saved["edit_rate"]) == ("edit", "unit", 0.05)
    assert saved["temperature"] is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"payoff": "bleu"}, r'`payoff` must be one of hamming, edit, exact_edit, weighted_hamming, .*, got "bleu"'),
        ({"proposal": "importance"}, r'`proposal` must be one of hamming, edit, exact_edit, got "importance"'),
        ({"reward": "meteor"}, r'`reward` must be one of bleu, .*, got "meteor"'),
        ({"base": "reference"}, r'`base` must be one of proposal, uniform, got "reference"'),
        ({"temperature_schedule": "step"}, r'one of constant, linear, cosine, .*, got "step"'),
        ({"temperature": -0.1}, r"`temperature` must be at least 0, a number, got -0.1"),
        ({"temperature": math.nan}, r"`temperature` must be at least 0, a number, got nan"),
        ({"proposal_temperature": -1.0}, r"`proposal_temperature` must be at least 0, a number, got -1.0"),
        ({"temperature_schedule": "linear", "temperature_start": -1.0}, r"`temperature_start` must be at least 0"),
        ({"temperature_start": 0.5}, r"`temperature_start` is 0.5, but `temperature_schedule` is constant"),
        ({"temperature_schedule": "linear", "dataloader_in_order": False}, r"linear` needs `dataloader_in_order`"),
        ({"edit_rate": -0.1}, r"`edit_rate` must be at least 0, a number, got -0.1"),
        ({"edit_rate": 0.1, "temperature": 0.9}, r"`edit_rate` 0.1 sets the temp.* `temperature` 0.9.*`--temp"),
        ({"edit_rate": 0.1, "payoff": "importance"}, r"`edit_rate` .* `payoff: importance`.*proposal_temperature"),
        ({"edit_cost": "vocab"}, r"`edit_cost` must be log_vocab \(1 \+ ln v\), unit \(1\) or a .* 'vocab'"),
        ({"edit_cost": "-1"}, r"`edit_cost` must be .* got '-1'"),
        ({"edit_cost": "nan"}, r"`edit_cost` must be .* got 'nan'"),
        ({"num_samples": 0}, r"`num_samples` must be at least 1, a whole number, got 0"),
        ({"num_candidates": 0}, r"`num_candidates` must be at least 1, a whole number, got 0"),
        ({"edit_rate_length": 0}, r"`edit_rate_length` must be at least 1, a whole number, got 0"),
        ({"payoff": "edit", "max_edits": 0}, r"`max_edits` must be at least 1, a whole number, got 0"),
        ({"payoff": "edit", "max_edits": 2.5}, r"`max_edits` must be at least 1, a whole number, got 2.5"),
        ({"max_edits": 3}, r"`max_edits` 3 bounds draws by `edit` .*drawn by `hamming`"),
        ({"payoff": "importance", "temperature": 0.1, "max_edits": 3}, r"`max_edits` 3 .*drawn by `hamming`"),
        (
            {"reward": "chrf", "base": "uniform"},
            r"`reward` \(chrf\), `base` \(uniform\) belong to `payoff: importance`",
        ),
        ({"payoff": "edit", "num_candidates": 4}, r"`num_candidates` \(4\) belong .* got `payoff: edit`"),
        ({"proposal": "edit", "proposal_temperature": 0.5}, r"`proposal` \(edit\), `proposal_temperature` \(0.5\)"),
        ({"edit_rate": math.inf}, r"`edit_rate` must be below 1, .*`payoff: hamming` .* got inf"),
        ({"edit_rate": 1.0}, r"`edit_rate` must be below 1, .*replaces a token once at most; got 1.0"),
        ({"payoff": "edit", "edit_rate": math.inf}, r"must be below 2, .*40 edits of 20 tokens at most; got inf"),
        (
            {"payoff": "exact_edit", "edit_rate": 0.4, "edit_rate_length": 10, "max_edits": 4},
            r"must be below 0.4, .* 4 edits of 10 tokens",
        ),
        ({"temperature": math.inf, "temperature_schedule": "linear"}, r"`temperature` must be finite for a `temp"),
        ({"temperature_start": math.inf, "temperature_schedule": "cosine"}, r"`temperature_start` must be finite"),
        (
            {"payoff": "importance", "temperature": 0.1, "edit_rate": 0.1},
            r"`payoff: importance` takes `temperature`.*Leave `edit_rate` out",
        ),
        ({"edit_cost": None}, r"`edit_cost` must be log_vocab .* got None"),
        ({"temperature": "0.5"}, r"`temperature` must be at least 0, a number, got '0.5'"),
        ({"temperature_start": None}, r"`temperature_start` must be at least 0, a number, got None"),
        ({"num_samples": "2"}, r"`num_samples` must be at least 1, a whole number, got '2'"),
        ({"num_candidates": None}, r"`num_candidates` must be at least 1, a whole number, got None"),
        ({"payoff": "importance"}, r"`payoff: importance` needs a `temperature`.*0.02, 0.05"),
        (
            {"payoff": "importance", "temperature": 0.1, "weighted": True, "num_samples": 2},
            r"`weighted` trains on all 16 candidates, so `num_samples` must be 1, got 2",
        ),
        ({"base_measure": "words"}, r'`base_measure` must be one of uniform, unigram, batch, got "words"'),
        ({"payoff": "exact_edit", "base_measure": "unigram"}, r"`base_measure: unigram` is .* drawn by `exact_edit`"),
        ({"payoff": "weighted_hamming"}, r"`payoff: weighted_hamming` needs an `edit_rate`, such as 0.02"),
        ({"payoff": "weighted_hamming", "edit_rate": 1.0}, r"`edit_rate` must be below 1, .*weighted_hamming`"),
        ({"payoff": "weighted_hamming", "edit_rate": 0.1, "base_measure": "batch"}, r"by `weighted_hamming`. Leave"),
        ({"payoff": "edit", "neighbours": 3}, r"`neighbours` \(3\) belong to `payoff: weighted_hamming`"),
        ({"payoff": "weighted_hamming", "edit_rate": 0.1, "neighbours": 0}, r"`neighbours` must be at least 1"),
        ({"even_rate": False}, r"`even_rate` \(False\) belong to `payoff: weighted_hamming`"),
        ({"payoff": "weighted_hamming", "edit_rate": 0.1, "similarity_temperature": 0.0}, r"must be a number above 0"),
        (
            {"payoff": "weighted_hamming", "edit_rate": 0.1, "even_rate": False, "similarity_temperature": 0.1},
            r"`similarity_temperature` \(0.1\) is for `even_rate: true`",
        ),
        (
            {"payoff": "importance", "temperature": 0.1, "base": "uniform", "base_measure": "batch"},
            r"depends on the whole batch with `base_measure: batch`",
        ),
        (
            {"temperature_schedule": "linear_to_zero", "temperature_start": 0.5},
            r"`temperature_start` is 0.5, but .*linear_to_zero` starts with `temperature` or `edit_rate`",
        ),
        ({"sample_rows": -1}, r"`sample_rows` must not be negative"),  # what `MleConfig` refuses
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(fields, message, config):
    with pytest.raises(ValueError, match=message):
        config(**fields)


def test_weights_need_the_candidates_of_importance_sampling(config, tiny_tokenizer):
    with pytest.raises(ValueError, match=r"`weighted` .* `payoff: importance`, got `payoff: edit`"):
        make_payoff(config(payoff="edit", weighted=True), tiny_tokenizer)
    make_payoff(config(payoff="importance", temperature=0.1, weighted=True), tiny_tokenizer)


def test_what_differs_from_the_defaults_is_told(config):
    args = config(payoff="edit", edit_cost="unit", num_samples=2, temperature=0.5)
    assert args.changed(SERIES_FIELDS) == {"edit_cost": "unit", "num_samples": 2}
    assert config().changed(SERIES_FIELDS) == {}


def test_a_shared_name_space_holds_the_arguments_of_every_trainer(tmp_path):
    groups = (DataArguments, TokenizerArguments, GeneratorArguments, EvaluationArguments)
    options = [f"--output_dir={tmp_path}", "--use_cpu", "--max_new_tokens=9", "--policy_max_new_tokens=7"]
    *_, evaluation, args = RecipeParser(*groups, ExpectedRewardConfig).read(options)
    assert (evaluation.max_new_tokens, args.policy_max_new_tokens) == (9, 7)
