import pytest
import torch
import torch.nn.functional as F

from hf_localgan import DbmConfig, DbmModel


@pytest.fixture(scope="session")
def tiny_energy():
    """`tiny_energy(seed=0, scale=1.0, bias=1.0, **fields)`: an energy of 3 + 3 dimensions, 5 and 4 binary units.

    Its couplings and biases are normal with these standard deviations.
    """

    def build(seed: int = 0, scale: float = 1.0, bias: float = 1.0, **fields) -> DbmModel:
        shape = {"query_size": 3, "response_size": 3, "hidden_size": 5, "top_size": 4, **fields}
        with torch.random.fork_rng(), torch.no_grad():
            model = DbmModel(DbmConfig(**shape)).eval()
            torch.manual_seed(seed)
            for name, parameter in model.named_parameters():
                parameter.normal_(std=0.2 if name == "visible_log_std" else scale if "_to_" in name else bias)
        return model

    return build


@pytest.fixture(scope="session")
def matched_energy(tiny_energy):
    """An energy under which a response says much of its query: every hidden unit is as often on as off, about."""
    model = tiny_energy(seed=1, scale=1.5, bias=0.3)
    with torch.no_grad():
        model.hidden_bias.copy_(-model.visible_to_hidden.square().sum(dim=1) / 2)
    return model


@pytest.fixture(scope="session")
def drawn_pairs():
    """`drawn_pairs(model, queries, responses=3, seed=0)`: rows of vectors, exact and independent draws of the model.

    For unit standard deviations. With the visible units `v` of the one side integrated out,
    `ln p(hq) = hq' (c1 + W b) + |W' hq|^2 / 2 + sum softplus(U hq + c2)`, where known ones put `W v` in instead.
    """

    def draw(model: DbmModel, queries: int, responses: int = 3, seed: int = 0) -> list[dict]:
        generator, states = torch.Generator().manual_seed(seed), model.hidden_states()
        sides = model.visible_to_hidden.detach().split([3, 3], dim=1)
        biases = model.visible_bias.detach().split([3, 3])
        squares = [(states @ side).square().sum(dim=1) / 2 for side in sides]
        own = states @ model.hidden_bias + F.softplus(states @ model.hidden_to_top.T + model.top_bias).sum(dim=1)
        free = [states @ sides[side] @ biases[side] + squares[side] for side in (0, 1)]

        def visible(logits, side):
            hidden = states[torch.multinomial(logits.softmax(dim=-1), 1, generator=generator).squeeze(-1)]
            mean = biases[side] + hidden @ sides[side]
            return mean + torch.empty_like(mean).normal_(generator=generator)

        with torch.no_grad():
            query = visible((own + free[0] + free[1]).expand(queries, -1), 0)
            known = own + query @ sides[0].T @ states.T + free[1]
            return [
                {"query_features": q, "response_features": r}
                for _ in range(responses)
                for q, r in zip(query.tolist(), visible(known, 1).tolist(), strict=True)
            ]

    return draw


@pytest.fixture
def text_energy(tiny_energy):
    """`text_energy(**fields)`: the same with random word vectors of the tiny tokenizer's tokens, scalers not fitted.

    The words `?`, `.` and `!` (ids 17 to 19) have no vector.
    """

    def build(seed: int = 0, **fields) -> DbmModel:
        model = tiny_energy(seed, vocab_size=20, **fields)
        vectors = torch.randn(20, 3, generator=torch.Generator().manual_seed(seed))
        model.word_vectors.load(vectors, range(4, 17))
        return model

    return build
