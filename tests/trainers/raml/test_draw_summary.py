"""What a payoff does to the references, told before the training."""

import io

import pytest
from rich.console import Console
from transformers import DataCollatorForSeq2Seq

from hf_localgan.payoff.edit import EditPayoff
from hf_localgan.payoff.hamming import HammingPayoff
from hf_localgan.trainers import summarize_draws
from hf_localgan.trainers.raml.collator import RamlCollator

TEXTS = ["hello how are you ?", "i am fine thanks .", "my name is what", "you are fine !"]


@pytest.fixture
def rows(tiny_tokenizer):
    """400 rows: four texts, each a query and its own reference, of 5, 5, 4 and 4 tokens and the end."""
    return [{"input_ids": ids, "labels": list(ids)} for ids in tiny_tokenizer(TEXTS).input_ids] * 100


@pytest.fixture
def collator(tiny_tokenizer):
    """`collator(payoff)`: one that draws from the payoff."""
    return lambda payoff: RamlCollator(DataCollatorForSeq2Seq(tiny_tokenizer), payoff, seed=3)


def test_references_stay_as_they_are_at_temperature_0(rows, collator, tiny_tokenizer):
    found = summarize_draws(collator(HammingPayoff(range(4, 20), 0.0)), rows, tiny_tokenizer)
    assert (found.intact, found.edit_rate, found.mean_length) == (1.0, 0.0, 4.5)
    assert found.references == 400 and found.vocab_size == 16 and found.payoff == "HammingPayoff"
    # evenly spaced: rows 0, 133 and 266, which are texts 0, 1 and 2
    assert found.examples == [(text, text, [text] * 3) for text in TEXTS[:3]]


def test_the_edit_rate_is_that_of_the_payoff(rows, collator, tiny_tokenizer):
    # rows that are equal get equal draws, so that they are made different: 2,000 queries, references of four tokens
    words = [[4 + i % 16, 4 + i // 16 % 16, 4 + i // 256] for i in range(2000)]
    rows = [{"input_ids": [*ids, 2], "labels": [5, 6, 7, 8, 2]} for ids in words]
    payoff = HammingPayoff.for_edit_rate(tokens=range(4, 20), edit_rate=0.25)
    found = summarize_draws(collator(payoff), rows, tiny_tokenizer, references=2000)
    # 8,000 tokens replaced with probability 1/4: standard error sqrt(3/16 / 8000) = 0.0048
    assert found.edit_rate == pytest.approx(0.25, abs=0.02)
    assert found.intact == pytest.approx(0.75**4, abs=0.04)  # standard error sqrt(.316 * .684 / 2000) = 0.0104
    assert summarize_draws(collator(payoff), rows, tiny_tokenizer).references == 1000


def test_examples_are_the_draws_of_the_first_epoch(rows, collator, tiny_tokenizer):
    payoff = EditPayoff(range(4, 20), 1.0)
    found = summarize_draws(collator(payoff), rows, tiny_tokenizer, examples=4, draws=1)
    # evenly spaced: rows 0, 100, 200, 300
    batch = collator(payoff)([rows[index] for index in (0, 100, 200, 300)])
    drawn = tiny_tokenizer.batch_decode(batch["labels"].clamp(min=0), skip_special_tokens=True)
    assert [draws for _, _, draws in found.examples] == [[text] for text in drawn] != [[text] for text in TEXTS]


def test_a_stream_is_read_from_its_start_and_few_rows_will_do(rows, collator, tiny_tokenizer):
    found = summarize_draws(collator(HammingPayoff(range(4, 20), 0.9)), iter(rows[:2]), tiny_tokenizer)
    assert found.references == 2 and len(found.examples) == 2


def test_the_summary_reads_as_one_line_and_a_table(rows, collator, tiny_tokenizer):
    found = summarize_draws(collator(HammingPayoff(range(4, 20), 0.0)), rows, tiny_tokenizer)
    assert str(found) == (
        "HammingPayoff, temperature 0, 16 tokens to draw from: of 400 references (4.5 tokens on average) 100.0% stay "
        "as they are; 0.0000 edits per token."
    )
    assert found.about() == {"temperature": 0.0, "edit_rate": 0.0, "intact": 1.0}
    console = Console(width=100, file=io.StringIO())
    console.print(found.table())
    assert console.file.getvalue().count("hello how are you ?") == 1 + 1 + 3  # query, reference, draws
