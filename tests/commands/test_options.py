"""The table of options, their precedence, the TOML file, and the page generated from the table."""

from pathlib import Path

import pytest

from minimega.commands import option_table as table
from minimega.commands import options
from minimega.commands.cli import main, parse
from minimega.commands.command_table import COMMANDS
from minimega.errors import BadInput
from minimega.model import gpt

ROOT = Path(__file__).resolve().parents[2]

# The names that the project promises (the words of its description), by command.
PROMISED = """model-type train-filename eval-filename save-dir train-batch-size eval-batch-size num-epochs
num-steps lr d-model nhead num-layers context dropout activation d-hidden norm-position positions untied
head-bias no-attention tokenizer vocab-size optimizer beta1 beta2 eps schedule warmup min-lr clip weight-decay
accumulate seed dtype eval-every save-every keep resume overwrite init-from device config"""
PROMISED_OF_GENERATE = """model-filename generate-filename generate-num-sentences generate-sentence-length
prompt temperature top-k top-p stop seed device config"""


@pytest.fixture
def toml(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "run.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_the_promised_names_exist():
    assert set(PROMISED.split()) <= set(table.of_command("train"))
    assert set(PROMISED_OF_GENERATE.split()) <= set(table.of_command("generate"))
    assert {"model-filename", "eval-filename", "eval-batch-size"} <= set(table.of_command("evaluate"))


def test_default_training_is_the_promised_one():
    o = parse("train", [])
    assert (o.optimizer, o.lr, o.beta1, o.beta2, o.clip) == ("adamw", 1e-3, 0.9, 0.99, 1.0)
    assert (o.activation, o.untied, o.train_filename, o.model_type) == ("gelu", False, "tales", "tiny")
    assert o.given == frozenset()


def test_every_default_is_within_its_own_range():
    for option in table.TABLE.values():
        if option.default is not None:
            assert option.check(option.default, option.name) == option.default


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_belongs_to_commands_that_exist(command):
    assert table.of_command(command) or command in ("compare", "completion")
    for option in table.TABLE.values():
        assert set(option.commands.split()) <= set(COMMANDS), option.name


def test_what_wins(toml):
    path = toml('model-type = "gpt2"\nnhead = 6\nlr = 0.5\n')
    o = parse("train", ["--config", path, "--lr", "0.25"])
    assert o.lr == 0.25  # the command line, over the file
    assert o.nhead == 6  # the file, over the shape that it names itself
    assert o.num_layers == 12 and o.context == 1024  # the shape, over the defaults
    assert o.beta2 == 0.99  # the default
    assert o.given == {"config", "model_type", "nhead", "lr"}


def test_size_is_one_dial_and_single_options_win_over_it(toml):
    sets = "num_layers", "d_model", "nhead", "train_batch_size", "lr"

    def of(*words):
        o = parse("train", list(words))
        return [getattr(o, name) for name in sets]

    assert of("--size", "2") == of() == [2, 128, 4, 16, 1e-3]
    assert of("--size", "8") == [8, 512, 8, 64, 5e-4]
    assert of("--size", "8", "--lr", "0.1", "--d-model", "64") == [8, 64, 8, 64, 0.1]
    assert of("--size", "8", "--model-type", "gpt2") == [12, 768, 12, 64, 5e-4]
    assert of("--config", toml("size = 8\nnhead = 4\n")) == [8, 512, 4, 64, 5e-4]
    assert options.model_config(parse("bench", ["--size", "12"]), 50257).d_model == 768
    for n in range(1, 129):  # heads divide the width; larger is wider, slower to learn and in larger batches
        o = parse("train", ["--size", str(n)])
        assert o.d_model % o.nhead == 0 and o.lr * o.d_model**0.5 == pytest.approx(1e-3 * 128**0.5, rel=5e-3)


def test_a_shape_that_was_typed_wins_over_a_file_that_has_every_option(toml):
    run = toml(options.to_toml(parse("train", ["--size", "2", "--clip", "0.5", "--model-type", "tiny"])))
    o = parse("train", ["--config", run, "--size", "4"])
    assert (o.num_layers, o.d_model, o.train_batch_size, o.lr, o.clip) == (4, 256, 32, 0.000707, 0.5)
    o = parse("train", ["--config", run, "--model-type", "gpt2"])
    assert (o.num_layers, o.d_model, o.context, o.lr) == (12, 768, 1024, 1e-3)


@pytest.mark.parametrize("value", ["0", "129", "1.5", "large"])
def test_a_size_that_is_none_is_refused(value):
    with pytest.raises(BadInput, match=r"--size is .* it must be a whole number of 1 to 128"):
        parse("train", ["--size", value])


@pytest.mark.parametrize("name", ["num_layers", "num-layers"])
def test_a_file_may_use_either_spelling_and_whole_numbers_for_numbers(toml, name):
    o = parse("train", ["--config", toml(f"{name} = 5\nlr = 1\n")])
    assert (o.num_layers, o.lr, type(o.lr)) == (5, 1.0, float)


def test_one_file_may_serve_several_commands(toml):
    path = toml('lr = 0.5\ntemperature = 0.1\nmodel-filename = "runs/a"\n')
    assert parse("generate", ["--config", path]).temperature == 0.1
    assert parse("train", ["--config", path]).lr == 0.5


def test_a_flag_of_the_file_can_be_taken_back(toml):
    path = toml("untied = true\n")
    assert parse("train", ["--config", path]).untied is True
    assert parse("train", ["--config", path, "--untied", "false"]).untied is False
    assert parse("train", ["--untied", "--lr", "1"]).untied is True


def test_a_run_writes_down_what_reads_back_the_same(toml):
    words = (
        "--num-steps 7 --lr 0.5 --untied --train-filename /a.txt --model-type gpt2 --save-dir x --overwrite"
    )
    o = parse("train", words.split())
    again = options.complete("train", options.read(toml(options.to_toml(o))))
    differ = {key for key in vars(o) if getattr(o, key) != getattr(again, key)} - {"given", "words"}
    assert differ == {"save_dir", "overwrite"}  # these belong to one call


def test_a_run_writes_down_paths_that_hold_everywhere(toml, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    o = parse("train", ["--train-filename", "a.txt", "--eval-filename", "pydoc", "--init-from", "runs/tales"])
    again = options.read(toml(options.to_toml(o)))
    assert (again["train_filename"], again["eval_filename"]) == (str(tmp_path / "a.txt"), "pydoc")
    assert again["init_from"] == str(tmp_path / "runs" / "tales")
    assert options.read(toml(options.to_toml(parse("train", []))))["train_filename"] == "tales"


TEXTS = [o.name for o in table.TABLE.values() if o.kind is str and o.name != "prompt"]


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_or_a_path_that_is_empty_is_refused(name, toml, capsys):
    """An empty prompt is allowed: each text then begins with the start token alone, as without one."""
    command = table.TABLE[name].commands.split()[0]
    target = {
        "gradcheck": ["file.py:f"],
        "reshard": ["run"],
        "ratings": ["a.json"],
        "sheet": ["a.txt"],
        "neighbours": ["run"],
        "vectors": ["tales"],
        "embed": ["run"],
    }.get(command, [])
    for value in ("", " ") if table.TABLE[name].within is table.PATH else ("",):
        assert main([command, *target, f"--{name}", value]) == 2
        said = capsys.readouterr().err
        assert f"minimega: --{name} is '{value}'; it must be text " in said and said.count("\n") == 1
    if name != "config":
        with pytest.raises(BadInput, match=f"{name} in .* is ''"):
            options.read(toml(f"{name} = ''"))
    if table.TABLE[name].within is table.PATH and name != "config":
        with pytest.raises(BadInput, match="it must be text that names a file or a folder"):
            options.read(toml(f'{name} = "a\\u0000b"'))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lr = ", "not a TOML file"),
        ("learning-rate = 1", "learning-rate"),
        ("num_layer = 1", "use num-layers"),
        ("num_layerz = 1", "did you mean num-layers?"),
        ("config = 'a'", "sets config"),
        ("lr = 'fast'", "it must be a number above 0"),
        ("num-layers = 1.5", "it must be a whole number"),
        ("num-layers = true", "it must be a whole number"),
        ("untied = 1", "it must be true or false"),
        ("train-filename = 3", "it must be text"),
        ("activation = 3", "one of gelu, relu"),
        ("activation = 'gelo'", "did you mean gelu?"),
        ("dropout = 1.0", "below 1"),
        ("lr = nan", "above 0"),
        ("[model]\nlr = 1", "sets model"),
    ],
)
def test_a_wrong_file_is_told_so(toml, text, says):
    with pytest.raises(BadInput, match=r"run\.toml") as error:
        parse("train", ["--config", toml(text)])
    assert says in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "absent.toml", tmp_path, tmp_path / "binary"):
        with pytest.raises(BadInput, match=path.name):
            parse("train", ["--config", str(path)])


