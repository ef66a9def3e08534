"""A page for an `evaluate` module, for a Space of the Hub: inputs and settings as JSON, the scores below.

`evaluate.utils.launch_gradio_widget` needs a gradio before version 4.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import evaluate
import numpy as np

README = "README.md"


class GivenVectors(dict):
    """Word vectors that were typed in: a vector, a list of numbers, for each word.

    Raises:
        ValueError: for something else, and for vectors of different lengths.
    """

    name = "given"

    def __init__(self, vectors: Any):
        rows = vectors.values() if isinstance(vectors, Mapping) else ()
        if not rows or not all(isinstance(row, list) for row in rows) or len({*map(len, rows)}) != 1:
            raise ValueError('`vectors` must be an object of lists of equal length, such as {"yes": [0.1, 0.2]}.')
        super().__init__({word: np.array(row, dtype=np.float64) for word, row in vectors.items()})
        self.dim = len(next(iter(rows)))


def module_app(file: str | os.PathLike, example: Mapping[str, Any]) -> Any:
    """The page of a module, as `gradio.Blocks`, not yet served.

    Args:
        file: the module's Python file; the `README.md` beside it is shown.
        example: arguments of `compute` that the page begins with; those that are no inputs of the module are settings.

    Raises:
        ImportError: without gradio.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError as error:
        raise ImportError('The page of a metric needs gradio: `pip install "hf-localgan[demo]"`.') from error
    file = Path(file)
    module = evaluate.load(str(file))
    names = [*module.features]
    settings = {name: value for name, value in example.items() if name not in names}

    def compute(*texts: str) -> dict[str, Any]:
        try:
            inputs = [_parsed(name, text) for name, text in zip((*names, "settings"), texts, strict=True)]
            chosen = inputs.pop()
            if not isinstance(chosen, dict):
                raise ValueError(f'`settings` must be an object, such as {{"n": 2}}, got {chosen!r}.')
            if "vectors" in chosen:
                chosen = {**chosen, "vectors": GivenVectors(chosen["vectors"])}
            return module.compute(**dict(zip(names, inputs, strict=True)), **chosen)
        except (TypeError, ValueError) as error:
            raise gradio.Error(str(error)) from error

    introduction, mark, rest = _without_metadata(file.with_name(README)).partition("\n## ")
    with gradio.Blocks(title=file.stem, analytics_enabled=False) as page:
        gradio.Markdown(introduction)
        boxes = [gradio.Textbox(_shown(example[name]), label=f"{name}, as JSON", lines=3) for name in names]
        boxes.append(gradio.Textbox(_shown(settings), label="settings, as JSON", lines=2))
        button, scores = gradio.Button("Compute", variant="primary"), gradio.JSON(label="scores")
        button.click(compute, boxes, scores, api_name="compute")
        gradio.Markdown(mark + rest)
    return page


def _parsed(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"`{name}` must be JSON: {error}.") from error


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _without_metadata(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return text.split("\n---\n", 1)[1] if text.startswith("---\n") else text


__all__ = ["GivenVectors", "module_app"]
