"""Scores of the discriminator: padding, neighbours, soft input, gradients, saving, what is refused."""

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModel

from hf_localgan.models import DbmConfig, DbmModel, PairDiscriminator, PairDiscriminatorConfig

VOCABULARY = 12
CNN = {
    "body": "cnn", "vocab_size": VOCABULARY, "embedding_size": 5, "widths": [1, 2, 3], "filters": 4, "head_size": 6,
    "pad_token_id": 0, "eos_token_id": 2,
}  # fmt: skip
KINDS = {
    "cnn": {},
    "frozen": {"embedding_size": 0, "vector_size": 3},
    "both": {"embedding_size": 2, "vector_size": 3, "interaction": "product"},
    "shared": {"share_filters": True, "interaction": "difference"},
    "bilinear": {"head": "bilinear"},
    "cosine": {"head": "cosine"},
    "cosine shared": {"head": "cosine", "share_filters": True},
    "plain": {"interaction": "none"},
    "dbm": None,
    "dbm learned": {"visible_std": "learned"},
    "dbm whitened": {"whiten": True},
    "rbm pair": {"energy": "rbm_pair"},
}


def energy(seed: int = 0, **fields) -> DbmModel:
    """In float64, with random parameters, word vectors for tokens from 3 on, and scalers."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        sizes = {"query_size": 4, "response_size": 4, "hidden_size": 6, "top_size": 3, "vocab_size": VOCABULARY}
        model = DbmModel(DbmConfig(**{**sizes, **fields})).double().eval()
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
        model.word_vectors.load(torch.randn(VOCABULARY, 4).double(), range(3, VOCABULARY))
        for scaler in (model.query_scaler, model.response_scaler):
            scaler.mean.normal_(std=0.3)
            scaler.std.uniform_(0.5, 2)
            if model.config.whiten:
                scaler.whitening.normal_()
            scaler.count.fill_(9)
    return model


def discriminator(kind: str = "cnn", seed: int = 0, **fields) -> PairDiscriminator:
    """In float64 and evaluation mode, every parameter moved from its initial value."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        if "dbm" in kind or "rbm" in kind:
            own = dict(KINDS[kind] or {})
            model = PairDiscriminator.from_energy(energy(**own), head_size=6, **fields)
        else:
            model = PairDiscriminator(PairDiscriminatorConfig(**{**CNN, **KINDS[kind], **fields})).double()
            if model.config.vector_size:
                model.load_vectors(torch.randn(VOCABULARY, model.config.vector_size).double())
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model.eval()


def utterances(*lengths: int, seed: int = 1, longest: int | None = None, side: str = "right") -> tuple:
    """Ids with -100 where there is padding, and the mask."""
    draw = torch.Generator().manual_seed(seed)
    longest = max(lengths) if longest is None else longest
    ids = torch.full((len(lengths), longest), -100)
    for row, length in enumerate(lengths):
        start = 0 if side == "right" else longest - length
        drawn = torch.randint(3, VOCABULARY, (length,), generator=draw)
        ids[row, start : start + length] = drawn
    return ids, (ids != -100).long()


@pytest.fixture(params=KINDS)
def model(request) -> PairDiscriminator:
    return discriminator(request.param)


# ---- what a score depends on ----


def test_neighbours_and_padding_on_either_side_change_nothing(model):
    lengths = (1, 7, 3)
    query, query_mask = utterances(*lengths)
    response, _ = utterances(4, 2, 5, seed=2)
    together = model(query, query_mask, response).logits
    longer_query, longer_mask = utterances(*lengths, longest=11, side="left")
    longer_response, _ = utterances(4, 2, 5, seed=2, longest=9, side="left")
    torch.testing.assert_close(model(longer_query, longer_mask, longer_response).logits, together)
    for row, length in enumerate(lengths):
        alone = model(query[row : row + 1, :length], None, response[row : row + 1]).logits
        torch.testing.assert_close(alone, together[row : row + 1])
    assert len(together.unique()) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_at_padding_is_not_read(kind):
    model = discriminator(kind)
    query, mask = utterances(3, 6)
    response, _ = utterances(2, 5, seed=2)
    expected = model(query, mask, response).logits
    filled = query.masked_fill(mask == 0, 5)
    torch.testing.assert_close(model(filled, mask, response).logits, expected, atol=0, rtol=0)
    response_mask = (response != -100).long()
    filled = response.masked_fill(response_mask == 0, 5)
    torch.testing.assert_close(model(query, mask, filled, response_mask=response_mask).logits, expected, atol=0, rtol=0)
    assert not torch.equal(model(query, mask, filled).logits, expected)


