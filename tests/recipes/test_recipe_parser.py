"""Settings of a recipe: a YAML file, the command line that wins over it, and what both refuse."""

import re
from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal

import pytest

from hf_localgan.recipes import (
    DataArguments,
    DiscriminatorArguments,
    EnergyArguments,
    EvaluationArguments,
    GeneratorArguments,
    ModelArguments,
    RecipeParser,
    StageArguments,
    TokenizerArguments,
    expand_path,
    read_config,
)
from hf_localgan.trainers import LocalGanConfig, MleConfig

OWN = (DataArguments, TokenizerArguments, GeneratorArguments, EvaluationArguments)


@dataclass
class Numbers:
    """Every kind of field that a YAML file can hold."""

    _argument_group_name: ClassVar[str] = "numbers"

    rate: float = field(default=0.5, metadata={"help": "Grows by 3 %."})
    steps: int = field(default=1, metadata={"help": "How many."})
    quiet: bool = field(default=False, metadata={"help": "Say nothing."})
    loud: bool = field(default=True, metadata={"help": "Say all."})
    name: str = field(default="none", metadata={"help": "Of the run."})
    limit: int | None = field(default=None, metadata={"help": "Stop there."})
    widths: list[int] = field(default_factory=lambda: [5], metadata={"help": "Of beams."})
    trackers: None | str | list[str] = field(default="none", metadata={"help": "One or several."})


@pytest.fixture
def read(tmp_path):
    """`read(yaml, *options)`: what `Numbers` becomes."""

    def run(text: str, *options: str) -> Numbers:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return RecipeParser(Numbers).read([str(path), *options])[0]

    return run


def test_without_a_file_the_defaults_hold():
    assert RecipeParser(Numbers).read([]) == (Numbers(),)


def test_the_default_file_is_read_when_none_is_named_and_only_then(tmp_path):
    for name, steps in (("default.yaml", 3), ("other.yaml", 4)):
        (tmp_path / name).write_text(f"steps: {steps}")
    parser = RecipeParser(Numbers, default_config=tmp_path / "default.yaml")
    assert parser.read([])[0].steps == 3
    assert parser.read(["--rate", "1"])[0] == Numbers(rate=1.0, steps=3)
    assert parser.read([str(tmp_path / "other.yaml")])[0].steps == 4


def test_the_command_line_wins_over_the_file(read):
    given = read("steps: 3\nrate: 0.25\nwidths: [2, 3]", "--steps", "9", "--widths", "7")
    assert given == Numbers(steps=9, rate=0.25, widths=[7])


@pytest.mark.parametrize("none", ["none", "None", "NONE"])
def test_none_takes_back_what_the_file_says_of_an_optional_field(none):
    @dataclass
    class Optional:
        limit: int | None = field(default=None, metadata={"help": "Stop there."})
        quiet: bool | None = field(default=None, metadata={"help": "Say nothing."})
        path: str | None = field(default=None, metadata={"help": "Where."})
        beams: list[int] | None = field(default=None, metadata={"help": "How many."})
        start: Literal["fork", "spawn"] | None = field(default=None, metadata={"help": "Of workers."})

    def read(*options):
        return RecipeParser(Optional).read(options)[0]

    given = ["--limit=3", "--quiet=true", "--path=x", "--beams", "2", "5", "--start=fork"]
    assert read(*given) == Optional(3, True, "x", [2, 5], "fork")
    names = [one.name for one in fields(Optional)]
    assert read(*given, *(word for name in names for word in (f"--{name}", none))) == Optional()
    assert read(*given, *(f"--{name}={none}" for name in names)) == Optional()


def test_none_is_refused_where_a_value_is_needed_and_among_others(capsys, read):
    for options in (["--steps", "none"], ["--widths", "none"]):
        with pytest.raises(SystemExit):
            read("steps: 3", *options)
        assert "none" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        RecipeParser(*OWN).read(["--beams", "2", "none"])
    assert "--beams: `none` stands alone, got it among 2 values" in capsys.readouterr().err