def test_the_model_that_the_options_describe():
    words = "--model-type gpt2 --d-hidden 100 --untied --head-bias --no-attention --positions sinusoidal"
    config = options.model_config(parse("train", words.split()), vocab_size=11)
    assert (config.vocab_size, config.d_model, config.d_hidden, config.tied) == (11, 768, 100, False)
    assert (config.head_bias, config.attention, config.positions) == (True, False, "sinusoidal")
    words = "--experts 8 --top-k-experts 3 --balance 0.2"
    config = options.model_config(parse("train", words.split()), 11)
    assert (config.experts, config.top_k_experts, config.balance) == (8, 3, 0.2)
    assert gpt(options.model_config(parse("train", ["--model-type", "gpt2"]), 50257)).count() == 124439808


def test_the_documentation_is_current():
    text = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert text == options.as_markdown() + "\n", "run: python -m minimega.commands.options > docs/options.md"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--pp 2 --micro-batches 3", "16 cannot be split over 1 replica in 3 parts each"),
        (
            "--pp 2 --micro-batches 4 --accumulate 8",
            "in 32 parts each: change --dp, --accumulate or --micro",
        ),
        ("--pp 2 --dp 4 --micro-batches 8", "over 4 replicas in 8 parts each"),
        ("--pp 4 --pipeline interleaved --micro-batches 2", "choose `pp` of at least 2, and `micro_batches`"),
        ("--pp 2 --virtual-stages 2", "choose --pipeline interleaved, not 1f1b"),
        (
            "--experts 4 --dp 4 --ep 3",
            "4 replicas cannot hold experts in groups of 3: --ep must divide --dp",
        ),
        ("--experts 2 --top-k-experts 3", "a token cannot go to 3 of 2 experts: choose `top_k_experts`"),
    ],
)
def test_a_pipeline_that_does_not_divide_is_refused(words, says):
    with pytest.raises(BadInput) as error:
        parse("train", words.split())
    assert says in str(error.value)
    assert parse("train", ["--pp", "4", "--pipeline", "interleaved"]).pp == 4


