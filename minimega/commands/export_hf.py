"""`minimega export-hf`: writes a run's newest model as a GPT-2 that transformers opens."""

from pathlib import Path
from types import SimpleNamespace as Options

from minimega.checkpoint import checkpoint, run_folder
from minimega.checkpoint.front import open_tokenizer
from minimega.commands.progress import busy, say
from minimega.errors import BadInput
from minimega.interop import gpt2


def run(o: Options) -> int:
    """Write config.json, model.safetensors, tokenizer.json and what belongs to them; returns 0.

    Each file appears when it is complete, config.json last. Raises BadInput if the model has no counterpart
    there, or the folder holds such files already and not --overwrite.
    """
    source, target = run_folder.find(o.run), Path(o.save_dir)
    tokenizer = open_tokenizer(source, run_folder.run_of(source))
    with busy(f"reading {source}"):
        files = dict(gpt2.files(checkpoint.load_model(source), tokenizer))
    run_folder.make(target)
    if run_folder.holds_run(target):
        raise BadInput(f"{target} holds a run of minimega: choose another `save_dir`")
    if (there := [name for name in files if (target / name).exists()]) and not o.overwrite:
        raise BadInput(f"{target / there[0]} is already there; `overwrite` replaces it")
    for name, put in files.items():
        with run_folder.whole(target / name) as work, busy(f"writing {target / name}"):
            put(work)
    say(f"to open it: transformers.GPT2LMHeadModel.from_pretrained({str(target)!r}), AutoTokenizer likewise")
    return 0