def test_none_stays_a_word_where_it_is_one(read):
    assert read("trackers: tensorboard\nname: run", "--trackers", "none", "--name", "none") == Numbers()
    assert RecipeParser(MleConfig).read(["--output_dir=unused", "--use_cpu", "--report_to", "none"])[0].report_to == []


def test_an_option_takes_back_its_alternative_of_the_file(tmp_path):
    @dataclass
    class Speed:
        _argument_alternatives: ClassVar = (("rate", "pace_time"),)
        rate: float | None = field(default=None, metadata={"help": "Per second."})
        pace_time: float | None = field(default=None, metadata={"help": "Seconds each."})
        steps: int = field(default=1, metadata={"help": "How many."})

    path = tmp_path / "config.yaml"

    def read(text, *options):
        path.write_text(text)
        return RecipeParser(Speed).read([str(path), *options])[0]

    assert read("rate: 4", "--pace_time", "0.5") == Speed(None, 0.5)
    assert read("rate: 4", "--pace-time=0.5") == Speed(None, 0.5)
    assert read("pace_time: 2", "--rate", "3") == Speed(3.0, None)
    # Neither the file nor the command line alone is mended, and what is not given takes nothing back.
    assert read("rate: 4\npace_time: 2") == Speed(4.0, 2.0)
    assert read("", "--rate", "3", "--pace_time", "2") == Speed(3.0, 2.0)
    assert read("rate: 4", "--pace_time", "none", "--steps", "2") == Speed(4.0, None, 2)


class Recorded:
    """Knows which of its arguments were given."""

    def __new__(cls, *args, **given):
        self = super().__new__(cls)
        self.given = given
        return self


@dataclass
class RecordedNumbers(Recorded, Numbers):
    """`Numbers` that knows which of them were given."""


def test_a_dataclass_is_made_of_what_the_file_and_the_options_give_and_of_nothing_else(tmp_path):
    path = tmp_path / "config.yaml"

    def given(text: str, *options: str) -> dict:
        path.write_text(text)
        return RecipeParser(RecordedNumbers).read([str(path), *options])[0].given

    assert given("") == {}
    # what equals a default is given all the same, from either side
    assert given("steps: 1\nloud: true\nwidths: [5]") == {"steps": 1, "loud": True, "widths": [5]}
    assert given("", "--steps", "1", "--rate=0.5", "--loud") == {"steps": 1, "rate": 0.5, "loud": True}
    assert given("steps: 3\nrate: 2", "--steps", "1") == {"steps": 1, "rate": 2.0}
    assert given("", "--no_loud") == {"loud": False}
    assert given("limit: 3", "--limit", "none") == {"limit": None}
    assert given("limit: null") == {}  # the default
    assert given("", "--trackers", "none", "--name", "none") == {"trackers": "none", "name": "none"}


def test_a_value_beside_a_preset_reaches_the_configuration_though_it_is_the_default(tmp_path):
    @dataclass
    class RecordedConfig(Recorded, LocalGanConfig):
        pass

    (tmp_path / "config.yaml").write_text("preset: paper\nradial_scale: spread\noutput_dir: out\nuse_cpu: true\n")
    words = ["--preset", "paper", "--radial_scale", "spread", "--output_dir", "out", "--use_cpu"]
    expected = {"preset": "paper", "radial_scale": "spread", "output_dir": "out", "use_cpu": True}
    for arguments in ([str(tmp_path / "config.yaml")], words):
        (config,) = RecipeParser(RecordedConfig).read(arguments)
        assert config.given == expected


def test_an_alternative_that_was_taken_back_is_not_given(tmp_path):
    @dataclass
    class Source(Recorded):
        _argument_alternatives: ClassVar = (("file", "folder"),)
        file: str | None = field(default=None, metadata={"help": "Read this."})
        folder: str | None = field(default=None, metadata={"help": "Read all in there."})

    (tmp_path / "config.yaml").write_text("file: some.txt")
    (source,) = RecipeParser(Source).read([str(tmp_path / "config.yaml"), "--folder", "here"])
    assert source.given == {"folder": "here"}


