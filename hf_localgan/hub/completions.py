"""The generations of an evaluation as a data set, in a folder and on the Hub."""

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet
from huggingface_hub import CommitInfo, DatasetCard, DatasetCardData, HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from jinja2 import Environment, FileSystemLoader

from hf_localgan.files import replacing
from hf_localgan.hub.rendering import HUB_ID, NAME, TEMPLATES, data_names, hub_id, languages, weights_digest
from hf_localgan.hub.upload import create_repository, push_folder, upload_error
from hf_localgan.markdown import markdown_cell
from hf_localgan.version import __version__

SMALLTALK, SMALLTALK_LICENSE = "smalltalk", "cc0-1.0"
UNKNOWN = "unknown"  # the Hub's identifier for it
# Facts of an evaluation that the card tells elsewhere.
SHOWN_ELSEWHERE = ("model", "dataset", "split")
ADVICE = "The generations are in the folder of the evaluation: push them again by `hf_localgan.hub.push_completions`."


class _Words(NamedTuple):
    """What the columns of an evaluation hold, by its sort."""

    queries: str
    query: str
    references: str
    answer: str
    task: str


WORDS = {
    "dialogue": _Words("queries", "what is answered", "responses of the data set", "response", "text-generation"),
    "translation": _Words("sentences", "what is translated", "translations of the data set", "translation",
                          "translation"),
    "recognition": _Words("utterances", "name of the utterance", "transcript of the data set", "transcript",
                          "automatic-speech-recognition"),
}  # fmt: skip


class CompletionsColumn(NamedTuple):
    """A column of generations: the decoding's name and its arguments of `generate`, as text."""

    name: str
    settings: str


def known_license(
    dataset: str | None, given: str | None = None, *, token: str | bool | None = None, api: HfApi | None = None
) -> str:
    """The licence of the texts of a data set, which a data set of generations passes on.

    Args:
        dataset: `smalltalk`, an id on the Hub, whose card is asked, or the name of a file or folder.
        given: what the user says, which wins. `unknown` is accepted: then the card says so.
        token: by default the one that `hf auth login` stored.
        api: the client.

    Raises:
        ValueError: where nobody says it, with what to do.
    """
    if given is not None:
        return given
    if dataset == SMALLTALK:
        return SMALLTALK_LICENSE
    if hub_id(dataset) is not None:
        assert dataset is not None
        try:
            card = (api or HfApi()).dataset_info(dataset, token=token).card_data
        except RepositoryNotFoundError:
            card = None
        except Exception as error:
            raise upload_error(
                error, dataset, "Or say its licence by `completions_license`.", "cannot be read"
            ) from error
        stated = None if card is None else card.get("license")
        if isinstance(stated, list):
            stated = stated[0] if len(stated) == 1 else None
        if stated and stated != UNKNOWN:
            return str(stated)
    raise ValueError(
        f'The licence of the data set "{dataset}" is not known, and the generations would be published with its '
        "queries and references. Say it by `completions_license`, in the Hub's spelling, such as `cc-by-4.0`; or "
        f"`{UNKNOWN}`, if you may publish them all the same."
    )


def write_completions(
    folder: str | Path,
    source: Any,
    *,
    license: str,
    repo_id: str | None = None,
    model_id: str | None = None,
    language: str | Sequence[str] | None = None,
) -> Path:
    """Writes the generations of an evaluation as a data set that `datasets.load_dataset` reads: parquet and a card.

    A row for each query: `query`, `references`, and the generation under each decoding in a column of its name.

    Args:
        folder: made where it is missing; files of the same names are replaced.
        source: the folder that an evaluation was written to, or an `Evaluation`.
        license: of the data set's texts, see `known_license`.
        repo_id: id of this data set, for its example code; by default the folder.
        model_id: `owner/name` of the model; by default its name in the evaluation, which is then no link.
        language: of the texts, such as `en`.

    Returns:
        The folder.

    Raises:
        ValueError: for a folder without an evaluation, and for generations of other weights than those beside them.
    """
    folder = Path(folder)
    content, table = _read(source)
    about = dict(content["about"])
    words = WORDS.get(content.get("kind", "dialogue"), WORDS["dialogue"])
    split = re.sub(r"[^\w.]+", "_", str(about.get("split") or "test")).strip("._") or "test"
    dataset, ids = data_names(about.get("dataset"), None)
    model = model_id or str(about.get("model") or "a model")
    columns = [
        CompletionsColumn(name, _settings_text(entry.get("generate", {})))
        for name, entry in content["decodings"].items()
    ]
    place = f"data/{split}-00000-of-00001.parquet"
    data = DatasetCardData(
        license=license, language=languages(language), pretty_name=f"Generations of {model.split('/')[-1]}",
        task_categories=[words.task], source_datasets=[f"extended|{name}" for name in ids] or None,
        tags=["hf-localgan", "generations"],
        configs=[{"config_name": "default", "data_files": [{"split": split, "path": place}]}],
    )  # fmt: skip
    text = Environment(loader=FileSystemLoader(TEMPLATES)).get_template("completions_card.md.jinja").render(
        card_data=data.to_yaml(), title=f"Generations of {model.split('/')[-1]}", model=model,
        model_id=model_id if model_id and HUB_ID.fullmatch(model_id) else None, rows=table.num_rows, words=words,
        split=split, dataset=dataset or "a data set", dataset_id=ids[0] if ids else None,
        repo_id=repo_id or folder.resolve().name, columns=columns, license=license, version=__version__,
        about={name: value for name, value in about.items() if name not in SHOWN_ELSEWHERE},
    )  # fmt: skip
    with replacing(folder / place) as path:
        pyarrow.parquet.write_table(table, path)
    with replacing(folder / NAME) as path:
        path.write_text(str(DatasetCard(text)).rstrip() + "\n", encoding="utf-8")
    return folder


