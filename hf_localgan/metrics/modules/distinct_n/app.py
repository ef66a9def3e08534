"""The page of the metric as a Space of the Hub: `python app.py`."""

from pathlib import Path

from hf_localgan.metrics.module_app import module_app

EXAMPLE = {
    "predictions": ["I don't know.", "Yes, tea.", "I don't know."],
    "n": 2,
}

page = module_app(Path(__file__).with_name("distinct_n.py"), EXAMPLE)

if __name__ == "__main__":
    page.launch()
