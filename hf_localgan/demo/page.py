"""The page: its controls and the functions that answer them. Errors of the user are shown as warnings."""

import random
from collections.abc import Sequence
from html import escape

from hf_localgan.demo import markup
from hf_localgan.demo.answers import LONGEST_QUERY, compare_answers, read_settings, remembered_turns, whole_number
from hf_localgan.demo.draws import PAYOFFS, show_draws
from hf_localgan.demo.gradio_import import import_gradio
from hf_localgan.demo.loading import PageModels, evaluated_references

DECODINGS = [("greedy", "greedy"), ("beam search", "beams"), ("sampling", "sampling")]
SAMPLERS = [("Hamming", "hamming"), ("edit (Eq. 11)", "edit"), ("edit, exact", "exact_edit")]
REWARDS = [("BLEU", "bleu"), ("ROUGE-L", "rouge_l"), ("chrF", "chrf"), ("minus token error rate", "token_error_rate")]
BY_TAU, BY_RATE = "tau", "edit rate"
# Largest tau of the slider, and where it starts: for rewards between 0 and 1, and for edits that cost 1 + ln v.
TAUS = {name: (0.5, 0.1) if name == "importance" else (1.5, 0.85) for name in PAYOFFS}
# The first sentences of the tab of draws, where there is no data set; of these the one with fewest unknown tokens.
REFERENCES = ("Would you like to go to the movies tonight?", "would you like to go out tonight ?", "i do not know .")
USUAL_TOKENS = range(6, 15)  # length of a sentence whose edits are easily seen
ANSWERS_ABOUT = (
    "**Radius**: free energy of the answer less that of the centre of the query's responses, in nats. Safe answers "
    "lie near the centre, at small radii. **Rank by energy**: 1 is the lowest free energy of all answers. "
    "**nats per token**: log-likelihood under the answering model."
)
DRAWS_ABOUT = (
    "RAML trains on draws from q(y|y\\*) ∝ exp(r(y, y\\*) / τ), r the payoff, in place of the reference y\\*. At τ = 0 "
    "every draw is the reference."
)


def build_page(page_models: PageModels, decodings: Sequence[str] = ()):
    """The page as `gradio.Blocks`, not yet served.

    Args:
        page_models: generators, energy and references.
        decodings: names of further decodings, beside greedy, beam search and sampling.

    Raises:
        ImportError: without gradio.
    """
    gradio = import_gradio()
    standard = {value for _, value in DECODINGS}
    decodings = [name for name in dict.fromkeys(decodings) if name not in standard]
    names = ", ".join(speaker.name for speaker in page_models.speakers)
    with gradio.Blocks(title="hf_localgan", analytics_enabled=False) as page:
        gradio.Markdown(f"## hf_localgan\n{_plain(names)}")
        if page_models.notes:
            gradio.HTML(markup.notes(page_models))
        with gradio.Tab("Answers"):
            _add_answers(gradio, page_models, decodings)
        with gradio.Tab("RAML draws"):
            _add_draws(gradio, page_models, page)
    return page


