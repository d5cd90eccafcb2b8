"""Other programs' option names lead to ours, on the command line and in a file."""

import pytest

from minimega.commands import names, options
from minimega.commands.cli import main, parse
from minimega.commands.command_table import COMMANDS
from minimega.commands.hints import here
from minimega.commands.option_table import TABLE
from minimega.errors import BadInput


def test_every_name_leads_to_what_there_is():
    for said in names.OPTIONS:
        option, *value = said.split()
        if value and TABLE[option].kind is bool:
            assert value[0] in ("true", "false")
        elif value:
            assert TABLE[option].check(type(TABLE[option].default)(value[0]), option) is not None
    for option, words in names.VALUES.items():
        assert set(words) <= set(TABLE[option].kind)
        assert not set(" ".join(words.values()).split()) & set(TABLE[option].kind)
    assert set(names.COMMANDS) <= set(COMMANDS)
    known = {name for theirs in names.OPTIONS.values() for name in theirs.split()}
    assert names.REMARKS.keys() <= known and all(names.plain(name) == name for name in known)


def test_no_name_of_others_hides_an_option_of_the_same_command():
    for said, theirs in names.OPTIONS.items():
        own = set(TABLE[said.split()[0]].commands.split())
        for name in set(theirs.split()) & TABLE.keys() - {"micro-batch-size"}:  # plan takes both
            assert not own & set(TABLE[name].commands.split()), (said, name)


@pytest.mark.parametrize(
    ("command", "theirs", "ours"),
    [
        # TRL, Axolotl, mlx-lm
        ("train", "completion_only_loss", "loss-on answers"),
        ("train", "train_on_inputs", "loss-on all"),
        ("train", "mask_prompt", "loss-on answers"),
        # nanoGPT
        ("train", "batch_size", "train-batch-size"),
        ("train", "block_size", "context"),
        ("train", "max_iters", "num-steps"),
        ("train", "out_dir", "save-dir"),
        ("generate", "out_dir", "model-filename"),
        ("generate", "num_samples", "generate-num-sentences"),
        ("generate", "max_new_tokens", "generate-sentence-length"),
        ("generate", "start", "prompt"),
        ("train", "n_layer", "num-layers"),
        ("train", "depth", "size"),  # nanochat
        ("train", "grad_clip", "clip"),
        # transformers
        ("train", "learning_rate", "lr"),
        ("train", "per_device_train_batch_size", "train-batch-size (over all replicas)"),
        ("train", "num_train_epochs", "num-epochs"),
        ("train", "fp16", "dtype float16"),
        ("train", "gradient_checkpointing", "recompute full"),
        ("evaluate", "model_name_or_path", "model-filename"),
        # Megatron-LM
        ("train", "tensor-model-parallel-size", "tp"),
        ("train", "pipeline-model-parallel-size", "pp"),
        ("train", "micro-batch-size", "micro-batches (their number, not their size)"),
        ("train", "global-batch-size", "train-batch-size"),
        ("train", "seq-length", "context"),
        ("train", "num-attention-heads", "nhead"),
        ("train", "hidden-size", "d-model"),
        ("train", "lr-decay-style", "schedule"),
        ("train", "use-distributed-optimizer", "zero 1"),
        ("train", "no-untied", "untied false"),
        # of another command
        ("train", "max-new-tokens", "generate-sentence-length of generate, score, sheet"),
        ("generate", "epochs", "num-epochs of train, vectors"),
        # an option here, but of another command, where this one has its own
        ("generate", "save-dir", "model-filename"),
    ],
)
def test_the_error_says_what_it_is_here(command, theirs, ours, capsys):
    assert main([command, f"--{theirs}", "3"]) == 2
    said = capsys.readouterr().err
    assert said.endswith(f"; use --{ours}\n") and len(said.splitlines()) == 1


def test_a_near_name_of_the_command_goes_before_one_of_others():
    assert here("d_models", "train") == "; did you mean --d-model?"
    assert here("quite-other", "train") == ""


def test_a_file_of_options_is_helped_in_the_same_way(tmp_path):
    (tmp_path / "a.toml").write_text("learning_rate = 1")
    with pytest.raises(BadInput, match=r"which is not an option; use lr$"):
        options.read(str(tmp_path / "a.toml"))


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("--device gpu", "cuda"),
        ("--device cuda:0", "cuda"),
        ("--dtype fp16", "float16"),
        ("--dtype half", "float16"),
        ("--dtype bf16", "bfloat16"),
        ("--optimizer Adam", "adam"),
        ("--optimizer AdamW_torch", "adamw"),
        ("--activation GELU", "gelu"),
        ("--untied yes", "true"),
        ("--untied False", "false"),
        ("--num-steps 1e3", "1000"),
        ("--num-steps 10,000", "10000"),
    ],
)
def test_values_of_others_are_known_too(words, meant):
    with pytest.raises(BadInput) as error:
        parse("train", words.split())
    assert str(error.value).endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize("words", ["--device tpu", "--activation swish", "--num-steps x", "--num-steps inf"])
def test_what_is_not_here_is_not_offered_something_else(words):
    with pytest.raises(BadInput) as error:
        parse("train", words.split())
    assert "did you mean" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["1e3", "7,5", "2k", "true", "none", "off", "16", "gpu", "pre-norm", "GPT-2"]
)
def test_what_is_offered_is_taken(text):
    for option in TABLE.values():
        offered = option.meant(text).partition("mean ")[2].removesuffix("?")
        if offered:
            known = option.kind if isinstance(option.kind, tuple) else ("true", "false")
            if option.kind in (int, float):
                assert option.check(option.kind(offered), option.name) == option.kind(offered)
            else:
                assert offered in known
