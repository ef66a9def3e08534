"""The test mixins that transformers runs on its own models, on the recurrent generator.

They are in the `tests` package of transformers' repository, which its wheel lacks. To run them, check out the tag of
the installed version and name the checkout: `TRANSFORMERS_TESTS=path/to/transformers pytest -m slow tests/models`.
"""

import importlib.util
import os
import sys
import unittest.mock
from pathlib import Path

import pytest
import torch

from hf_localgan.models import RnnSeq2SeqConfig, RnnSeq2SeqForConditionalGeneration, RnnSeq2SeqModel
from hf_localgan.models.rnn_seq2seq import RecurrentCache

pytestmark = pytest.mark.slow
VARIABLE = "TRANSFORMERS_TESTS"


def load_mixins():
    """The mixins' modules, under a package name of their own, since this folder is called `tests` too."""
    root = os.environ.get(VARIABLE)
    if not root:
        pytest.skip(f"{VARIABLE} does not name a checkout of transformers, whose tests/ is needed", True)
    folder = Path(root) / "tests"
    if not (folder / "test_modeling_common.py").is_file():
        pytest.skip(f"{VARIABLE}={root} has no tests/test_modeling_common.py", True)
    spec = importlib.util.spec_from_loader("transformers_tests", loader=None, is_package=True)
    package = importlib.util.module_from_spec(spec)
    package.__path__ = [str(folder)]
    sys.modules["transformers_tests"] = package
    names = ("test_configuration_common", "test_modeling_common", "generation.test_utils")
    return [importlib.import_module(f"transformers_tests.{name}") for name in names]


configuration_common, modeling_common, generation_utils = load_mixins()


class RnnSeq2SeqModelTester:
    """Sizes and inputs, as the mixins ask for them."""

    batch_size, seq_length, decoder_seq_length = 3, 7, 5
    encoder_seq_length = key_length = seq_length
    vocab_size, hidden_size, num_hidden_layers, num_attention_heads = 31, 16, 2, 1
    is_training = True

    def __init__(self, parent, **fields):
        self.parent, self.fields = parent, fields

    def get_config(self) -> RnnSeq2SeqConfig:
        sizes = {"embedding_size": self.hidden_size, "hidden_size": self.hidden_size, "vocab_size": self.vocab_size}
        return RnnSeq2SeqConfig(encoder_layers=2, decoder_layers=2, **sizes, **self.fields)

    def prepare_config_and_inputs_for_common(self):
        source = modeling_common.ids_tensor([self.batch_size, self.seq_length], self.vocab_size - 3) + 3
        target = modeling_common.ids_tensor([self.batch_size, self.decoder_seq_length], self.vocab_size - 3) + 3
        inputs = {"input_ids": source, "attention_mask": torch.ones_like(source)}
        inputs |= {"decoder_input_ids": target, "decoder_attention_mask": torch.ones_like(target)}
        return self.get_config(), inputs


class RnnSeq2SeqMixins(modeling_common.ModelTesterMixin, generation_utils.GenerationTesterMixin):
    all_model_classes = (RnnSeq2SeqModel, RnnSeq2SeqForConditionalGeneration)
    pipeline_model_mapping = {}
    is_encoder_decoder = True
    has_attentions = False  # the mixin means self-attention
    test_torch_exportable = False  # whether a batch is packed depends on its mask
    fields = {}

    def setUp(self):
        # The mixin tells models without a loss by the class names of transformers' own mapping.
        names = unittest.mock.patch.dict(modeling_common.MODEL_MAPPING_NAMES, {"rnn_seq2seq": "RnnSeq2SeqModel"})
        names.start()
        self.addCleanup(names.stop)
        self.model_tester = RnnSeq2SeqModelTester(self, **self.fields)
        self.config_tester = configuration_common.ConfigTester(
            self, config_class=RnnSeq2SeqConfig, common_properties=["hidden_size", "num_hidden_layers"], hidden_size=16
        )

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels=return_labels)
        if return_labels and model_class is RnnSeq2SeqForConditionalGeneration:
            inputs["labels"] = torch.full_like(inputs["decoder_input_ids"], 4)
        return inputs

    def _check_past_key_values_for_generate(self, batch_size, past_key_values, seq_length, config):
        self.assertIsInstance(past_key_values, RecurrentCache)
        state = past_key_values.get("state")
        self.assertEqual(state.shape, (batch_size, config.decoder_layers, config.state_tensors, config.hidden_size))

    def _check_caches_are_equal(self, cache1, cache2):
        self.assertEqual(cache1.get_seq_length(), cache2.get_seq_length())
        states1, states2 = cache1.layers[0].states, cache2.layers[0].states
        self.assertEqual(states1.keys(), states2.keys())
        for name in states1:
            torch.testing.assert_close(states1[name], states2[name])


class GruMixinsTest(RnnSeq2SeqMixins, unittest.TestCase):
    def test_config(self):
        self.config_tester.run_common_tests()


class LstmWithInputFeedingMixinsTest(RnnSeq2SeqMixins, unittest.TestCase):
    fields = {
        "cell_type": "lstm",
        "attention": "additive",
        "input_feeding": True,
        "tie_word_embeddings": True,
        "bidirectional": False,
    }


del RnnSeq2SeqMixins  # so that pytest does not collect it by itself
