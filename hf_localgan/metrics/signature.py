"""The settings behind a number in one line, in the form that sacrebleu uses."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Signature:
    """A metric's name and every setting that changes its value, in the order given.

    `str(Signature("distinct", {"n": 2, "tok": "words", "case": "lower", "N": 1000}))` is
    `distinct|n:2|tok:words|case:lower|N:1000|v:0.1.0`, the package's version last. Numbers from two signatures that
    differ are not comparable. Usual keys: `n` (n-gram order), `tok`, `case`, `N` (queries scored), `refs` (references
    per query, a range where it varies), `pool` (over references), `vectors`, `radius`, `log`.
    """

    metric: str
    settings: dict[str, Any]

    def __str__(self) -> str:
        from hf_localgan.version import __version__

        settings = {**self.settings, "v": __version__}
        return "|".join([self.metric, *(f"{key}:{self._text(value)}" for key, value in settings.items())])

    @staticmethod
    def _text(value: Any) -> str:
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        return text.replace("|", "/")  # the separator


def references_setting(references: list) -> int | str:
    """References per query for a signature: their number, or `"2-5"` where queries have from 2 to 5."""
    numbers = [len(texts) for texts in references]
    low, high = min(numbers, default=0), max(numbers, default=0)
    return low if low == high else f"{low}-{high}"
