"""Numbers that make no sense are refused when the settings are read, before any data."""

import math

import pytest

from hf_localgan.commands.evaluate import OutputArguments
from hf_localgan.recipes.settings.data import DataArguments
from hf_localgan.recipes.settings.generator import GeneratorArguments
from hf_localgan.recipes.settings.speech import RecogniserArguments, SpeechArguments
from hf_localgan.recipes.settings.tokenizer import TokenizerArguments


@pytest.mark.parametrize(
    ("settings", "name", "values"),
    [
        (GeneratorArguments, "hidden_size", (0, -1)),
        (GeneratorArguments, "dropout", (1.0, math.nan, -0.1)),
        (GeneratorArguments, "initializer_range", (math.inf, -1.0)),
        (GeneratorArguments, "noise_size", (-1,)),
        (TokenizerArguments, "vocab_size", (0,)),
        (TokenizerArguments, "min_frequency", (-1,)),
        (DataArguments, "max_source_length", (1,)),
        (DataArguments, "max_query", (0,)),
        (DataArguments, "num_proc", (0, 1.5)),
        (SpeechArguments, "num_proc", (0,)),
        (DataArguments, "min_response", (-1,)),
        (SpeechArguments, "max_seconds", (math.nan, -1.0)),
        (RecogniserArguments, "encoder_layers", (0,)),
        (RecogniserArguments, "ctc_weight", (math.nan, -1.0)),
        (RecogniserArguments, "time_masks", (-1,)),
        (OutputArguments, "seed", (-1, 2**32)),
    ],
)
def test_numbers_that_make_no_sense(settings, name, values):
    for value in values:
        with pytest.raises(ValueError, match=f"`{name}` must be a (whole )?number of at least .*, got {value}"):
            settings(**{name: value})
