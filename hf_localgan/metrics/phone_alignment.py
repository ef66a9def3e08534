"""Alignments of phones, and counts of the phones heard for each phone."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hf_localgan.metrics.checks import require_equal_lengths, require_token_lists, require_tokens
from hf_localgan.phones import fold_phones

Step = tuple[str | None, str | None]  # of the reference and of the generation; `None` where one has no counterpart


def align_phones(reference: Sequence[str], generation: Sequence[str], optional: Collection[str] = ()) -> list[Step]:
    """The cheapest alignment: each substitution, deletion and insertion costs 1, leaving out an optional phone nothing.

    Args:
        reference: phones.
        generation: phones.
        optional: phones of the reference that may be left out.

    Returns:
        Pairs of reference and generation in order. Among equally cheap ones that with the fewest insertions, and of
        those the one whose matches stand latest.

    Raises:
        TypeError: for a text where phones are expected.
    """
    for name, phones in (("reference", reference), ("generation", generation)):
        require_tokens(name, phones)
    rows, columns = len(reference) + 1, len(generation) + 1
    skip = [0 if phone in optional else 1 for phone in reference]
    costs = [[0] * columns for _ in range(rows)]
    for i in range(1, rows):
        costs[i][0] = costs[i - 1][0] + skip[i - 1]
    costs[0] = list(range(columns))
    for i in range(1, rows):
        above, current = costs[i - 1], costs[i]
        for j in range(1, columns):
            replaced = above[j - 1] + (reference[i - 1] != generation[j - 1])
            current[j] = min(replaced, above[j] + skip[i - 1], current[j - 1] + 1)
    steps: list[Step] = []
    i, j = rows - 1, columns - 1
    while i or j:
        if i and j and costs[i][j] == costs[i - 1][j - 1] + (reference[i - 1] != generation[j - 1]):
            i, j = i - 1, j - 1
            steps.append((reference[i], generation[j]))
        elif i and costs[i][j] == costs[i - 1][j] + skip[i - 1]:
            i -= 1
            steps.append((reference[i], None))
        else:
            j -= 1
            steps.append((None, generation[j]))
    return steps[::-1]


def count_edits(steps: Sequence[Step], optional: Collection[str] = ()) -> tuple[int, int, int]:
    """Substitutions, deletions and insertions of an alignment; leaving out an optional phone is none."""
    substitutions = sum(None not in step and step[0] != step[1] for step in steps)
    deletions = sum(step[1] is None and step[0] not in optional for step in steps)
    return substitutions, deletions, sum(step[0] is None for step in steps)


@dataclass(frozen=True)
class PhoneConfusions:
    """How often each phone was heard as each, `None` for nothing.

    Attributes:
        counts: by pair of reference and generation, matches included.
    """

    counts: Counter

    def errors(self, number: int | None = None) -> list[tuple[str | None, str | None, int]]:
        """The most frequent errors, all without `number`: reference, generation, how often."""
        wrong = [(*step, count) for step, count in self.counts.items() if step[0] != step[1]]
        return sorted(wrong, key=lambda error: (-error[2], str(error[0]), str(error[1])))[:number]

    def recall(self, phone: str) -> float:
        """Share of a phone's occurrences in references that were heard as it; 0 for one that does not occur."""
        occurrences = sum(count for (reference, _), count in self.counts.items() if reference == phone)
        return self.counts[phone, phone] / occurrences if occurrences else 0.0


def phone_confusions(
    generations: Sequence[Sequence[str]], references: Sequence[Sequence[str]], *, fold: str = "none"
) -> PhoneConfusions:
    """Counts of the aligned pairs of all utterances.

    Args:
        generations, references: one sequence of phones per utterance.
        fold: as in `phone_error_rate`.

    Raises:
        ValueError: for unequal numbers of utterances.
        TypeError: for a text where phones are expected.
    """
    require_token_lists("generations", generations)
    require_token_lists("references", references)
    require_equal_lengths(generations=generations, references=references)
    counts: Counter = Counter()
    for generation, reference in zip(generations, references, strict=True):
        counts.update(align_phones(fold_phones(reference, fold), fold_phones(generation, fold)))
    return PhoneConfusions(counts)
