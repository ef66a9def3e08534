"""The page of the metric as a Space of the Hub: `python app.py`."""

from pathlib import Path

from hf_localgan.metrics.module_app import module_app

EXAMPLE = {
    "predictions": [[[0.5, 0.0]], [[0.0, 0.0]]],
    "references": [[[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]], [[0.0, 0.0]]],
}

page = module_app(Path(__file__).with_name("local_coverage.py"), EXAMPLE)

if __name__ == "__main__":
    page.launch()