def _add_answers(gradio, page_models: PageModels, decodings: Sequence[str]):
    with gradio.Row():
        query = gradio.Textbox(
            label="Query", placeholder="Say something", max_length=LONGEST_QUERY, scale=6, autofocus=True,
            elem_id="lg-query", lines=1, max_lines=4, min_width=240,
        )  # fmt: skip
        with gradio.Column(scale=1, min_width=150):
            ask = gradio.Button("Answer", variant="primary", elem_id="lg-ask")
            other = gradio.Button(
                "A query of the data set", size="sm", visible=page_models.references is not None, elem_id="lg-other"
            )
            turns = remembered_turns(page_models)
            anew = gradio.Button("New conversation", size="sm", visible=turns > 0, elem_id="lg-anew")
    earlier = gradio.State([])  # what was asked before in this conversation
    with gradio.Row():
        decoding = gradio.Radio(
            DECODINGS + [(name, name) for name in decodings], value="greedy", label="Decoding", scale=2, min_width=240
        )
        longest = gradio.Slider(1, 100, value=40, step=1, label="Longest answer (tokens)", scale=1, min_width=160)
    with gradio.Row():
        beams = gradio.Slider(2, 20, value=5, step=1, label="Beams", visible=False, min_width=160)
        temperature = gradio.Slider(0.1, 2, value=0.7, step=0.05, label="Temperature", visible=False, min_width=160)
        top_p = gradio.Slider(0.05, 1, value=1, step=0.05, label="Top-p", visible=False, min_width=160)
        number = gradio.Slider(1, 8, value=1, step=1, label="Answers of each model", visible=False, min_width=160)
        seed = gradio.Number(
            value=0, precision=0, label="Seed (empty: another each time)", visible=False, min_width=160
        )
    shown = gradio.HTML(elem_id="lg-answers")
    gradio.Markdown(ANSWERS_ABOUT, elem_classes="lg-dim")

    def fit_controls(name):
        is_sampling, is_search, is_named = name == "sampling", name == "beams", name in decodings
        has_several = is_search or is_sampling or is_named
        visible = (is_search, is_sampling, is_sampling, has_several, is_sampling or is_named)
        return [gradio.update(visible=value) for value in visible]

    def answer(text, before, *values):
        comparison = compare_answers(page_models, text or "", read_settings(*values), before)
        return markup.answers(page_models, comparison), [*before, comparison][-turns:] if turns else []

    decoding.change(
        fit_controls,
        decoding,
        [beams, temperature, top_p, number, seed],
        show_progress="hidden",
        api_visibility="private",
    )
    controls = [query, earlier, decoding, beams, temperature, top_p, number, longest, seed]
    gradio.on(
        [ask.click, query.submit], _guarded(gradio, answer), controls, [shown, earlier], api_visibility="private",
        concurrency_id="models", concurrency_limit=1,
    )  # fmt: skip
    anew.click(lambda: ([], ""), None, [earlier, shown], show_progress="hidden", api_visibility="private")
    if page_models.references is not None:
        queries = [query for query, _ in page_models.references.responses.values()]
        other.click(lambda: random.choice(queries), None, query, show_progress="hidden", api_visibility="private")


