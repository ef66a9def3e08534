"""Answers by the energy and the discriminator, given or from a checkpoint, and tables of candidates for tuning."""

import copy
import json

import pytest
import torch

from hf_localgan import Text2TextGenerationPipeline
from hf_localgan.decoding import (
    AntiLm,
    AntiLmReranker,
    CandidateTable,
    Decoding,
    DiscriminatorReranker,
    EnergyReranker,
    MutualInformationReranker,
    Reranker,
    answer_queries,
    reference_radius,
    tabulate_candidates,
    tune_decodings,
    tune_reranker,
)
from hf_localgan.evaluation import evaluate_generator, rank_responses
from hf_localgan.functional.mutual_information import settings_grid
from hf_localgan.models import DbmConfig, DbmModel, PairDiscriminator, PairDiscriminatorConfig
from hf_localgan.responses import ChatSettings, respond

QUERIES = ["hello", "how are you ?", "what is your name", "i am fine thanks !"]
FEW = {"beams": 3, "samples": 8}


@pytest.fixture
def energy() -> DbmModel:
    """Random parameters, and word vectors for tokens from 4 on."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        sizes = {"query_size": 4, "response_size": 4, "hidden_size": 6, "top_size": 3, "vocab_size": 20}
        model = DbmModel(DbmConfig(**sizes)).eval()
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
        model.word_vectors.load(torch.randn(20, 4), range(4, 20))
        for scaler in (model.query_scaler, model.response_scaler):
            scaler.count.fill_(9)
    return model


@pytest.fixture
def discriminator() -> PairDiscriminator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"vocab_size": 20, "embedding_size": 5, "widths": [1, 2], "filters": 4, "head_size": 6}
        return PairDiscriminator(PairDiscriminatorConfig(**sizes, pad_token_id=0, eos_token_id=2)).eval()


@pytest.mark.parametrize("by", ["difference", "free_energy", "radius"])
def test_the_answer_is_the_candidate_that_the_energy_ranks_first(tiny_generator, tiny_tokenizer, energy, by):
    model, decoding = tiny_generator(), EnergyReranker(energy=energy, by=by, weight=1.0, **FEW)
    table = tabulate_candidates(model, tiny_tokenizer, QUERIES, decoding, max_new_tokens=6, batch_size=4, seed=3)
    assert not table.finished.all() and table.finished.any()
    for query, answer in enumerate(table.best(decoding.combine(table.parts))):
        rows = (table.groups == query) & (table.finished if table.finished[table.groups == query].any() else True)
        candidates = [table.texts[row] for row in rows.nonzero()[:, 0].tolist()]
        ranked = rank_responses(
            energy, tiny_tokenizer, QUERIES[query], candidates, by="difference" if by == "difference" else "free_energy"
        )  # the radius is the free energy up to a constant of the query
        assert getattr(ranked[0], by) == pytest.approx({one.text: getattr(one, by) for one in ranked}[answer], abs=1e-4)


def test_a_target_is_the_radius_that_answers_should_have(tiny_generator, tiny_tokenizer, energy):
    model, references = tiny_generator(), ["i am fine", "fine thanks", "my name is you ?", "hello hello"]
    target = reference_radius(energy, tiny_tokenizer, QUERIES, references, batch_size=3)
    radii = [rank_responses(energy, tiny_tokenizer, q, [r])[0].radius for q, r in zip(QUERIES, references, strict=True)]
    assert target == pytest.approx(sum(radii) / 4, abs=1e-4)
    decoding = EnergyReranker(energy=energy, by="radius", target=target, weight=1.0, **FEW)
    table = tabulate_candidates(model, tiny_tokenizer, QUERIES, decoding, max_new_tokens=6)
    distance = (table.parts["radius"] - target).abs().nan_to_num(nan=1e9)
    for query in range(4):
        rows = ((table.groups == query) & table.finished).nonzero()[:, 0].tolist()
        closest = min(rows, key=lambda row: distance[row])
        assert table.best(decoding.combine(table.parts))[query] == table.texts[closest]


def test_candidates_without_a_known_word_come_last(tiny_generator, tiny_tokenizer, energy):
    decoding = EnergyReranker(energy=energy, **FEW)
    table = tabulate_candidates(tiny_generator(), tiny_tokenizer, QUERIES, decoding, max_new_tokens=4)
    silent = [text.replace("<unk>", "").strip() == "" for text in table.texts]
    assert table.parts["difference"].isnan().tolist() == silent


@pytest.mark.parametrize("head", ["mlp", "cosine"])
def test_the_answer_is_the_candidate_that_the_discriminator_scores_highest(
    tiny_generator, tiny_tokenizer, discriminator, head
):
    if head == "cosine":
        torch.manual_seed(1)
        discriminator = PairDiscriminator(type(discriminator.config)(**discriminator.config.to_dict() | {"head": head}))
    model, decoding = tiny_generator(), DiscriminatorReranker(discriminator=discriminator, weight=1.0, **FEW)
    table = tabulate_candidates(model, tiny_tokenizer, QUERIES, decoding, max_new_tokens=6)
    best = table.best(decoding.combine(table.parts))
    discriminator.eval()
    for query, answer in enumerate(best):
        rows = ((table.groups == query) & table.finished).nonzero()[:, 0].tolist()
        ids = tiny_tokenizer(QUERIES[query], return_tensors="pt").input_ids
        scores = {}
        for row in rows:
            labels = tiny_tokenizer(table.texts[row] or "", return_tensors="pt").input_ids
            scores[table.texts[row]] = discriminator(ids, None, labels).logits.item()
        assert scores[answer] == pytest.approx(max(scores.values()), abs=1e-4)


def test_both_stand_in_the_checkpoint(tiny_generator, tiny_tokenizer, energy, discriminator, tmp_path):
    tiny_generator().save_pretrained(tmp_path)
    energy.save_pretrained(tmp_path / "energy")
    discriminator.save_pretrained(tmp_path / "discriminator")
    model = type(tiny_generator()).from_pretrained(tmp_path)
    for name, given in (
        ("rerank energy", EnergyReranker(energy=energy)),
        ("rerank radius 40", EnergyReranker(energy=energy, by="radius", target=40.0)),
        ("rerank discriminator", DiscriminatorReranker(discriminator=discriminator)),
    ):
        named = Decoding.parse(name)
        assert named == given
        found = answer_queries(model, tiny_tokenizer, QUERIES[:2], named, max_new_tokens=4)
        assert found == answer_queries(model, tiny_tokenizer, QUERIES[:2], given, max_new_tokens=4)
        json.dumps(named.settings())
    with pytest.raises(ValueError, match="The discriminator knows 9 tokens"):
        small = PairDiscriminator(PairDiscriminatorConfig(vocab_size=9))
        answer_queries(model, tiny_tokenizer, QUERIES[:1], DiscriminatorReranker(discriminator=small))


def test_a_weight_mixes_in_what_the_generator_says(tiny_generator, tiny_tokenizer, discriminator):
    model = tiny_generator()
    table = tabulate_candidates(
        model, tiny_tokenizer, QUERIES, DiscriminatorReranker(discriminator=discriminator, **FEW), max_new_tokens=5
    )
    parts, mean = table.parts, table.parts["forward"] / table.parts["length"]
    for weight in (0.0, 0.3, 1.0):
        actual = DiscriminatorReranker(discriminator=discriminator, weight=weight).combine(parts)
        torch.testing.assert_close(actual, (1 - weight) * mean + weight * parts["logit"])


# ---- tables ----


def test_a_table_is_read_as_it_was_written_and_answers_as_decoding_does(tiny_generator, tiny_tokenizer, tmp_path):
    model, backward = tiny_generator(), tiny_generator(seed=1)
    decoding = MutualInformationReranker(backward=backward, **FEW)
    table = tabulate_candidates(model, tiny_tokenizer, QUERIES, decoding, max_new_tokens=6, seed=5)
    table.save(tmp_path / "table.parquet")
    again = CandidateTable.load(tmp_path / "table.parquet")
    assert (again.queries, again.texts, again.settings) == (table.queries, table.texts, table.settings)
    assert again.parts.keys() == table.parts.keys()
    for name in table.parts:
        torch.testing.assert_close(again.parts[name], table.parts[name], rtol=0, atol=0)
    torch.testing.assert_close((again.groups, again.finished), (table.groups, table.finished))
    (tmp_path / "other.parquet").write_text("no table")
    with pytest.raises(ValueError, match="is no table of candidates"):
        CandidateTable.load(tmp_path / "other.parquet")
    # Same seed, same batch: the same candidates are drawn where queries are in the order of their lengths.
    ordered = sorted(QUERIES, key=lambda text: len(text.split()), reverse=True)
    table = tabulate_candidates(model, tiny_tokenizer, ordered, decoding, max_new_tokens=6, seed=5)
    answers = answer_queries(model, tiny_tokenizer, ordered, decoding, max_new_tokens=6, seed=5)
    assert [row[0] for row in answers] == table.best(decoding.combine(table.parts))


def test_how_different_the_candidates_are():
    table = CandidateTable(
        ["q", "p"], ["a b c d", "a b c e", "x", "x", "y z"], torch.tensor([0, 0, 1, 1, 1]), torch.ones(5).bool(), {}
    )
    found = table.variety()
    assert found == {"candidates": 2.5, "unique": (1 + 2 / 3) / 2, "distinct_starts": (1 / 2 + 2 / 3) / 2}


def test_settings_are_tuned_from_the_table(tiny_generator, tiny_tokenizer):
    decoding = MutualInformationReranker(backward=tiny_generator(seed=1), **FEW)
    table = tabulate_candidates(tiny_generator(), tiny_tokenizer, QUERIES, decoding, max_new_tokens=6)

    def words(answers):
        return sum(len(answer.split()) for answer in answers)

    grid = settings_grid(weight=(0.0, 0.5, 1.0), length_reward=(-5.0, 0.0, 5.0))
    tuned, found = tune_reranker(decoding, table, words, grid)
    assert tuned.length_reward == 5.0 == found.settings["length_reward"] and len(found.tried) == 9
    assert found.quality == words(table.best(tuned.combine(table.parts))) == max(q for _, q in found.tried)
    assert tuned.beams == 3 and tuned.backward is decoding.backward
    with pytest.raises(ValueError, match="has no setting `steps` to tune"):
        tune_reranker(decoding, table, words, [{"steps": 2}])


def test_the_scores_of_a_subclass_are_enough(tiny_generator, tiny_tokenizer):
    class Longest(Reranker):
        def parts(self, model, batch, tokenizer, candidates):
            return {"length": candidates.lengths}

        def combine(self, parts):
            return parts["length"].float()

    table = tabulate_candidates(tiny_generator(), tiny_tokenizer, QUERIES, Longest(**FEW), max_new_tokens=6)
    lengths = table.parts["length"]
    for query, answer in enumerate(table.best(lengths.float())):
        ended = ((table.groups == query) & table.finished).nonzero()[:, 0].tolist()
        longest = [table.texts[row] for row in ended if lengths[row] == lengths[ended].max()]
        assert answer == longest[0]


# ---- everywhere ----


def test_it_answers_in_the_evaluation_the_chat_and_the_pipeline(
    tiny_generator, tiny_tokenizer, discriminator, tmp_path
):
    model, decoding = tiny_generator(), DiscriminatorReranker(discriminator=discriminator, **FEW)
    expected = [row[0] for row in answer_queries(model, tiny_tokenizer, QUERIES, decoding, max_new_tokens=5)]
    assert all(isinstance(text, str) for text in expected)
    evaluation = evaluate_generator(
        model,
        tiny_tokenizer,
        QUERIES,
        [["i am fine"]] * 4,
        decodings=[Decoding.greedy(), decoding],
        max_new_tokens=5,
    )
    evaluation.write(tmp_path)
    assert "rerank discriminator" in (tmp_path / "evaluation.json").read_text()
    responses = respond(model, tiny_tokenizer, QUERIES[:2], ChatSettings(decoding=decoding, num_return_sequences=2))
    assert [len(one) for one in responses] == [2, 2]
    pipe = Text2TextGenerationPipeline(model=model, tokenizer=tiny_tokenizer, decoding=decoding, max_new_tokens=5)
    assert isinstance(pipe("hello")[0]["generated_text"], str)


def test_what_is_refused():
    for text in ("rerank", "rerank luck", "rerank radius far"):
        with pytest.raises(ValueError, match="rerank|number"):
            Decoding.parse(text)
    with pytest.raises(ValueError, match='`target` is a radius: it needs `by="radius"`'):
        EnergyReranker(target=3.0)
    with pytest.raises(ValueError, match="`by` must be one of difference, radius, free_energy"):
        EnergyReranker(by="energy")
    with pytest.raises(ValueError, match=r"`weight` must be from 0 .* got -1"):
        DiscriminatorReranker(weight=-1)


def test_all_decodings_with_numbers_are_tuned_and_the_others_stay(tiny_generator, tiny_tokenizer, monkeypatch):
    grid = {"penalty": (0.0, 0.9), "steps": (1, None), "length_reward": (-5.0, 5.0)}
    monkeypatch.setattr(AntiLm, "grid", grid)
    model = tiny_generator()
    given = [Decoding.greedy(), AntiLm(penalty=0.3, beams=3), DiscriminatorReranker(weight=0.5)]
    monkeypatch.setattr(DiscriminatorReranker, "grid", {})  # nothing to choose from
    lengths = []

    def words(answers):
        lengths.append(sum(len(answer.split()) for answer in answers))
        return lengths[-1]

    tuned = tune_decodings(given, model, tiny_tokenizer, QUERIES, words, max_new_tokens=6)
    greedy, search, unchanged = tuned.decodings
    assert greedy is given[0] and unchanged is given[2]
    assert isinstance(search, AntiLm) and search.beams == 3 and search.length_reward == 5.0
    assert search.name in tuned.about and tuned.about[search.name]["quality"] == max(lengths)
    entry = tuned.about[search.name]
    assert entry["settings"] == {name: getattr(search, name) for name in ("penalty", "steps", "length_reward")}
    assert len(entry["tried"]) == len(lengths) and entry["queries"] == len(QUERIES)
    for point, value in entry["tried"]:  # each was judged by what the search itself answers
        answers = answer_queries(model, tiny_tokenizer, QUERIES, AntiLm(beams=3, **point), max_new_tokens=6)
        assert value == sum(len(texts[0].split()) for texts in answers)
    assert json.loads(json.dumps(entry)) == entry


def test_every_grid_has_the_settings_of_its_reranker():
    for decoding in (AntiLm, AntiLmReranker, MutualInformationReranker, EnergyReranker, DiscriminatorReranker):
        assert decoding.grid
        for point in settings_grid(**decoding.grid):
            decoding(**point)  # refuses values that it does not take


def test_a_language_model_is_loaded_by_its_folder_and_must_share_the_tokenizer(
    tiny_generator, tiny_tokenizer, tmp_path
):
    model, other, folder = tiny_generator(), tiny_generator(seed=4), tmp_path / "language"
    other.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    decoding = Decoding.parse(f"antilm 0.9 all 0 3 {folder}")
    assert decoding.name == f"antilm 0.9 all 0 3 {folder}" and decoding.settings()["language_model"] == str(folder)
    given = AntiLm(penalty=0.9, steps=None, beams=3, language_model=other)
    assert [
        answer_queries(model, tiny_tokenizer, QUERIES, one, max_new_tokens=6) for one in (decoding, given)
    ] == [answer_queries(model, tiny_tokenizer, QUERIES, given, max_new_tokens=6)] * 2  # fmt: skip
    assert answer_queries(model, tiny_tokenizer, QUERIES, decoding, max_new_tokens=6) != answer_queries(
        model, tiny_tokenizer, QUERIES, AntiLm(penalty=0.9, steps=None, beams=3), max_new_tokens=6
    )
    tokens = copy.deepcopy(tiny_tokenizer)
    tokens.add_tokens(["new"])
    with pytest.raises(ValueError, match="language model `.*language` has another tokenizer than the generator"):
        answer_queries(model, tokens, QUERIES, Decoding.parse(f"antilm 0.9 2 0 3 {folder}"), max_new_tokens=6)
