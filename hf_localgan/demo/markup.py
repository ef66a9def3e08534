"""The contents of the page as HTML. Every text of a model, a data set or a user is escaped.

The histogram is drawn here, since a picture made for a wide page has unreadable letters on a phone.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import chain, cycle

import numpy as np

from hf_localgan.demo.answers import Answer, Comparison, ranked
from hf_localgan.demo.draws import NEW, REMOVED, Draw, DrawsShown, Piece
from hf_localgan.demo.loading import PageModels, Speaker
from hf_localgan.demo.references import ReferenceRadii
from hf_localgan.demo.style import COLORS

BINS = 60
SHOWN = 0.985  # share of the references inside the histogram; answers beyond stand at its end
LABEL_WIDTH = 4.0  # per cent of the width
MOST_EDITS = 12  # bars of the table of edits
LEAST_PROB = 5e-4  # bars after the last one of this probability are added up


def notes(page_models: PageModels) -> str:
    """The notes on missing parts; empty without any."""
    return "".join(f'<div class="lg-note">{escape(note)}</div>' for note in page_models.notes)


def answers(page_models: PageModels, comparison: Comparison) -> str:
    """The answers side by side, their places among the references, the query's own references."""
    given = ranked(comparison.answers)
    number = sum(answer.rank is not None for answers in given.values() for answer in answers)
    cards = [
        _card(speaker, color, letter, given[speaker.name], number, _read(comparison, speaker))
        for speaker, color, letter in zip(page_models.speakers, cycle(COLORS), _letters(), strict=False)
    ]
    parts = [f'<div class="lg-cards">{"".join(cards)}</div>']
    if page_models.references is not None:
        parts.append(_strip(page_models.references, comparison, page_models.speakers))
    return "".join(parts)


def draws(shown: DrawsShown) -> str:
    """The distribution and the draws."""
    rate = f"{shown.edit_rate:.3f}" + (f" ± {1.96 * shown.error:.3f}" if shown.error else "")
    facts = {
        "τ": f"{shown.temperature:.3f}",
        "edits per token, expected": rate,
        "stay as they are": f"{100 * shown.probs[0]:.1f} %",
        "tokens in the reference": str(shown.length),
        "tokens to draw from": f"{shown.vocab_size:,}",
    }
    if all(draw.reward is None for draw in shown.draws):
        facts["cost of an edit"] = f"{shown.edit_cost:.2f}"
    boxes = "".join(f'<div class="lg-fact"><b>{value}</b><span>{name}</span></div>' for name, value in facts.items())
    source = f"from {shown.estimated_from:,} draws" if shown.estimated_from else "exact"
    return (
        f'<div class="lg-facts">{boxes}</div>'
        f'<div class="lg-dim">as the model reads it: {escape(shown.reference)}</div>'
        f'<div class="lg-h">Draws <span class="lg-dim">(green: drawn; struck out: removed)</span></div>'
        f'<div id="lg-draws">{"".join(_draw(draw, shown.approximate) for draw in shown.draws)}</div>'
        f'<div class="lg-h">Probability of each number of edits <span class="lg-dim">({source})</span></div>'
        f'<div class="lg-bars">{"".join(_bars(shown.probs))}</div>'
    )


def _letters() -> Iterable[str]:
    return chain("ABCDEFGHIJKLMNOPQRSTUVWXYZ", map(str, range(27, 10**6)))


def _label(letter: str, place: int, number: int) -> str:
    return letter if number == 1 else f"{letter}{place + 1}"


def _read(comparison: Comparison, speaker: Speaker) -> str:
    """What a model read, as a line of its card; empty where it was the query alone."""
    read = comparison.read.get(speaker.name, comparison.query)
    return "" if read == comparison.query else f'<div class="lg-dim">reads: {escape(read)}</div>'