def test_an_utterance_without_a_token_has_a_score_of_its_own(model):
    query, _ = utterances(2, 3)
    response, _ = utterances(0, 4, seed=2)
    logits = model(query, None, response).logits
    assert logits.isfinite().all()
    other, _ = utterances(0, 2, seed=3)
    torch.testing.assert_close(model(query, None, other).logits[0], logits[0])
    model.zero_grad()
    model(query, None, response).logits.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


def test_a_batch_in_which_nobody_says_anything_has_scores(model):
    query, _ = utterances(2, 3)
    silent = model(query, None, torch.full((2, 3), -100)).logits
    assert silent.isfinite().all()
    nothing = torch.zeros(2, 0, dtype=torch.long)
    torch.testing.assert_close(model(query, None, nothing).logits, silent)
    probabilities = torch.zeros(2, 0, VOCABULARY).double()
    torch.testing.assert_close(model(query, None, response_probabilities=probabilities).logits, silent)


def test_the_convolution_by_hand():
    # One filter of width 2 over one-dimensional embeddings e(token) = token, with weights (1, 10) and bias 0.5, reads
    # the tokens 2, 1, 3 as 2 + 10, 1 + 30, 3 + 0 (zeros behind the last one): the largest is 31, with the bias 31.5.
    config = PairDiscriminatorConfig(vocab_size=VOCABULARY, embedding_size=1, widths=[2], filters=1, head_size=1)
    model = PairDiscriminator(config).eval()
    with torch.no_grad():
        model.body.embeddings.weight.copy_(torch.arange(VOCABULARY)[:, None])
        model.body.query_filters[0].weight.copy_(torch.tensor([[1.0, 10.0]]))
        model.body.query_filters[0].bias.fill_(0.5)
    assert model.query_features(torch.tensor([[2, 1, 3, -100]])).tolist() == [[31.5]]
    assert model.query_features(torch.tensor([[-100, 3]])).tolist() == [[3.5]]
    assert model.query_features(torch.tensor([[-100, -100]])).tolist() == [[0.0]]


def test_end_and_padding_tokens_are_not_seen_by_convolutions():
    # Token 0 is padding and 2 the end; a distribution's mass on them adds nothing to the embedding of its place.
    model = discriminator("both")
    plain = model.response_features(torch.tensor([[5, 7]]))
    assert torch.equal(model.response_features(torch.tensor([[5, 7, 2, 0, 0]])), plain)
    assert not torch.equal(model.response_features(torch.tensor([[5, 7, 1]])), plain)
    soft = F.one_hot(torch.tensor([[5, 7, 2]]), VOCABULARY).double()
    assert torch.equal(model.response_features(probabilities=soft), plain)
    soft[0, 1, 7], soft[0, 1, 2] = 0.6, 0.4
    scaled = F.one_hot(torch.tensor([[5, 7]]), VOCABULARY).double() * torch.tensor([1.0, 0.6])[:, None]
    expected = model.response_features(probabilities=scaled)
    torch.testing.assert_close(model.response_features(probabilities=soft), expected)
    assert not torch.equal(expected, plain)
    model.config.eos_token_id = [2, 7]
    assert torch.equal(model.response_features(torch.tensor([[5, 7]])), model.response_features(torch.tensor([[5]])))


def test_a_bilinear_head_over_shared_filters_begins_with_what_both_sides_have_in_common():
    model = PairDiscriminator(PairDiscriminatorConfig(**{**CNN, "head": "bilinear", "share_filters": True})).eval()
    with torch.no_grad():
        model.head.weight.zero_()
    query, response = utterances(3, 6)[0], utterances(2, 5, seed=2)[0]
    features = model.query_features(query), model.response_features(response)
    torch.testing.assert_close(model(query, None, response).logits, 0.1 * (features[0] * features[1]).sum(dim=1))
    assert torch.equal(model.response_features(query), features[0])


