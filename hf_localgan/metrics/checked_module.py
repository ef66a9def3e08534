"""What the `evaluate` modules share: a look at their inputs, which `evaluate` itself takes apart without a word."""

from typing import Any

import evaluate

from hf_localgan.metrics.checks import require_texts


class CheckedMetric(evaluate.Metric):
    """A metric whose inputs are lists of whole texts, or of lists of these, and none of them missing.

    Raises (in `compute` and `add_batch`):
        TypeError: for a bare string, whose letters would be scored one by one, an iterator, and `None` for a text.
        ValueError: for missing inputs, and for text with surrogates, which cannot be stored.
    """

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any):
        """Adds queries to what `compute` scores; `compute` itself comes by here."""
        given = {"predictions": predictions, "references": references, **kwargs}
        for name in self._feature_names():
            if given[name] is None:
                raise ValueError(f"`{name}` are missing. Give {' and '.join(f'`{n}`' for n in self._feature_names())}.")
            require_texts(name, given[name])
            for index, value in enumerate(given[name]):
                for text in value if isinstance(value, (list, tuple)) else [value]:
                    _check_text(f"{name}[{index}]", text)
        return super().add_batch(predictions=predictions, references=references, **kwargs)


def _check_text(name: str, text: Any):
    if text is None:
        raise TypeError(f"`{name}` holds None. Leave such queries out, or write an empty text.")
    if isinstance(text, str) and not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"`{name}` holds a surrogate, which is no character: {text!r:.60}, at {error.start}. "
                "`hf_localgan.text.without_surrogates` makes characters of it."
            ) from None


__all__ = ["CheckedMetric"]
