"""The package as a whole: what the wheel holds, how it installs, which way imports point, what importing does."""

import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

import hf_localgan

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hf_localgan"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Later rooms may import earlier ones, and modules of one room each other, but never in a circle.
ROOMS = [
    {"connection", "functional", "files", "markdown", "options", "phones", "terminal", "text", "turns", "version"},
    {"payoff", "models"},
    {"data", "metrics"},
    {"decoding", "pipelines", "responses"},
    {"hub", "registration"},
    {"evaluation"},
    {"trainers", "annotation"},
    {"recipes", "responses"},
    {"chat"},
    {"demo"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(ROOMS) for name in names}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {module_name(path) for path in MODULES}


def imported(path: Path) -> set[str]:
    """Absolute names of the modules that a file imports, anywhere in it."""
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            inside = (f"{module}.{alias.name}" for alias in node.names)  # `from package import module`
            names |= {name if name in NAMES else module for name in inside}
    return names


# ---- imports ----


def test_every_room_has_its_place_in_the_order():
    assert {room(path) for path in MODULES} - {"__init__"} <= set(RANK)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    own = room(path)
    for name in imported(path):
        assert name.split(".")[0] not in ("recipes", "tests", "benchmarks"), name
        if name.startswith("hf_localgan.") and own != "__init__":
            other = name.split(".")[1]
            assert other == own or RANK[other] < RANK[own], f"{own} imports {other}"


def test_no_two_files_import_each_other():
    # Imports inside functions count: a circle that shows only when it is called is a circle.
    graph = {module_name(path): sorted(imported(path) & NAMES - {module_name(path)}) for path in MODULES}
    graph["hf_localgan"] = []  # it imports what it exports when that is first asked for
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("path", sorted((PACKAGE / "functional").rglob("*.py")), ids=lambda path: path.stem)
def test_the_equations_import_only_torch_numpy_and_the_standard_library(path):
    for name in imported(path):
        top = name.split(".")[0]
        assert top in sys.stdlib_module_names | {"torch", "numpy"} or name.startswith("hf_localgan.functional"), name


@pytest.mark.parametrize("path", sorted((PACKAGE / "models").glob("*/*.py")), ids=lambda path: path.stem)
def test_a_model_imports_only_torch_transformers_and_its_siblings(path):
    # so that a checkpoint can carry its own code; transformers itself depends on huggingface_hub
    allowed = sys.stdlib_module_names | {"torch", "transformers", "huggingface_hub"}
    own = f"hf_localgan.models.{path.parent.name}"
    for name in imported(path):
        assert name.split(".")[0] in allowed or name.startswith(own), name
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1 and node.module, "a sibling is imported by `from .x import y`"


def imported_on_loading(path: Path) -> set[str]:
    """Absolute names of the modules that a file imports when it is itself imported, outside of functions."""
    queue, names = list(ast.parse(path.read_text(encoding="utf-8")).body), set()
    while queue:
        node = queue.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            queue += node.orelse
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            queue += ast.iter_child_nodes(node)
    return names


@cache
def installed_packages() -> dict[str, list[str]]:
    """The distributions that hold each top-level package."""
    return importlib.metadata.packages_distributions()


def undeclared(names: set[str], requirements: list[str]) -> set[str]:
    """The packages among the names that no requirement installs."""
    declared = {canonicalize_name(re.split(r"[<>=\[ ]", line)[0]) for line in requirements}
    distributions = installed_packages()
    others = {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"hf_localgan"}
    return {
        name for name in others if not declared & {canonicalize_name(one) for one in distributions.get(name, [name])}
    }


def test_everything_that_is_imported_is_declared():
    # What comes with another package today may not come with it tomorrow.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for_users = [line for name in extras if name not in ("test", "docs") for line in extras[name]]
    named = {  # modules that `annotation_module` imports by their names
        node.args[0].value
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "annotation_module"
    }
    assert {name.split(".")[0] for name in named} == {"nltk", "openpyxl", "statsmodels"}
    everything = named.union(*map(imported, MODULES))
    assert not undeclared(everything, [*project["dependencies"], *for_users])
    assert undeclared({"numpy.linalg", "not_declared.inside"}, project["dependencies"]) == {"not_declared"}


def test_what_is_imported_on_loading_is_no_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for path in MODULES:
        assert not undeclared(imported_on_loading(path), project["dependencies"]), path


def python(code: str, *options: str, words=(), cwd=ROOT, executable=sys.executable, **environment) -> str:
    """What a new interpreter prints; `words` are its arguments."""
    path = {"PYTHONPATH": str(ROOT)} if executable == sys.executable else {}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [executable, *options, "-c", code, *words], cwd=cwd, env={**kept, **path, **environment}, text=True,
        capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_equations_run_in_an_interpreter_that_has_no_transformers():
    code = """
import sys, types
package = types.ModuleType("hf_localgan")
package.__path__ = ["hf_localgan"]  # the folder without its __init__
sys.modules["hf_localgan"] = package
for name in ("transformers", "datasets", "evaluate", "accelerate", "sklearn"):
    sys.modules[name] = None
import hf_localgan.functional
print(sorted(name for name in sys.modules if name.startswith("hf_localgan.") and "functional" not in name))
"""
    assert python(code).strip() == "[]"


def test_importing_reaches_for_no_network_and_loads_nothing_optional():
    modules = [
        f"hf_localgan.{name}" for name in sorted(RANK) if (PACKAGE / name).is_dir() and any((PACKAGE / name).iterdir())
    ]
    code = f"""
import importlib, socket, sys
def closed(*args, **kwargs):
    raise AssertionError("a socket was opened")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = closed
for name in {modules!r}:
    importlib.import_module(name)
import hf_localgan.cli
print(sorted(set(sys.modules) & {{"jieba", "matplotlib", "trackio", "tensorboard", "hf_localgan.chat"}}))
"""
    assert python(code).strip() == "[]"


# Each order in a process of its own. What transformers itself builds on is the same in all of them and takes longer to
# load than the rest, so one process loads it, and the others are its copies.
COPIES = """
import json, os, sys, tempfile, traceback
import accelerate, datasets, scipy.stats, sklearn.metrics, torch._dynamo, torch.distributed.checkpoint
import torch.distributed.fsdp
assert not {"transformers", "hf_localgan"} & set(sys.modules)
said = []
for code in json.loads(sys.argv[1]):
    with tempfile.TemporaryFile() as file:
        child = os.fork()
        if not child:
            os.dup2(file.fileno(), 1)
            try:
                exec(compile(code, "code", "exec"), {"__name__": "__main__"})
            except BaseException:
                traceback.print_exc(file=sys.stdout)
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)
        file.seek(0)
        said.append(file.read().decode())
print(json.dumps(said))
"""
BEFORE = ["", "AutoConfig", "pipeline"]
BEFORE_CODE = """
import hf_localgan
from transformers import AutoConfig, AutoModelForSeq2SeqLM
config = AutoConfig.for_model("rnn_seq2seq", vocab_size=9, embedding_size=2, hidden_size=2)
print(type(AutoModelForSeq2SeqLM.from_config(config)).__name__)
from transformers.pipelines import PIPELINE_REGISTRY
print("text2text-generation" in PIPELINE_REGISTRY.get_supported_tasks())
"""
NEXT = [
    "from transformers import pipeline",
    "from transformers import AutoModelForSeq2SeqLM",
    "from transformers import Seq2SeqTrainer",
    "import hf_localgan.models",
    "import hf_localgan.data",
]
NEXT_CODE = """
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.pipelines import PIPELINE_REGISTRY
print("rnn_seq2seq" in CONFIG_MAPPING, "text2text-generation" in PIPELINE_REGISTRY.get_supported_tasks())
"""
ORDERS = {name: f"from transformers import {name}\n{BEFORE_CODE}" if name else BEFORE_CODE for name in BEFORE}
ORDERS |= {line: f"import hf_localgan\n{line}\n{NEXT_CODE}" for line in NEXT}


@pytest.fixture(scope="module")
def in_order() -> dict[str, str]:
    """What was printed after the imports of each of `ORDERS`."""
    if not hasattr(os, "fork"):
        return {name: python(code) for name, code in ORDERS.items()}
    said = json.loads(python(COPIES, words=[json.dumps(list(ORDERS.values()))]).splitlines()[-1])
    return dict(zip(ORDERS, said, strict=True))


@pytest.mark.parametrize("before", BEFORE)
def test_models_and_pipelines_are_known_whichever_is_imported_first(before, in_order):
    assert in_order[before].split() == ["RnnSeq2SeqForConditionalGeneration", "True"], in_order[before]


@pytest.mark.parametrize("next_import", NEXT)
def test_whatever_is_imported_next_comes_without_an_error(next_import, in_order):
    """Each of these loads the modules of transformers in another order, and with them the rooms that wait for them."""
    assert in_order[next_import].split() == ["True", "True"], in_order[next_import]


def test_importing_the_package_imports_neither_torch_nor_transformers():
    assert python("import sys, hf_localgan; print({'torch', 'transformers'} & set(sys.modules))").strip() == "set()"


@pytest.mark.parametrize("name", ["data", "evaluation", "trainers", "recipes", "commands.train_localgan", "cli"])
@pytest.mark.slow
def test_a_module_can_be_imported_first(name):
    python(f"import hf_localgan.{name}")


# ---- build ----


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The folder with the wheel and the source distribution, and nothing that the build left in the repository."""
    before = set(ROOT.iterdir())
    folder = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--wheel",
        "--sdist",
        "--outdir",
        str(folder),
        str(ROOT),
    ]
    environment = {**os.environ, "REPO_URL": "https://example.org/someone/fork", "SITE_URL": "https://example.org/"}
    done = subprocess.run(command, text=True, capture_output=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(ROOT.iterdir()) == before
    return folder


@pytest.fixture(scope="session")
def wheel(built) -> Path:
    (path,) = built.glob("*.whl")
    return path


def test_the_wheel_holds_the_package_its_corpus_its_metrics_and_the_licence(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = f"hf_localgan-{hf_localgan.__version__}.dist-info"
    files = {path.relative_to(ROOT).as_posix() for path in MODULES}
    corpus = {
        f"hf_localgan/data/smalltalk/{name}" for name in ("train.jsonl", "validation.jsonl", "test.jsonl", "README.md")
    }
    modules = {path.relative_to(ROOT).as_posix() for path in (PACKAGE / "metrics" / "modules").glob("*/*.py")}
    assert len(modules) >= 5
    defaults = {f"hf_localgan/commands/smalltalk/{path.name}" for path in (ROOT / "recipes/smalltalk").glob("*.yaml")}
    assert len(defaults) >= 6 and defaults == {name for name in names if name.endswith(".yaml")}
    others = {
        "hf_localgan/annotation/page.html",
        "hf_localgan/py.typed",
        "hf_localgan/hub/templates/model_card.md.jinja",
        f"{info}/licenses/LICENSE",
    }
    assert files | corpus | modules | others <= names
    assert not [name for name in names if not name.startswith(("hf_localgan/", f"{info}/"))]
    assert not [name for name in names if "__pycache__" in name or "/test_" in name]
    assert wheel.stat().st_size < 3_000_000


def test_the_wheel_is_described_as_the_project_is(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        described = archive.read(name).decode()
        (name,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "hf-localgan = hf_localgan.cli:main" in archive.read(name).decode()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"Version: {hf_localgan.__version__}\n" in described and "License-Expression: Apache-2.0\n" in described
    assert "Author: The hf_localgan maintainers\n" in described
    for url in (
        "Source, https://example.org/someone/fork", "Issues, https://example.org/someone/fork/issues",
        "Changelog, https://example.org/someone/fork/blob/main/CHANGELOG.md", "Documentation, https://example.org/",
        "RAML paper, https://arxiv.org/abs/1609.00150",
    ):  # fmt: skip
        assert f"Project-URL: {url}\n" in described
    for extra in project["optional-dependencies"]:
        assert f"Provides-Extra: {extra}\n" in described
    required = {canonicalize_name(name) for name in re.findall(r"^Requires-Dist: ([\w.-]+)", described, re.MULTILINE)}
    assert {canonicalize_name(re.match(r"[\w.-]+", needed)[0]) for needed in project["dependencies"]} <= required


def test_an_editable_installation_leaves_one_copy_of_everything(tmp_path):
    """Only the path to the repository: what lies elsewhere in a wheel is found in the repository itself."""
    code = f"from hatchling.build import build_editable; print(build_editable({str(tmp_path)!r}))"
    with zipfile.ZipFile(tmp_path / python(code).strip()) as archive:
        (name,) = (name for name in archive.namelist() if ".dist-info/" not in name)
        assert archive.read(name).decode() == str(ROOT)


def test_the_source_distribution_holds_recipes_and_tests_too(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "Makefile", "constraints.txt"} <= names
    assert {"recipes/train_mle.py", "recipes/smalltalk/mle.yaml", "tests/test_package.py"} <= names
    assert {"hf_localgan/data/smalltalk/train.jsonl", "docs/localgan.md", "benchmarks/run.py", "mkdocs.yml"} <= names
    assert {f"model_cards/{path.name}" for path in (ROOT / "model_cards").glob("*.md")} <= names
    assert {"CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", ".ci/run", ".ci/wheel"} <= names
    assert not [name for name in names if name.startswith((".venv", "runs", ".git/")) or "__pycache__" in name]


def clean_environment(folder: Path, *pip_options: str) -> tuple[str, Path]:
    """A new virtual environment with what pip was told to install; its interpreter and its folder for packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    interpreter = str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")
    command = [sys.executable, "-m", "pip", "--python", interpreter, "install", "--quiet", *pip_options]
    done = subprocess.run(command, text=True, capture_output=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return interpreter, Path(
        python("import sysconfig; print(sysconfig.get_path('purelib'))", executable=interpreter).strip()
    )


USE = """
import importlib.metadata, json
import hf_localgan
from hf_localgan.data import load_pairs
from hf_localgan.metrics import module_path, module_names
from transformers import AutoConfig
import hf_localgan.models
pairs = load_pairs("smalltalk")
print(json.dumps({
    "file": hf_localgan.__file__,
    "version": hf_localgan.__version__,
    "metadata": importlib.metadata.version("hf-localgan"),
    "pairs": len(pairs["test"]),
    "modules": [str(module_path(name)) for name in module_names()],
    "model": AutoConfig.for_model("rnn_seq2seq").hidden_size,
}))
"""


def check_installed(interpreter: str, folder: Path, cwd: Path):
    """The installed package, from outside the repository: version, corpus, metrics, models, command."""
    cache = {"HF_DATASETS_CACHE": str(cwd / "cache"), "HF_HUB_OFFLINE": "1"}
    found = json.loads(python(USE, "-I", executable=interpreter, cwd=cwd, **cache).splitlines()[-1])
    assert Path(found["file"]).is_relative_to(folder)
    assert found["version"] == found["metadata"] == hf_localgan.__version__
    assert found["pairs"] > 2_000 and found["model"] == 256
    assert all(Path(path).exists() and Path(path).is_relative_to(folder) for path in found["modules"])
    command = Path(interpreter).with_name("hf-localgan")
    said = subprocess.run([str(command), "--version"], cwd=cwd, text=True, capture_output=True, check=True).stdout
    assert said == f"hf-localgan {hf_localgan.__version__}\n"


def test_the_wheel_works_in_an_environment_of_its_own(wheel, tmp_path):
    interpreter, folder = clean_environment(tmp_path / "venv", "--no-deps", "--no-index", str(wheel))
    # What the package depends on is taken from here. A folder named in a .pth file is searched for modules, but .pth
    # files inside it, such as that of an editable install, are not read.
    (folder / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    check_installed(interpreter, folder, tmp_path)


@pytest.mark.slow
def test_the_wheel_installs_with_all_it_depends_on(wheel, tmp_path):
    constraints = ROOT / "constraints.txt"
    interpreter, folder = clean_environment(tmp_path / "venv", "--constraint", str(constraints), str(wheel))
    check_installed(interpreter, folder, tmp_path)


def test_the_installed_version_is_that_of_the_source():
    try:
        installed = importlib.metadata.version("hf-localgan")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed, only importable")
    assert installed == hf_localgan.__version__


# ---- version ----


def test_the_version_stands_in_one_place_and_has_a_heading_in_the_changelog():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"] and "version" not in project["project"]
    assert project["tool"]["hatch"]["version"]["path"] == "hf_localgan/version.py"
    release = Version(hf_localgan.__version__)
    # As on https://keepachangelog.com: `## [Unreleased]`, and `## [1.0.0] - 2026-01-31` once a version is out.
    headings = re.findall(r"^## \[(\S+)\](?: - (.+))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert (headings[0] == ("Unreleased", "")) == release.is_devrelease
    released = headings[release.is_devrelease :]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", date) for _, date in released)
    versions = [release, *(Version(name) for name, _ in released[not release.is_devrelease :])]
    assert versions == sorted(set(versions), reverse=True)
    assert release.is_devrelease or released[0][0] == str(release)