def test_mismatches_are_scored_as_pairs(model):
    query, mask = utterances(3, 6, 2)
    response, _ = utterances(2, 5, 4, seed=2)
    rows = torch.tensor([[1, 2], [0, 2], [0, 0]])
    output = model(query, mask, response, mismatches=rows)
    torch.testing.assert_close(output.logits, model(query, mask, response).logits)
    for column in range(2):
        expected = model(query, mask, response[rows[:, column]]).logits
        torch.testing.assert_close(output.mismatch_logits[:, column], expected)


# ---- soft input ----


@pytest.mark.parametrize("side", ["query", "response"])
def test_certain_distributions_give_exactly_what_their_ids_give(model, side):
    query, query_mask = utterances(3, 6)
    response, response_mask = utterances(2, 5, seed=2)
    ids = {"input_ids": query, "attention_mask": query_mask, "labels": response}
    name, hard, mask = ("input_ids", query, query_mask) if side == "query" else ("labels", response, response_mask)
    soft = {key: value for key, value in ids.items() if key != name}
    soft[f"{side}_probabilities"] = F.one_hot(hard.clamp(min=0), VOCABULARY).double()
    soft["attention_mask" if side == "query" else "response_mask"] = mask
    assert torch.equal(model(**soft).logits, model(**ids).logits)


def test_probabilities_of_few_tokens_are_those_of_the_vocabulary_without_the_others(model):
    query, mask = utterances(3, 6)
    draw = torch.Generator().manual_seed(5)
    tokens = torch.stack([torch.randperm(VOCABULARY, generator=draw)[:4] for _ in range(8)]).view(2, 4, 4)
    few = torch.randn(2, 4, 4, generator=draw, dtype=torch.float64).softmax(2).requires_grad_()
    every = torch.zeros(2, 4, VOCABULARY).double().scatter(2, tokens, few)
    found = model(query, mask, response_probabilities=few, response_ids=tokens).logits
    torch.testing.assert_close(found, model(query, mask, response_probabilities=every).logits)
    first, second = (
        torch.autograd.grad(model(query, mask, **one).logits.sum(), few)[0]
        for one in (
            {"response_probabilities": few, "response_ids": tokens},
            {"response_probabilities": torch.zeros(2, 4, VOCABULARY).double().scatter(2, tokens, few)},
        )
    )
    torch.testing.assert_close(first, second)


def test_the_soft_vector_of_a_boltzmann_machine_by_hand():
    # Two places, the second one of weight 1/2; half of the first one's mass lies on a special token and is dropped:
    # (0.5 e3 + 0.5 (0.25 e4 + 0.75 e5)) / (0.5 + 0.5).
    model, table = discriminator("dbm"), energy().word_vectors.vectors
    probabilities = torch.zeros(1, 2, VOCABULARY).double()
    probabilities[0, 0, [2, 3]] = 0.5
    probabilities[0, 1, 4], probabilities[0, 1, 5] = 0.25, 0.75
    mask = torch.tensor([[1.0, 0.5]])
    vector = 0.5 * table[3] + 0.125 * table[4] + 0.375 * table[5]
    expected = energy().response_scaler(vector[None])
    found = model.response_features(probabilities=probabilities, mask=mask)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", ["cnn", "both", "bilinear", "dbm", "dbm learned", "dbm whitened", "rbm pair"])
def test_gradients_through_soft_input_agree_with_finite_differences(kind):
    model = discriminator(kind).requires_grad_(False)
    draw = torch.Generator().manual_seed(5)
    query, answer = (
        torch.randn(2, time, VOCABULARY, generator=draw, dtype=torch.float64).softmax(2).requires_grad_()
        for time in (3, 4)
    )
    weights = torch.linspace(0.3, 1, 8, dtype=torch.float64).view(2, 4).requires_grad_()

    def loss(query, answer, weights):
        output = model(query_probabilities=query, response_probabilities=answer, response_mask=weights)
        return F.softplus(-output.logits)

    assert torch.autograd.gradcheck(loss, (query, answer, weights))
    gradient = torch.autograd.grad(loss(query, answer, weights).sum(), (query, answer))
    assert all(one.abs().max() > 1e-6 for one in gradient)


@pytest.mark.parametrize("kind", ["cnn", "dbm", "dbm learned", "rbm pair"])
def test_every_parameter_of_the_body_has_a_gradient(kind):
    model = discriminator(kind)
    query, mask = utterances(3, 6, 2, 5)
    response, _ = utterances(2, 5, 4, 3, seed=2)
    F.softplus(-model(query, mask, response).logits).sum().backward()
    for name, parameter in model.body.named_parameters():
        assert parameter.grad.abs().max() > 1e-8, name


