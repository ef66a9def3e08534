"""The page of the metric as a Space of the Hub: `python app.py`."""

from pathlib import Path

from hf_localgan.metrics.module_app import module_app

EXAMPLE = {
    "predictions": ["AH B", "K"],
    "references": ["AH P", "K T"],
}

page = module_app(Path(__file__).with_name("error_rate.py"), EXAMPLE)

if __name__ == "__main__":
    page.launch()
