"""What the package trains for: a description, tags and citations of each objective, for model cards."""

from typing import NamedTuple

_LOCALGAN = """@unpublished{localgan2020,
  title = {{LocalGAN}: Modeling Local Distributions for Adversarial Response Generation},
  author = {Xu, Zhen and Wang, Baoxun and Zhang, Huan and Qiu, Kexin and Zhang, Deyuan and Sun, Chengjie},
  note = {Submission to the International Conference on Learning Representations},
  year = {2020}
}
@article{localgan2021,
  title = {{LocalGAN}: Modeling Local Distributions for Adversarial Response Generation},
  author = {Wang, Baoxun and Xu, Zhen and Zhang, Huan and Qiu, Kexin and Zhang, Deyuan and Sun, Chengjie},
  journal = {Journal of Machine Learning Research},
  volume = {22},
  pages = {1--29},
  year = {2021}
}"""
_DBM = """@inproceedings{salakhutdinov2009dbm,
  title = {Deep {Boltzmann} Machines},
  author = {Salakhutdinov, Ruslan and Hinton, Geoffrey},
  booktitle = {International Conference on Artificial Intelligence and Statistics},
  year = {2009}
}"""
_GAN_AEL = """@inproceedings{xu2017ganael,
  title = {Neural Response Generation via {GAN} with an Approximate Embedding Layer},
  author = {Xu, Zhen and Liu, Bingquan and Wang, Baoxun and Sun, Chengjie and Wang, Xiaolong and Wang, Zhuoran
            and Qi, Chao},
  booktitle = {Empirical Methods in Natural Language Processing},
  year = {2017}
}"""
_RAML = """@inproceedings{norouzi2016raml,
  title = {Reward Augmented Maximum Likelihood for Neural Structured Prediction},
  author = {Norouzi, Mohammad and Bengio, Samy and Chen, Zhifeng and Jaitly, Navdeep and Schuster, Mike and Wu, Yonghui
            and Schuurmans, Dale},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2016}
}"""
_REINFORCE = """@article{williams1992reinforce,
  title = {Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning},
  author = {Williams, Ronald J.},
  journal = {Machine Learning},
  year = {1992}
}"""
_CNN = """@inproceedings{kim2014cnn,
  title = {Convolutional Neural Networks for Sentence Classification},
  author = {Kim, Yoon},
  booktitle = {Empirical Methods in Natural Language Processing},
  year = {2014}
}"""
_SEQ2SEQ = """@inproceedings{sutskever2014seq2seq,
  title = {Sequence to Sequence Learning with Neural Networks},
  author = {Sutskever, Ilya and Vinyals, Oriol and Le, Quoc V.},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2014}
}"""


class Objective(NamedTuple):
    """One objective.

    Attributes:
        name: as cards write it.
        tag: on the Hub.
        trainer: the class that trains for it, and its configuration.
        description: one or two sentences.
        citations: BibTeX entries, the method's own first.
    """

    name: str
    tag: str
    trainer: str
    description: str
    citations: tuple[str, ...]


OBJECTIVES = {
    one.name.lower(): one
    for one in (
        Objective(
            "maximum likelihood", "maximum-likelihood", "MleTrainer",
            "The log-likelihood of the references, token by token.", (_SEQ2SEQ,),
        ),
        Objective(
            "RAML", "raml", "RamlTrainer",
            "Reward augmented maximum likelihood: the log-likelihood of outputs drawn around the references, in "
            "proportion to their exponentiated reward.", (_RAML,),
        ),
        Objective(
            "expected reward", "expected-reward", "ExpectedRewardTrainer",
            "The expected reward of the model's own outputs and their entropy, by policy gradient.",
            (_RAML, _REINFORCE),
        ),
        Objective(
            "GAN-AEL", "gan-ael", "GanAelTrainer",
            "Trained against a discriminator that tells the generator's responses from the references, whose gradient "
            "reaches the generator through approximate embeddings of its tokens.", (_GAN_AEL,),
        ),
        Objective(
            "LocalGAN", "localgan", "LocalGanTrainer",
            "Trained against a discriminator, and at the distance from the centre of a query's responses at which the "
            "references lie, as the free energy of a deep Boltzmann machine measures it.", (_LOCALGAN, _DBM),
        ),
    )
}  # fmt: skip


# What is trained beside generators, whose cards have templates of their own.
ENERGY = Objective(
    "deep Boltzmann machine", "deep-boltzmann-machine", "DbmTrainer",
    "The log-likelihood of the vectors of queries and their responses, layer by layer and then all layers together.",
    (_DBM, _LOCALGAN),
)  # fmt: skip
MATCHING = Objective(
    "matching", "response-matching", "MatchingTrainer",
    "Telling responses from the data from the same queries with responses of other queries: the cross-entropy of both.",
    (_LOCALGAN, _CNN),
)  # fmt: skip


def objective_of(trainer: type) -> Objective | None:
    """What a trainer's class, or the nearest class above it that is the package's, trains for; `None` for others."""
    known = {one.trainer: one for one in (*OBJECTIVES.values(), ENERGY, MATCHING)}
    known["TokenLossTrainer"] = OBJECTIVES["maximum likelihood"]
    return next((known[kind.__name__] for kind in trainer.__mro__ if kind.__name__ in known), None)


def find_objective(name: str) -> Objective:
    """The objective of this name, whatever its case.

    Raises:
        ValueError: if there is none.
    """
    found = OBJECTIVES.get(name.lower())
    if found is None:
        names = ", ".join(f'"{one.name}"' for one in OBJECTIVES.values())
        raise ValueError(f'`objective` must be one of {names}, got "{name}".')
    return found