def test_learned_embeddings_start_from_vectors_where_there_are_some():
    model, given = discriminator("cnn"), torch.randn(VOCABULARY, 5).double()
    given[3] = 0
    before = model.body.embeddings.weight.detach().clone()
    after = model.load_vectors(given).body.embeddings.weight
    assert torch.equal(after[3], before[3]) and after.requires_grad
    assert torch.equal(after[[0, 11]], given[[0, 11]])


# ---- a body made of an energy ----


@pytest.mark.parametrize(
    "fields",
    [{}, {"visible_std": "learned"}, {"energy": "rbm_pair"}, {"whiten": True, "visible_std": "learned"}],
    ids=str,
)
def test_the_means_are_those_of_the_energy(fields):
    model = energy(**fields)
    made = PairDiscriminator.from_energy(model, mean_field_steps=3)
    query, mask = utterances(3, 6, 2)
    response, _ = utterances(2, 5, 0, seed=2)
    vectors = model.query_features(query, mask), model.response_features(response)
    found = made.query_features(query, mask), made.response_features(response)
    for one, other in zip(found, vectors, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)
    for one, other in zip(made.body.means(*found), model.unrolled_means(*vectors, steps=3), strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)


def test_a_body_is_a_copy_of_its_energy():
    model = energy()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = PairDiscriminator.from_energy(model)
    with torch.no_grad():
        for tensor in (*made.parameters(), made.body.vectors, made.body.query_mean, made.body.response_std):
            tensor.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_energy_that_cannot_be_a_body_is_refused():
    with pytest.raises(ValueError, match="no word vectors.*`vocab_size` is `None`"):
        PairDiscriminator.from_energy(DbmModel(DbmConfig(query_size=4, response_size=4)))
    with pytest.raises(ValueError, match="with a top layer.*0 units"):
        PairDiscriminator.from_energy(energy(top_size=0))
    with pytest.raises(ValueError, match='"printed"'):
        PairDiscriminator.from_energy(energy(energy="printed"))


def test_a_mean_field_is_not_computed_in_half_precision():
    model = discriminator("dbm").float()
    query, mask = utterances(3, 6, 2)
    response, _ = utterances(2, 5, 4, seed=2)
    expected = model.body.join(model.query_features(query, mask), model.response_features(response))
    with torch.autocast("cpu", torch.bfloat16):
        vectors = model.query_features(query, mask), model.response_features(response)
        logits = model(query, mask, response).logits
    assert torch.equal(model.body.join(*vectors), expected)
    torch.testing.assert_close(logits.float(), model(query, mask, response).logits, atol=0.1, rtol=0.1)


# ---- saving ----


def test_a_saved_model_comes_back_through_the_auto_classes(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, dtype="auto")
    assert isinstance(loaded, PairDiscriminator) and AutoConfig.from_pretrained(tmp_path).to_dict() == (
        loaded.config.to_dict()
    )
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    query, mask = utterances(3, 6, 2)
    response, _ = utterances(2, 5, 4, seed=2)
    torch.testing.assert_close(loaded(query, mask, response).logits, model(query, mask, response).logits)


def test_weights_that_a_checkpoint_lacks_are_initialised(tmp_path):
    model = discriminator("both")
    kept = {name: value for name, value in model.state_dict().items() if name.startswith("head")}
    model.save_pretrained(tmp_path, state_dict=kept)
    loaded = PairDiscriminator.from_pretrained(tmp_path)
    assert all(tensor.abs().max() < 10 for tensor in loaded.state_dict().values())
    assert not loaded.body.vectors.any()


# ---- what is refused ----


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"body": "rnn"}, '`body` must be one of "cnn", "dbm", got "rnn"'),
        ({"interaction": "sum"}, "`interaction` must be one of"),
        ({"filters": 0}, "`filters` must be at least 1"),
        ({"widths": []}, "`widths` must be one or more numbers"),
        ({"widths": [2, 0]}, "`widths` must be one or more numbers"),
        ({"dropout": 1.0}, "`dropout` is a probability"),
        ({"embedding_size": -1}, "`embedding_size` must not be negative"),
        ({"embedding_size": 0}, "reads no words"),
        ({"vocab_size": 5, "eos_token_id": 5}, r"ids of the vocabulary, 0 to 4, got \[5\]"),
        ({"body": "dbm"}, "`vector_size` is 0"),
        ({"body": "dbm", "vector_size": 4, "head": "bilinear"}, '`head="bilinear"` needs'),
        ({"body": "dbm", "vector_size": 4, "energy": "rbm_pair", "visible_std": "learned"}, "`visible_std"),
    ],
)
def test_a_shape_that_makes_no_sense_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        PairDiscriminatorConfig(**fields)