def test_nothing_is_checked_that_has_no_effect_in_this_call(toml):
    """One file may serve several commands: each checks only the options that it takes."""
    assert parse("train", ["--no-attention", "--nhead", "3", "--tp", "2"]).nhead == 3
    assert parse("train", ["--top-k-experts", "9"]).top_k_experts == 9
    assert parse("train", ["--schedule", "constant", "--min-lr", "1"]).min_lr == 1
    # the shape comes from the run to start from or to resume
    assert parse("train", ["--init-from", "x", "--nhead", "3"]).nhead == 3
    assert parse("train", ["--resume", "--save-dir", "x", "--nhead", "3"]).nhead == 3
    path = toml('accumulate = 3\nmin-lr = 1\nmodel-filename = "x"\nnhead = 3\nmicro-batches = 7')
    for command in ("generate", "evaluate"):
        assert parse(command, ["--config", path]).accumulate == 3
    assert parse("bench", ["--config", path, "--nhead", "4"]).accumulate == 3
    with pytest.raises(BadInput, match="--accumulate"):
        parse("timeline", ["--config", path, "--nhead", "4", "--pp", "2"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('prompt = "a\\u0000b"', "NUL character"),
        (f"lr = 1{'0' * 400}", "it must be a number"),
        ("clip = 1e-320", "is 0 in float32"),
        ("tales = 10000000000000000000", "at most"),
    ],
)
def test_values_that_nothing_can_hold(toml, text, says):
    with pytest.raises(BadInput) as error:
        parse("train", ["--config", toml(text)])
    assert says in str(error.value) and len(str(error.value)) < 400
