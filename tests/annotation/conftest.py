"""Small annotations: systems that answer the same queries, their sheets, and people who fill them in."""

import numpy as np
import pytest

from hf_localgan.annotation import Study, System, make_study

WORDS = "tea milk cup rain sun wind bus train boat red blue green".split()
QUERIES = [f"what about {word} ?" for word in WORDS]
REFERENCES = [[f"{word} is nice", f"i like {word} , really"] for word in WORDS]


@pytest.fixture
def systems() -> list[System]:
    """Three systems; the second gives the first one's answer to every other query."""
    first = [f"=1+1 {word}" for word in WORDS]
    second = [answer if index % 2 else f"no {WORDS[index]}" for index, answer in enumerate(first)]
    return [System("alpha", first), System("beta", second), System("gamma", ["i do not know"] * len(WORDS))]


@pytest.fixture
def study(systems) -> Study:
    """Ten of the queries, three people."""
    return make_study(QUERIES, REFERENCES, systems, query_count=10, annotators=3, control_share=0.5, repeat_share=0.2)


@pytest.fixture
def fill():
    """`fill(study, folder, answers)`: writes filled sheets.

    `answers(person, item, question)` gives 0, 1 or `None`; the person is counted from 0.
    """

    def run(study: Study, folder, answers, suffix=".csv"):
        folder.mkdir(exist_ok=True)
        paths = []
        for person, (name, rows) in enumerate(study.sheets.items()):
            sheet = study.sheet(name)
            for row, known in zip(sheet.rows, rows, strict=True):
                row.answers = {
                    question.name: answers(person, study.items[known.item], question.name)
                    for question in study.questions
                }
            paths.append(folder / f"{name}{suffix}")
            sheet.write_csv(paths[-1]) if suffix == ".csv" else sheet.write_xlsx(paths[-1])
        return paths

    return run


@pytest.fixture
def simulated():
    """`simulated(rng, rates, kappa, people, queries)`: answers of exchangeable people, shape `(people, queries)` each.

    A response's probability of a yes is drawn from the Beta law with mean `rate` and intraclass correlation `kappa`.
    """

    def run(rng: np.random.Generator, rates, kappa: float, people: int, queries: int):
        both = 1 / kappa - 1
        chances = [rng.beta(rate * both, (1 - rate) * both, size=queries) for rate in rates]
        return [(rng.random((people, queries)) < chance).astype(float) for chance in chances]

    return run