def test_input_that_does_not_fit_is_refused():
    model = discriminator()
    query, response = utterances(3, 2)[0], utterances(2, 4)[0]
    certain = torch.ones(2, 3, VOCABULARY).double() / VOCABULARY
    for inputs, message in [
        ({"input_ids": query}, "Give `labels` or `response_probabilities`"),
        ({"labels": response}, "Give `input_ids` or `query_probabilities`"),
        ({"input_ids": query, "query_probabilities": certain, "labels": response}, "one of the two"),
        ({"input_ids": query, "labels": response[:1]}, "one response for each query, got 1 and 2"),
        ({"input_ids": query, "response_probabilities": certain[..., :5]}, r"\(batch, time, 12\)"),
        ({"input_ids": query[0], "labels": response}, r"\(batch, time\), got \(3,\)"),
        ({"input_ids": query, "labels": response, "response_mask": query}, r"mask of the response"),
        ({"input_ids": query, "response_probabilities": certain, "response_ids": query}, r"shape \(2, 3\) need"),
        ({"input_ids": query, "labels": response, "response_ids": query}, r"same shape, got none"),
        ({"input_ids": query + 20, "labels": response}, "vocabulary of 12 tokens, such as .*tokenizer"),
        ({"input_ids": query.clamp(min=-1), "labels": response}, "such as -1"),
        ({"input_ids": query, "response_probabilities": certain, "response_ids": certain.long() - 100}, "such as -100"),
    ]:
        with pytest.raises(ValueError, match=message):
            model(**inputs)


def test_word_vectors_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"shape \(12, 3\), got \(12, 4\)"):
        discriminator("frozen").load_vectors(torch.zeros(VOCABULARY, 4))
    with pytest.raises(ValueError, match="finite"):
        discriminator("frozen").load_vectors(torch.full((VOCABULARY, 3), torch.nan))
    with pytest.raises(ValueError, match=r"shape \(12, 5\), got \(12, 3\)"):
        discriminator("cnn").load_vectors(torch.zeros(VOCABULARY, 3))
    with pytest.raises(ValueError, match="of its energy"):
        discriminator("dbm").load_vectors(torch.zeros(VOCABULARY, 4))
    untrained = PairDiscriminator(PairDiscriminatorConfig(body="dbm", vocab_size=VOCABULARY, vector_size=3))
    with pytest.raises(ValueError, match="no word vectors yet.*from_energy"):
        untrained(utterances(2)[0], None, utterances(2)[0])


# ---- the cosine ----


@pytest.mark.parametrize("kind", ["cosine", "cosine shared"])
def test_a_cosine_compares_embeddings_of_the_two_sides(kind):
    model = discriminator(kind)
    query, response = model.query_features(*utterances(3, 5)), model.response_features(utterances(4, 2, seed=2)[0])
    embeddings = model.embed(query, response)
    assert [tuple(one.shape) for one in embeddings] == [(2, 6), (2, 6)]
    assert all(one.abs().max() < 1 for one in embeddings)
    expected = (embeddings[0] * embeddings[1]).sum(1) / (embeddings[0].norm(dim=1) * embeddings[1].norm(dim=1))
    torch.testing.assert_close(model.score(query, response), expected)
    assert expected.abs().max() <= 1


def test_shared_filters_give_equal_utterances_the_cosine_one():
    ids, mask = utterances(3, 5)
    assert discriminator("cosine shared")(ids, mask, ids).logits.tolist() == pytest.approx([1.0, 1.0])
    assert discriminator("cosine")(ids, mask, ids).logits.abs().max() < 0.999


def test_other_heads_have_no_embeddings():
    model = discriminator("bilinear")
    features = model.query_features(*utterances(3, 5))
    with pytest.raises(ValueError, match='Only the head "cosine" embeds its sides, this one is "bilinear"'):
        model.embed(features, features)
