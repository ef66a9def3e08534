"""Length limits, and the report of what loading pairs found and left out."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from hf_localgan.text import characters, spaced_words

# Verdicts on a pair. While pairs are read, a column holds the verdict's position here.
VERDICTS = (
    "kept",
    "bad query",
    "bad response",
    "bad conversation",
    "query too short",
    "query too long",
    "response too short",
    "response too long",
)
BAD, BEYOND_LIMITS = VERDICTS[1:4], VERDICTS[4:]


@dataclass(frozen=True)
class LengthLimits:
    """Bounds on the lengths of a query and a response. `None` is no limit; both ends are inclusive.

    Args:
        min_query, max_query, min_response, max_response: shortest and longest, in `unit`s.
        unit: `"words"` are what white space separates, `"characters"` are user-perceived characters other than white
            space (Chinese): the metrics' tokenizations `"whitespace"` and `"characters"`.
    """

    min_query: int | None = None
    max_query: int | None = None
    min_response: int | None = None
    max_response: int | None = None
    unit: Literal["words", "characters"] = "words"

    def __post_init__(self):
        if self.unit not in ("words", "characters"):
            raise ValueError(f'`unit` must be "words" or "characters", got {self.unit!r}.')
        for side, low, high in (
            ("query", self.min_query, self.max_query),
            ("response", self.min_response, self.max_response),
        ):
            for name, value in ((f"min_{side}", low), (f"max_{side}", high)):
                if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                    raise ValueError(f"`{name}` must be a whole number of {self.unit} or None, got {value!r}.")
            if low is not None and high is not None and low > high:
                raise ValueError(f"`min_{side}` ({low}) is larger than `max_{side}` ({high}): no pair would be left.")

    @classmethod
    def paper(cls, unit: Literal["words", "characters"] = "words") -> "LengthLimits":
        """The LocalGAN paper's limits: 4 to 30 tokens on either side."""
        return cls(4, 30, 4, 30, unit=unit)

    def lengths(self, texts: pa.Array) -> pa.Array:
        """Length of each text in `unit`s, null for null. Arrow arrays, shape `(n,)`."""
        count = spaced_words if self.unit == "words" else characters
        return pa.array([None if text is None else len(count(text)) for text in texts.to_pylist()], pa.int64())

    def __str__(self):
        def span(low, high):
            return "any" if low is None and high is None else f"{low or 0} to {'any' if high is None else high}"

        query, response = span(self.min_query, self.max_query), span(self.min_response, self.max_response)
        return f"query {query}, response {response} {self.unit}"


@dataclass
class SplitReport:
    """Counts of one split. `removed` counts pairs by the first limit each one broke, in the order of its keys."""

    rows: int
    pairs: int
    removed: dict[str, int] = field(default_factory=dict)
    bad_rows: int = 0
    shared_dropped: int = 0


@dataclass
class SharedQueries:
    """Queries that two splits have in common, case, spacing, punctuation and the coding of letters aside.

    `rows` are the first ten rows of split `second` that hold one, counted from 0.
    """

    first: str
    second: str
    queries: int
    rows: list[int]


@dataclass
class PairsReport:
    """What `load_pairs` read, kept and left out. `print` it, or give it to rich, for a table."""

    splits: dict[str, SplitReport]
    shared: list[SharedQueries] = field(default_factory=list)
    limits: LengthLimits | None = None
    streaming: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and names, for a JSON file."""
        return asdict(self)

    def table(self) -> Table:
        """One row per split."""
        table = Table(title="Pairs" if self.limits is None else f"Pairs (limits: {self.limits})")
        table.add_column("split")
        reasons = [v for v in BEYOND_LIMITS if any(split.removed.get(v) for split in self.splits.values())]
        counts = {
            "rows": [s.rows for s in self.splits.values()],
            "bad rows dropped": [s.bad_rows for s in self.splits.values()],
            **{reason: [s.removed.get(reason, 0) for s in self.splits.values()] for reason in reasons},
            "shared queries dropped": [s.shared_dropped for s in self.splits.values()],
            "pairs kept": [s.pairs for s in self.splits.values()],
        }
        shown = {name: column for name, column in counts.items() if name in ("rows", "pairs kept") or any(column)}
        for name in shown:
            table.add_column(name, justify="right")
        for index, split in enumerate(self.splits):
            table.add_row(split, *(f"{column[index]:,}" for column in shown.values()))
        return table

    def __rich__(self):
        return self.table() if not self.streaming else "Streamed pairs: nothing is counted in advance."

    def __str__(self):
        console = Console(width=140, no_color=True, force_terminal=False)
        with console.capture() as capture:
            console.print(self.__rich__())
            for shared in self.shared:
                console.print(f"{shared.queries:,} queries of `{shared.second}` also stand in `{shared.first}`.")
        return capture.get().rstrip()