def _card(speaker: Speaker, color: str, letter: str, given: Sequence[Answer], ranks: int, read: str) -> str:
    rows = "".join(_answer(answer, _label(letter, place, len(given)), ranks) for place, answer in enumerate(given))
    about = f'<span class="lg-dim">{escape(speaker.objective)}</span>' if speaker.objective else ""
    return (
        f'<div class="lg-card" style="--lg-color: {color}">'
        f'<div class="lg-name"><b>{escape(speaker.name)}</b>{about}</div>{read}{rows}</div>'
    )


def _answer(answer: Answer, label: str, ranks: int) -> str:
    text = escape(answer.text) or '<i class="lg-dim">(an empty response)</i>'
    numbers = [f"<span><b>{_signed(answer.score, 2)}</b> nats per token</span>"]
    if answer.radius is not None:
        numbers.append(_radius(answer.radius))
    if answer.rank is not None:
        numbers.append(f'<span>rank by energy <b class="lg-rank">{answer.rank}</b> of {ranks}</span>')
    if answer.nearer is not None:
        numbers.append(f"<span>farther than <b>{_percent(answer.nearer)}</b> of references</span>")
    return (
        f'<div class="lg-answer"><div class="lg-text"><span class="lg-badge">{label}</span><span>{text}</span></div>'
        f'<div class="lg-numbers">{"".join(numbers)}</div></div>'
    )


def _radius(radius: float) -> str:
    if math.isnan(radius):
        return "<span>no radius: no word that the energy knows</span>"
    return f'<span>radius <b class="lg-radius">{radius:.1f}</b> nats</span>'


def _signed(number: float, digits: int) -> str:
    """A number with a minus sign in place of a hyphen."""
    return f"{number:.{digits}f}".replace("-", "−")


def _percent(share: float) -> str:
    """A share in per cent; never 0 or 100 by rounding."""
    if 0 < share < 0.005 or 0.995 < share < 1:
        return "&lt; 1 %" if share < 0.5 else "&gt; 99 %"
    return f"{share:.0%}".replace("%", " %")


def _strip(references: ReferenceRadii, comparison: Comparison, speakers: Sequence[Speaker]) -> str:
    """Histogram of the references' radii with the answers marked, and the query's own references beneath."""
    marked = [
        (answer.radius, answer.text, color, _label(letter, place, len(comparison.answers[speaker.name])))
        for speaker, color, letter in zip(speakers, cycle(COLORS), _letters(), strict=False)
        for place, answer in enumerate(comparison.answers[speaker.name])
        if answer.radius is not None and answer.nearer is not None
    ]
    low = min(0.0, float(references.radii[0]))
    high = max(float(np.quantile(references.radii, SHOWN)), low + 1e-6)

    def at(radius: float) -> float:
        return 100 * min(max((radius - low) / (high - low), 0.0), 1.0)

    levels = _levels([at(radius) for radius, *_ in marked])
    marks = "".join(
        f'<div class="lg-mark" style="left: {at(radius):.2f}%; --lg-color: {color}; --lg-row: {level}" '
        f'title="{escape(label)}: {radius:.1f} nats, {escape(text)}"><span>{label}</span></div>'
        for (radius, text, color, label), level in zip(marked, levels, strict=True)
    )
    ticks = "".join(
        f'<div class="lg-tick" style="left: {at(answer.radius):.2f}%" title="{answer.radius:.1f} nats, '
        f'{escape(answer.text)}"></div>'
        for answer in comparison.references
        if answer.radius is not None and answer.nearer is not None
    )
    middle = float(np.median(references.radii))
    axis = (
        f"<span style='left: 0%'>{low:.0f}</span>"
        f'<span style="left: {at(middle):.2f}%">median {middle:.1f} nats</span>'
        f"<span style='left: 100%'>{high:.0f} and more</span>"
    )
    room = f"margin-top: {1.9 + 1.1 * max(levels, default=0):.1f}em"
    return (
        f'<div class="lg-h">Radii of {len(references.radii):,} references <span class="lg-dim">('
        f"{escape(references.name)}; left: safe, near the centre of the query's responses; right: far from it)"
        "</span></div>"
        f'<div class="lg-strip" style="{room}"><div class="lg-plot">{_histogram(references.radii, low, high)}{marks}'
        f'{ticks}</div><div class="lg-axis">{axis}</div></div>{_own(comparison)}'
    )


