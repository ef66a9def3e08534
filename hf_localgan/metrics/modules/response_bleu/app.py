"""The page of the metric as a Space of the Hub: `python app.py`."""

from pathlib import Path

from hf_localgan.metrics.module_app import module_app

EXAMPLE = {
    "predictions": ["I don't know.", "Yes, tea.", "I am fine."],
    "references": [["I know.", "No."], ["Tea, please."], ["I am fine, thanks.", "I am well.", "Fine."]],
    "lowercase": True,
    "max_order": 2,
}

page = module_app(Path(__file__).with_name("response_bleu.py"), EXAMPLE)

if __name__ == "__main__":
    page.launch()
