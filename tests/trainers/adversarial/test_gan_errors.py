"""Two players in one trainer: parts, generators and settings that are refused, and what the messages say."""

import math
from functools import partial

import pytest
import torch
from datasets import Dataset

from hf_localgan.data.vocabulary import vocabulary_fingerprint
from hf_localgan.trainers import LocalGanConfig, LocalGanTrainer, MleConfig, SoftRolloutTrainer, TwoPlayerTrainer


def test_parts_that_are_no_parts(family, pairs, players, tmp_path, token_energy):
    with pytest.raises(ValueError, match="`discriminator` must be a `PairDiscriminator`, got DbmModel"):
        players(family("t5"), pairs(4), discriminator=token_energy())
    with pytest.raises(ValueError, match="`discriminator` must be a `PairDiscriminator`, got NoneType"):
        players(family("t5"), pairs(4), discriminator=None)
    with pytest.raises(ValueError, match="`args` must be a `SoftRolloutConfig`, got MleConfig. It holds"):
        SoftRolloutTrainer(family("t5"), MleConfig(str(tmp_path), use_cpu=True))
    run = players(family("t5"), pairs(4))
    optimizer = torch.optim.SGD(run.model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="makes an optimizer for each player. Leave out `optimizers`"):
        LocalGanTrainer(
            family("t5"), run.args, discriminator=run.discriminator, energy=run.energy, optimizers=(optimizer, None)
        )
    rows = [{name: value for name, value in row.items() if name != "labels"} for row in pairs(4)]
    with pytest.raises(ValueError, match="no `labels`.*`encode_pairs`"):
        players(family("t5"), Dataset.from_list(rows), radial_scale="abs_center", energy=run.energy).training_step(
            run.model, {"input_ids": torch.ones(2, 3, dtype=torch.long)}
        )


def test_a_discriminator_of_other_tokens(family, pairs, players, tiny_discriminator, tiny_tokenizer):
    with pytest.raises(
        ValueError, match=r"discriminator knows 21 tokens, the generator's tokenizer has 20\. Train the"
    ):
        players(family("t5"), pairs(4), discriminator=tiny_discriminator(vocab_size=21))
    with pytest.raises(ValueError, match="The discriminator was made with another tokenizer.*fingerprints 00ff and"):
        players(family("t5"), pairs(4), discriminator=tiny_discriminator(vocabulary="00ff"))
    own = tiny_discriminator(vocabulary=vocabulary_fingerprint(tiny_tokenizer))
    players(family("t5"), pairs(4), discriminator=own)


def test_generators_that_cannot_be_rolled_out(family, pairs, players):
    class Deaf(type(family("t5"))):
        def forward(self, input_ids=None, attention_mask=None, labels=None):
            pass

    with pytest.raises(ValueError, match="Deaf takes no `decoder_inputs_embeds`"):
        players(Deaf(family("t5").config), pairs(4))
    model = family("t5")
    model.gradient_checkpointing_enable()
    with pytest.raises(ValueError, match=r"see the last token only\. Turn it off"):
        players(model.train(), pairs(4))
    with pytest.raises(ValueError, match=r"see the last token only\. Turn it off"):
        players(model.eval(), pairs(4)).train()


@pytest.mark.parametrize("engine", ["is_fsdp_enabled", "is_deepspeed_enabled"])
def test_sharded_parameters(engine, family, pairs, players, monkeypatch):
    before = TwoPlayerTrainer.create_accelerator_and_postprocess

    def sharded(self):
        before(self)
        setattr(self, engine, True)

    monkeypatch.setattr(TwoPlayerTrainer, "create_accelerator_and_postprocess", sharded)
    with pytest.raises(
        ValueError, match="`LocalGanTrainer` needs the whole.*FSDP and DeepSpeed.*plain data parallelism"
    ):
        players(family("t5"), pairs(4))


def test_the_best_model_cannot_be_chosen_by_what_nobody_measures(family, pairs, players):
    with pytest.raises(ValueError, match="needs a `monitor` with word vectors.*Or set `metric_for_best_model`"):
        players(
            family("t5"), pairs(4), pairs(4), load_best_model_at_end=True, eval_strategy="steps", save_strategy="steps"
        )


def test_a_decoder_without_parameters_of_its_own(family, pairs, players):
    with pytest.raises(ValueError, match="leaves nothing to learn: the decoder of .*Set it to `all`"):
        players(family("rnn_seq2seq").requires_grad_(False), pairs(4), generator_parts="decoder")


def config(tmp_path, **fields):
    return LocalGanConfig(str(tmp_path), use_cpu=True, **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"relaxation": "hard"}, '`relaxation` must be one of softmax, gumbel, straight_through, got "hard"'),
        ({"soft_length": "max"}, '`soft_length` must be one of end, reference, survival, got "max"'),
        ({"generator_parts": "head"}, '`generator_parts` must be one of all, decoder, got "head"'),
        ({"discriminator_parts": "body"}, '`discriminator_parts` must be one of all, head, got "body"'),
        ({"generator_steps": 0}, "`generator_steps` must be at least 1, got 0"),
        ({"discriminator_warmup_steps": -1}, "`discriminator_warmup_steps` must be finite and not negative, got -1"),
        ({"noise_scale": math.nan}, "`noise_scale` must be finite and not negative, got nan"),
        ({"adversarial_weight": math.inf}, "`adversarial_weight` must be finite and not negative, got inf"),
        ({"relaxation_temperature": 0.0}, "`relaxation_temperature` must be above 0, got 0.0"),
        ({"relaxation_top_k": 0}, "`relaxation_top_k` must be at least 1, or None for all, got 0"),
        ({"collapse_share": 0.0}, "`collapse_share` is a share above 0 and up to 1, got 0.0"),
        ({"collapse_length": 1.0}, "`collapse_length` must be above 1, got 1.0"),
        ({"per_device_train_batch_size": 1}, "must be at least 2, got 1. Or set `mismatched_weight` to 0"),
        ({"train_sampling_strategy": "group_by_length"}, "only responses of equal length"),
        ({"gradient_checkpointing": True}, "`gradient_checkpointing` a model returns no cache.*Leave it out"),
    ],
)
def test_settings_that_make_no_sense(fields, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **fields)


def test_several_gpus_in_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr(LocalGanConfig, "n_gpu", property(lambda self: 2))
    with pytest.raises(ValueError, match="One process for 2 GPUs.*`torchrun`"):
        config(tmp_path)


def test_the_best_model_is_the_one_of_the_largest_quality_unless_told_otherwise(tmp_path):
    saving = {"load_best_model_at_end": True, "eval_strategy": "steps", "save_strategy": "steps"}
    chosen = partial(config, tmp_path, **saving)
    assert (chosen().metric_for_best_model, chosen().greater_is_better) == ("eval_quality", True)
    assert chosen(metric_for_best_model="quality").greater_is_better
    assert not chosen(metric_for_best_model="eval_perplexity").greater_is_better