def _add_draws(gradio, page_models: PageModels, page):
    first = page_models.speakers[0]
    gradio.Markdown(f"{DRAWS_ABOUT} The vocabulary is that of {_plain(first.name)}.", elem_classes="lg-dim")
    reference = gradio.Textbox(
        value=first_reference(page_models), label="Reference", max_length=1000, elem_id="lg-reference", max_lines=4
    )
    with gradio.Row():
        payoff = gradio.Dropdown(
            [*SAMPLERS, ("a reward, by importance sampling", "importance")], value="edit", label="Payoff",
            min_width=200, elem_id="lg-payoff",
        )  # fmt: skip
        mode = gradio.Radio([("τ", BY_TAU), ("edit rate", BY_RATE)], value=BY_TAU, label="Set by", min_width=150)
        tau = gradio.Slider(0, TAUS["edit"][0], value=TAUS["edit"][1], step=0.01, label="τ", elem_id="lg-tau")
        rate = gradio.Slider(
            0, 0.6, value=0.1, step=0.01, label="Edit rate (edits per token)", visible=False, elem_id="lg-rate"
        )
    with gradio.Row(visible=False) as weighted:
        reward = gradio.Dropdown(REWARDS, value="bleu", label="Reward", min_width=150)
        candidates = gradio.Slider(1, 64, value=16, step=1, label="Candidates", min_width=150)
        proposal = gradio.Dropdown(SAMPLERS, value="edit", label="Proposal", min_width=150)
        proposed = gradio.Slider(0.01, 0.6, value=0.2, step=0.01, label="Edit rate of the proposal", min_width=150)
    with gradio.Row():
        number = gradio.Slider(1, 20, value=6, step=1, label="Draws", min_width=150)
        seed = gradio.Number(value=0, precision=0, minimum=0, label="Seed", min_width=150)
    shown = gradio.HTML(elem_id="lg-drawn")

    def fit_controls(name, by):
        is_weighted = name == "importance"
        by = BY_TAU if is_weighted else by
        highest, start = TAUS[name]
        return [
            gradio.update(value=by, visible=not is_weighted),
            gradio.update(maximum=highest, value=start, visible=by == BY_TAU),
            gradio.update(visible=by == BY_RATE),
            gradio.update(visible=is_weighted),
        ]

    def fit_sliders(by):
        return gradio.update(visible=by == BY_TAU), gradio.update(visible=by == BY_RATE)

    def draw(text, name, by, tau, edit_rate, reward, candidates, proposal, proposal_rate, number, seed):
        by_rate = by == BY_RATE and name != "importance"
        settings = {"edit_rate": edit_rate} if by_rate else {"temperature": tau}
        for control, value in {**settings, "proposal_rate": proposal_rate}.items():
            if value is None:
                raise ValueError(f"`{control}` must be a number, got None.")
        if seed is None or seed != int(seed) or not 0 <= seed < 2**63:
            raise ValueError(f"The seed must be a whole number from 0, got {seed}.")
        shown_draws = show_draws(
            first.tokenizer, text or "", name, draws=whole_number("draws", number), seed=int(seed), reward=reward,
            num_candidates=whole_number("candidates", candidates), proposal=proposal,
            proposal_rate=proposal_rate, **settings,
        )  # fmt: skip
        return markup.draws(shown_draws)

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    payoff.change(fit_controls, [payoff, mode], [mode, tau, rate, weighted], **quiet)
    mode.change(fit_sliders, mode, [tau, rate], **quiet)
    controls = [reference, payoff, mode, tau, rate, reward, candidates, proposal, proposed, number, seed]
    moved = [reference.submit, reference.blur, *(control.change for control in controls[1:])]
    gradio.on(
        [page.load, *moved], _guarded(gradio, draw), controls, shown, show_progress="minimal",
        api_visibility="private", trigger_mode="always_last", concurrency_id="draws", concurrency_limit=1,
    )  # fmt: skip


def first_reference(page_models: PageModels) -> str:
    """A sentence for the tab of draws that the first model's tokenizer knows whole.

    The first such response of the data set, or of the model's evaluation, that is neither short nor long, or else the
    longest one; without either one of `REFERENCES`.
    """
    tokenizer = page_models.speakers[0].tokenizer

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False).input_ids

    def unknown(text: str) -> int:
        return ids(text).count(tokenizer.unk_token_id)

    if page_models.references is not None:
        groups = [responses for _, responses in page_models.references.responses.values()]
    else:
        groups = evaluated_references(page_models.speakers[0].path)
    texts = [text for responses in groups for text in responses if not unknown(text)]
    usual = (text for text in texts if len(ids(text)) in USUAL_TOKENS)
    shorter = [text for text in texts if 0 < len(ids(text)) < USUAL_TOKENS.start]
    longest = max(shorter, key=lambda text: len(ids(text)), default=None)
    return next(usual, longest or min(REFERENCES, key=unknown))


def _guarded(gradio, function):
    """The function with its errors shown as warnings, after which the page stays as it was."""

    def guarded(*values):
        try:
            return function(*values)
        except (ValueError, RuntimeError, NotImplementedError) as error:
            gradio.Warning(escape(str(error)))  # warnings are shown as HTML
            return gradio.skip()

    return guarded


def _plain(text: str) -> str:
    """Text escaped for Markdown."""
    return "".join(f"&#{ord(sign)};" if sign in "\\`*_{}[]()#+-.!|<>&$~" else sign for sign in text)
