import contextlib
import io
import json
import os
import random
import runpy
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"


@pytest.fixture(scope="session")
def write_dialogue():
    """`write_dialogue(folder, adjectives=False)`: a corpus of 40 queries with three responses each, in three splits.

    With adjectives queries and responses are of more words, and in random order.
    """

    def write(folder: Path, adjectives: bool = False):
        things, verbs = "cat dog car job tea book film bus".split(), "like hate want need sell".split()
        words, rng = "red blue old new big good dear small".split(), random.Random(0)
        rows = []
        for thing in things:
            for verb in verbs:
                first, second = rng.sample(words, 2) if adjectives else ("", "bad")
                named = f"{first} {thing}".strip()
                responses = [f"yes , i {verb} the {named} .", f"no , the {thing} is {second} .", "i am not sure ."]
                rows.append({"query": f"do you {verb} the {named} today ?", "responses": responses})
        if adjectives:
            rng.shuffle(rows)
        write_splits(folder, {"train": rows[0::2], "validation": rows[1::4], "test": rows[3::4]})

    return write


def write_splits(folder: Path, splits: dict[str, list[dict]]):
    folder.mkdir()
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="session")
def write_rows():
    """`write_rows(folder, splits)`: a corpus of rows by the name of the split."""
    return write_splits


@pytest.fixture(scope="session")
def run_script():
    """`run_script(name)`: runs a recipe in this process, with the words of `sys.argv`.

    Where it does not end well the `SystemExit` carries the last line of standard error instead of the exit code.
    """

    def run(name: str):
        errors = io.StringIO()
        try:
            with contextlib.redirect_stderr(errors):
                runpy.run_path(str(RECIPES / f"{name}.py"), run_name="__main__")
        except SystemExit as end:
            if isinstance(end.code, int) and end.code:
                raise SystemExit(errors.getvalue().strip().splitlines()[-1]) from end
            if end.code:
                raise

    return run


@pytest.fixture(scope="session")
def run_here(run_script):
    """`run_here(place, name, *words, **variables)`: what a recipe prints that is run in this process, in that folder.

    The folder is `$HF_LOCALGAN_DATA`, and holds the cache of `datasets`.
    """

    def run(place: Path, name: str, *words, **variables) -> str:
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
            patch.setattr(datasets.config, "HF_DATASETS_CACHE", place / "cache")
            patch.chdir(place)
            for variable, value in {"HF_LOCALGAN_DATA": place, "COLUMNS": "120", **variables}.items():
                patch.setenv(variable, str(value))
            patch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
            run_script(name)
        return said.getvalue()

    return run


@pytest.fixture(scope="session")
def stand_in():
    """`stand_in(place, corpus, english)`: variables for a tiny stand-in of a corpus of the LocalGAN paper.

    It writes word vectors to `place`, and Chinese pairs; the English pairs are those of a folder that is there.
    """

    def make(place: Path, corpus: str, english: Path) -> dict[str, Path]:
        words, size, vectors, data = "you hate want the cat dog today yes no", 200, "GLOVE", english
        if corpus == "weibo":
            words, size, vectors, data = "你 喜欢 今天 天气 我们 公园", 300, "WEIBO_VECTORS", place / "chinese"
            data.mkdir()
            things = "猫 狗 书 茶 车 花 鱼 鸟 山 海".split()
            rows = [
                {"query": f"你今天喜欢{a}和{b}吗", "responses": [f"我们很喜欢{a}", f"我不想要{b}了"]}
                for a in things
                for b in things
            ]
            for number, split in enumerate(("train", "validation", "test")):
                text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows[number::3])
                (data / f"{split}.jsonl").write_text(text)
        lines = [f"{word} {' '.join(['0.5', '-0.25'] * (size // 2))}" for word in words.split()]
        (place / f"{corpus}.txt").write_text("".join(f"{line}\n" for line in lines))
        return {f"HF_LOCALGAN_{corpus.upper()}": data, f"HF_LOCALGAN_{vectors}": place / f"{corpus}.txt"}

    return make


@pytest.fixture(scope="session")
def variables_of():
    """`variables_of(place)`: the environment of a process that works in that folder, as `run_here` does."""

    def variables(place: Path) -> dict[str, str]:
        return {
            **os.environ, "PYTHONPATH": str(ROOT), "HF_LOCALGAN_DATA": str(place), "OMP_NUM_THREADS": "1",
            "HF_DATASETS_CACHE": str(place / "cache"), "HF_HUB_OFFLINE": "1", "COLUMNS": "120",
        }  # fmt: skip

    return variables


@pytest.fixture(scope="session")
def run_apart(variables_of):
    """`run_apart(place, name, *words, launch=())`: what a recipe prints that is run in a process of its own, ends well.

    The words of `launch` stand between the interpreter and the script.
    """

    def run(place: Path, name: str, *words, launch: tuple[str, ...] = ()) -> str:
        done = subprocess.run(
            [sys.executable, *launch, str(RECIPES / f"{name}.py"), *map(str, words)], cwd=place,
            env=variables_of(place), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=500,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


@pytest.fixture(scope="session")
def message_of():
    """`message_of(place, recipe, *words)`: what a recipe ends with that cannot be run; it has left nothing behind."""

    def run(place: Path, recipe, *words) -> str:
        def left() -> set[Path]:
            return {path for path in place.rglob("*") if "cache" not in path.parts}

        before = left()
        with pytest.raises(SystemExit) as end:
            recipe(*words)
        assert isinstance(end.value.code, str) and "\n" not in end.value.code
        assert left() == before
        return end.value.code

    return run


@pytest.fixture(scope="session")
def shown():
    """`shown(folder)`: the names of what the TensorBoard run of an output folder shows, but for single numbers."""

    def read(folder: Path) -> set[str]:
        (run,) = (folder / "runs").iterdir()
        tags = EventAccumulator(str(run), size_guidance={"images": 0, "tensors": 0}).Reload().Tags()
        return {*tags["images"], *(name.removesuffix("/text_summary") for name in tags["tensors"])}

    return read