@pytest.mark.parametrize(
    ("kinds", "old", "new"),
    [
        ((GeneratorArguments,), "model", "generator"),
        ((ModelArguments,), "model_revision", "generator_revision"),
        ((EnergyArguments,), "model", "energy"),
        ((DiscriminatorArguments,), "model", "discriminator"),
        ((DiscriminatorArguments,), "energy_model", "energy"),
        ((DataArguments, StageArguments), "energy_model", "energy"),
        ((DataArguments, StageArguments), "discriminator_model", "discriminator"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[-1].__name__,
)
def test_an_old_name_is_refused_with_the_new_one(kinds, old, new, tmp_path):
    told = f"`{old.replace('_', '[-_]')}` .it is called `{new}` now."
    (tmp_path / "config.yaml").write_text(f"{old}: some")
    with pytest.raises(ValueError, match=f"Unknown option: {told}"):
        RecipeParser(*kinds).read([f"--{old.replace('_', '-')}", "some"])
    with pytest.raises(ValueError, match=f"Unknown key in .*: {told}"):
        RecipeParser(*kinds).read([str(tmp_path / "config.yaml")])
    assert new in RecipeParser(*kinds).names and old not in RecipeParser(*kinds).names


def test_a_switch_of_the_file_can_be_turned_off_on_the_command_line(read):
    assert read("quiet: true", "--quiet", "false").quiet is False
    assert read("loud: true", "--no_loud").loud is False
    assert read("quiet: false", "--quiet").quiet is True


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("rate: 1.0e-3", Numbers(rate=0.001)),
        ("rate: 1e-4", Numbers(rate=0.0001)),  # without the point YAML reads a text
        ("rate: -1.0e-5", Numbers(rate=-0.00001)),
        ("rate: 2", Numbers(rate=2.0)),
        ("steps: -1", Numbers(steps=-1)),
        ("quiet: yes", Numbers(quiet=True)),
        ("loud: off", Numbers(loud=False)),
        ("limit: null", Numbers()),
        ("limit: 7", Numbers(limit=7)),
        ("widths: []", Numbers(widths=[])),
        ("widths: 3", Numbers(widths=[3])),
        ("name: 'no'", Numbers(name="no")),
        ("name: -x", Numbers(name="-x")),
        ("name: two words", Numbers(name="two words")),
        ("name: {a: [1, null]}", Numbers(name='{"a": [1, null]}')),
        ("trackers: tensorboard", Numbers(trackers="tensorboard")),
        ("trackers: [tensorboard, trackio]", Numbers(trackers=["tensorboard", "trackio"])),
        ("", Numbers()),
        ("# nothing but a comment", Numbers()),
    ],
)
def test_values_of_the_file_become_those_of_the_fields(read, written, expected):
    assert read(written) == expected


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("steps: 2.5", "--steps.*2.5"),
        ("steps: 1e3", "--steps.*1e3"),
        ("rate: fast", "--rate.*fast"),
        ("quiet: perhaps", "perhaps"),
        ("widths: [3, wide]", "--widths.*wide"),
        ("steps: {a: 1}", "--steps"),
    ],
)
def test_a_value_of_the_wrong_type_ends_with_code_2_and_one_line(read, capsys, written, told):
    with pytest.raises(SystemExit) as end:
        read(written)
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.count("\n") == 1
    assert re.search(told, said), said


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("name: no", '`name` is no switch.* `no` or `off` as false.*`name: "no"`'),
        ("steps: yes", "`steps` is no switch"),
        ("steps: [1, 2]", r"`steps` takes one value, got a list of 2: \[1, 2\]"),
        ("stepz: 3", "Unknown key in .*config.yaml.*`stepz` .did you mean `steps`?"),
        ("stepz: 3\nfoo: 1", "Unknown keys in .*`stepz`.*, `foo`"),
        ("steps: 1\nsteps: 2", "`steps` stands twice.*line 2"),
        ("steps: [1", "is not YAML: "),
        ("- steps", "must hold `name: value` lines, got list"),
        ("just text", "must hold `name: value` lines, got str"),
        ("1: 2", "must hold `name: value` lines"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_in_one_line(read, written, told):
    with pytest.raises(ValueError, match=told) as error:
        read(written)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match='no configuration file ".*missing.yaml"'):
        RecipeParser(Numbers).read([str(tmp_path / "missing.yaml")])
    (tmp_path / "picture.yaml").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ValueError, match='picture.yaml" is not YAML'):
        read_config(tmp_path / "picture.yaml")