def _histogram(radii: np.ndarray, low: float, high: float) -> str:
    counts = np.histogram(radii.clip(low, high), bins=BINS, range=(low, high))[0]
    top = max(1, counts.max())
    bars = "".join(
        f'<rect x="{place + 0.05}" y="{100 - 100 * count / top:.1f}" width="0.9" height="{100 * count / top:.1f}"/>'
        for place, count in enumerate(counts.tolist())
    )
    return f'<svg viewBox="0 0 {BINS} 100" preserveAspectRatio="none" aria-hidden="true">{bars}</svg>'


def _levels(places: list[float]) -> list[int]:
    """Rows of the labels, 0 the lowest, so that none covers another."""
    levels = [0] * len(places)
    ends: list[float] = []  # the last place on each row
    for index in sorted(range(len(places)), key=places.__getitem__):
        level = next((row for row, last in enumerate(ends) if places[index] - last >= LABEL_WIDTH), len(ends))
        ends[level : level + 1] = [places[index]]
        levels[index] = level
    return levels


def _own(comparison: Comparison) -> str:
    if not comparison.references:
        return '<div class="lg-dim">This query is not in the data set, so it has no references of its own.</div>'
    radii = [math.nan if answer.radius is None else answer.radius for answer in comparison.references]
    ordered = sorted(zip(radii, comparison.references, strict=True), key=lambda pair: (math.isnan(pair[0]), pair[0]))
    rows = "".join(
        f"<span>{'–' if math.isnan(radius) else f'{radius:.1f}'}</span><span>{escape(answer.text)}</span>"
        for radius, answer in ordered
    )
    return (
        '<div class="lg-h">The references of this query <span class="lg-dim">(radius in nats; ticks above)</span>'
        f'</div><div class="lg-rows" id="lg-own">{rows}</div>'
    )


def _draw(draw: Draw, approximate: bool) -> str:
    numbers = [f"<span><b>{draw.edits}</b> {'edit' if draw.edits == 1 else 'edits'}</span>"]
    if draw.log_prob is not None:
        sign = "≈" if approximate else "="
        numbers.append(f"<span>ln q {sign} <b>{_signed(draw.log_prob, 1)}</b></span>")
    if draw.reward is not None:
        numbers.append(f"<span>reward <b>{_signed(draw.reward, 3)}</b></span>")
    return (
        f'<div class="lg-draw"><p>{"".join(map(_piece, draw.pieces)) or "<i>(nothing is left)</i>"}</p>'
        f'<div class="lg-numbers">{"".join(numbers)}</div></div>'
    )


def _piece(piece: Piece) -> str:
    bare = piece.text.lstrip(" ")
    space = " " if bare != piece.text or piece.status == REMOVED else ""
    tag = {NEW: "ins", REMOVED: "del"}.get(piece.status)
    return f"{space}<{tag}>{escape(bare)}</{tag}>" if tag else f"{space}{escape(bare)}"


def _bars(probs: np.ndarray) -> Iterable[str]:
    last = min(int(np.flatnonzero(probs >= LEAST_PROB).max(initial=0)), MOST_EDITS)
    first = 0
    if probs[: last + 1].sum() < 0.5:  # nearly all of the mass is at many edits
        first = max(0, int(probs.argmax()) - MOST_EDITS // 2)
        last = min(first + MOST_EDITS, len(probs) - 1)
    rows = [(str(number), float(probs[number])) for number in range(first, last + 1)]
    if first:
        rows.insert(0, (f"under {first}", float(probs[:first].sum())))
    if last + 1 < len(probs):
        rows.append((f"over {last}", float(probs[last + 1 :].sum())))
    top = max(prob for _, prob in rows) or 1.0
    for name, prob in rows:
        yield f'<span>{name}</span><div class="lg-bar" style="width: {100 * prob / top:.1f}%"></div>'
        yield f"<span>{prob:.4f}</span>"
