"""The page of the metric as a Space of the Hub: `python app.py`."""

from pathlib import Path

from hf_localgan.metrics.module_app import module_app

EXAMPLE = {
    "predictions": ["tea please", "no"],
    "references": [["coffee please", "tea"], ["yes"]],
    "vectors": {"tea": [1.0, 0.2], "coffee": [0.9, 0.4], "please": [0.1, 1.0], "yes": [-0.6, 0.8], "no": [-0.8, 0.6]},
}

page = module_app(Path(__file__).with_name("embedding_relevance.py"), EXAMPLE)

if __name__ == "__main__":
    page.launch()