def test_unknown_options_are_named_and_the_nearest_suggested():
    with pytest.raises(ValueError, match="Unknown option: `stesp` .did you mean `steps`?"):
        RecipeParser(Numbers).read(["--stesp", "3"])
    with pytest.raises(ValueError, match="Unknown options: `zzz`, `qqq`"):
        RecipeParser(Numbers).read(["--zzz=1", "--qqq"])


def test_options_are_not_abbreviated():
    with pytest.raises(ValueError, match="`step`"):
        RecipeParser(Numbers).read(["--step", "3"])


def test_a_word_after_the_options_is_refused(capsys):
    with pytest.raises(SystemExit):
        RecipeParser(Numbers).read(["--steps", "3", "late.yaml"])
    assert "'late.yaml'" in capsys.readouterr().err


def test_positional_words_can_be_fields():
    parser = RecipeParser(Numbers, positional=("name", "steps"))
    assert parser.read(["run", "4", "--rate", "1"])[0] == Numbers(name="run", steps=4, rate=1.0)
    assert parser.read(["run"])[0] == Numbers(name="run")
    assert parser.read([])[0] == Numbers()


def test_options_may_be_written_with_hyphens():
    @dataclass
    class Spelled:
        max_steps: int = field(default=1, metadata={"help": "How many."})

    assert RecipeParser(Spelled).read(["--max-steps", "5"])[0].max_steps == 5


def test_help_shows_groups_defaults_and_a_percent_sign(capsys):
    with pytest.raises(SystemExit) as end:
        RecipeParser(Numbers, description="What it does.\n\n    a command").read(["--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0
    assert "numbers:" in said and "Grows by 3 %. (default: 0.5)" in said and "\n    a command\n" in said
    assert "`--field none` takes back" in said


def test_help_of_a_training_recipe_documents_every_field_of_the_package(capsys):
    own = [one for kind in OWN for one in fields(kind)]
    own += [one for one in fields(MleConfig) if one.name in MleConfig.__annotations__]
    assert len(own) > 50 and not [one.name for one in own if not one.metadata.get("help")]
    with pytest.raises(SystemExit) as end:
        RecipeParser(*OWN, MleConfig).read(["--help", "all"])
    said = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0
    missing = [
        one.name
        for one in own
        if " ".join(one.metadata["help"].split()).replace("-", "")[:30] not in said.replace("-", "")
    ]
    assert not [one.name for one in own if f"--{one.name}" not in said] and not missing
    for group in ("data:", "tokenizer:", "generator:", "evaluation:"):
        assert f" {group} " in said


def test_environment_variables_and_the_home_folder_are_replaced(monkeypatch):
    monkeypatch.setenv("HF_LOCALGAN_DATA", "/corpora")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert expand_path("$HF_LOCALGAN_DATA/small", "dataset") == "/corpora/small"
    assert expand_path("${HF_LOCALGAN_DATA}/small", "dataset") == "/corpora/small"
    assert expand_path("~/small", "dataset") == "/home/somebody/small"
    assert expand_path("owner/name", "dataset") == "owner/name"


def test_a_variable_that_is_not_set_is_named_with_the_option(monkeypatch):
    monkeypatch.delenv("HF_LOCALGAN_DATA", raising=False)
    with pytest.raises(ValueError, match=r'`dataset` is "\$HF_LOCALGAN_DATA/small".*not set.*`--dataset PATH`'):
        expand_path("$HF_LOCALGAN_DATA/small", "dataset")
