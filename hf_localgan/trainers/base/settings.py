"""What a model card says that nothing else knows."""

from dataclasses import dataclass, field


@dataclass
class CardArguments:
    """Fields of every configuration of the package, for the metadata of the model card."""

    card_language: None | str | list[str] = field(
        default=None,
        metadata={"help": "Languages of the model card, such as `en`. Recipes of dialogue know that of their data."},
    )
    card_license: str | None = field(
        default=None,
        metadata={"help": "Licence of the weights on the model card, as the Hub writes it, such as `cc-by-4.0`."},
    )
    card_datasets: None | str | list[str] = field(
        default=None, metadata={"help": "Data sets on the model card, by their ids on the Hub."}
    )
