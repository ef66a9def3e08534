"""The cards in `model_cards/`: short, folded, and with half widths that follow from the metadata."""

import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from hf_localgan.hub.scores import plus_minus

CARDS = sorted((Path(__file__).parents[2] / "model_cards").glob("*/README.md"))


def test_there_are_cards():
    assert len(CARDS) >= 16


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.parent.name)
def test_the_first_table_is_that_of_the_metadata(path):
    card = ModelCard.load(path)
    unfolded = re.sub(r"(?s)<details>.*?</details>", "", card.text)
    assert len(unfolded.split()) < 450 and unfolded.count("## ") == 4 and "![" not in unfolded
    rows = [line.strip("| ").split(" | ") for line in unfolded.splitlines() if line.startswith("| ")]
    (_, *decodings), _, *rows = rows
    expected: dict[str, dict[str, str]] = {}
    for result in card.data.eval_results:
        name, decoding = result.metric_name, "value"
        if decodings != ["value"]:
            name, _, decoding = result.metric_name.partition(", ")
        interval = (result.metric_args or {}).get("interval", {})
        value = plus_minus(result.metric_value, interval.get("low"), interval.get("high"))
        expected.setdefault(name, {})[decoding] = value
    expected.pop("perplexity per token", None)  # stands in the line above
    assert {name: dict(zip(decodings, values, strict=True)) for name, *values in rows} == expected
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", card.text):
        assert (path.parent / picture).is_file()