def push_completions(
    source: Any,
    repo_id: str,
    *,
    license: str | None = None,
    private: bool | None = True,
    model_id: str | None = None,
    language: str | Sequence[str] | None = None,
    token: str | bool | None = None,
    api: HfApi | None = None,
) -> CommitInfo:
    """Uploads the generations of an evaluation to a data set on the Hub, by one commit.

    ```python
    push_completions("runs/smalltalk-mle", "your-name/smalltalk-mle-generations")
    ```

    Args:
        source, model_id, language: as in `write_completions`.
        repo_id: `owner/name`; made where it is missing.
        license: of the data set's texts; by default `known_license`.
        private: whether a new repository is.
        token: with write permission; by default the one that `hf auth login` stored.
        api: the client.

    Raises:
        ValueError: as `write_completions` and `known_license`, before anything is made.
        UploadError: names the repository and what to do.
    """
    api = api or HfApi(library_name="hf_localgan")
    content, _ = _read(source)
    name, license = prepare_completions(
        repo_id, content["about"].get("dataset"), license=license, private=private, token=token, api=api
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_completions(
            temporary, source, license=license, repo_id=name, model_id=model_id, language=language
        )
        return push_folder(
            folder, name, message="Generations", token=token, repo_type="dataset", whole=("data",), advice=ADVICE,
            api=api,
        )  # fmt: skip


def prepare_completions(
    repo_id: str,
    dataset: str | None,
    *,
    license: str | None = None,
    private: bool | None = True,
    token: str | bool | None = None,
    api: HfApi | None = None,
) -> tuple[str, str]:
    """Refuses now what would refuse the upload of generations after the training, and makes their repository.

    Args:
        repo_id, license, private, token, api: as in `push_completions`.
        dataset: the data set whose split will be answered.

    Returns:
        The full id of the repository, and the licence.

    Raises:
        ValueError, UploadError: as `push_completions`.
    """
    license = known_license(dataset, license, token=token, api=api)
    advice = "Nothing was uploaded. Or leave out `completions_to`."
    name = create_repository(repo_id, token=token, private=private, repo_type="dataset", advice=advice, api=api)
    return name, license


def _read(source: Any) -> tuple[Mapping[str, Any], pyarrow.Table]:
    """Content of `evaluation.json`, and the generations."""
    if not isinstance(source, (str, Path)):
        return source.to_dict(), pyarrow.table(
            {"query": source.queries, "references": source.references, **source.answers}
        )
    folder = Path(source)
    files = [folder / "evaluation.json", folder / "generations.parquet"]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise ValueError(
            f'"{folder}" holds no generations: it has no {" and no ".join(missing)}. Name the output folder of a '
            "training of a generator, or of `hf-localgan evaluate`."
        )
    try:
        content, table = json.loads(files[0].read_text(encoding="utf-8")), pyarrow.parquet.read_table(files[1])
    except (ValueError, OSError) as error:
        raise ValueError(f'The evaluation in "{folder}" cannot be read: {error}. Evaluate anew.') from error
    weights = weights_digest(folder)
    if weights is not None and content["about"].get("weights", weights) != weights:
        raise ValueError(
            f'The generations in "{folder}" are of other weights than those that lie there now. Evaluate anew: '
            f"`hf-localgan evaluate {folder} DATASET`."
        )
    return content, table


def _settings_text(settings: Mapping[str, Any]) -> str:
    return markdown_cell(", ".join(f"{name}={value}" for name, value in settings.items()))
