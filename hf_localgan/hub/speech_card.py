"""The model card of a recogniser."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_localgan.files import replacing
from hf_localgan.hub.rendering import weights_digest
from hf_localgan.markdown import markdown_table

TASK = "automatic-speech-recognition"
METRICS = {"per": "PER", "wer": "WER"}
REFERENCES = {
    "raml": "Norouzi et al., Reward Augmented Maximum Likelihood for Neural Structured Prediction, NeurIPS 2016",
    "las": "Chan et al., Listen, Attend and Spell, ICASSP 2016",
}


def write_speech_card(
    folder: str | Path,
    *,
    repo_id: str,
    settings: Mapping[str, Any] | None = None,
    steps: int | None = None,
    license: str | None = None,
    language: str | list[str] | None = None,
    datasets: str | list[str] | None = None,
    base_model: str | None = None,
    tags: Sequence[str] | None = None,
) -> Path:
    """Writes `README.md` of a recogniser, with its scores if the folder's `evaluation.json` is of the same weights.

    Args:
        folder: of the model.
        repo_id: `owner/name` on the Hub, or a name, for the title and the example code.
        settings: settings of the training that differ from the defaults.
        steps: number of optimizer steps of the training.
        license, language, datasets, base_model, tags: metadata for the Hub.

    Returns:
        The path of the card.
    """
    folder = Path(folder)
    evaluation = _evaluation(folder)
    about = {} if evaluation is None else evaluation["about"]
    data = ModelCardData(
        library_name="transformers", pipeline_tag=TASK, model_name=repo_id, license=license, language=language,
        datasets=datasets, base_model=base_model, tags=sorted({"hf-localgan", "speech", *(tags or [])}),
        eval_results=_results(evaluation, about) or None,
    )  # fmt: skip
    lines = [
        f"# {repo_id}", "",
        "A recogniser of speech, trained with [transformers](https://github.com/huggingface/transformers) and "
        "`hf_localgan`.", "",
        "## Use", "", "```bash", 'pip install "hf-localgan[speech]"', "```", "", "```python",
        "import hf_localgan  # registers the architecture, and sound of any format with the pipeline",
        "from transformers import pipeline", "",
        f'hear = pipeline("{TASK}", model="{repo_id}")',
        'print(hear("speech.flac"))', "```", "",
        f"On the command line: `hf-localgan transcribe speech.flac --model {repo_id}`.", "",
    ]  # fmt: skip
    if evaluation is not None:
        lines += _scores(evaluation)
        if (folder / "attention.png").is_file():
            lines += ["## Attention", "", "![The decoder's attention for each phone](attention.png)", ""]
    if (folder / "training.png").is_file():
        lines += ["## Training", "", "![Loss, error rate and attention in training](training.png)", ""]
    if steps is not None:
        lines += [f"{steps:,} updates.", ""]
    if settings:
        lines += ["Settings that differ from the defaults:", ""]
        lines += [*markdown_table(("setting", "value"), list(settings.items())), ""]
    sources = [REFERENCES["las"], *([REFERENCES["raml"]] if about.get("objective") == "raml" else [])]
    lines += ["## References", "", *(f"* {source}." for source in sources)]
    path = folder / "README.md"
    with replacing(path) as temporary:
        text = f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(lines) + "\n"
        temporary.write_text(str(ModelCard(text)).rstrip() + "\n", encoding="utf-8")
    return path


def _evaluation(folder: Path) -> dict[str, Any] | None:
    path = folder / "evaluation.json"
    if not path.is_file():
        return None
    evaluation = json.loads(path.read_text(encoding="utf-8"))
    digest = evaluation.get("about", {}).get("weights")
    return evaluation if digest is None or digest == weights_digest(folder) else None


def _results(evaluation: Mapping[str, Any] | None, about: Mapping[str, Any]) -> list[EvalResult]:
    if evaluation is None:
        return []
    return [
        EvalResult(
            task_type=TASK, dataset_type=str(about.get("dataset", "unknown")),
            dataset_name=str(about.get("dataset", "unknown")), dataset_split=about.get("split"), metric_type=name,
            metric_value=round(decoding["scores"][name]["value"], 2), metric_name=f"{METRICS[name]} ({title})",
        )
        for title, decoding in evaluation["decodings"].items()
        for name in METRICS
        if name in decoding["scores"]
    ]  # fmt: skip


def _scores(evaluation: Mapping[str, Any]) -> list[str]:
    split, decodings = evaluation["about"].get("split", "test"), evaluation["decodings"]
    lines = ["## Scores", "", f"On the {split} split, in per cent, with 95 % intervals.", ""]
    names = [name for name in METRICS if all(name in decoding["scores"] for decoding in decodings.values())]
    rows = []
    for title, decoding in decodings.items():
        cells = [title]
        for name in names:
            score = decoding["scores"][name]
            span = "" if score["low"] is None else f" ({score['low']:.2f} to {score['high']:.2f})"
            cells.append(f"{score['value']:.2f}{span}")
        parts = ("substitutions", "deletions", "insertions")
        rows.append([*cells, *(f"{decoding['scores'][part]['value']:.2f}" for part in parts)])
    columns = ("decoding", *(METRICS[name] for name in names), "substituted", "deleted", "inserted")
    lines += markdown_table(columns, rows, "<>")
    signatures = {decoding["scores"][name]["signature"] for decoding in decodings.values() for name in names}
    return [*lines, "", *(f"Signature: `{signature}`." for signature in sorted(signatures)), ""]
