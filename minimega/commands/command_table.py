"""Every command of the command line in one table: its sentence, arguments, common options and examples.

`minimega --help`, the help of each command (help.py), the parser (cli.py) and the completion of the shell
(completion.py) are made from it and from option_table.py. A test runs every example.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A command. `common` names the options that its help shows first.

    `targets` are its positional arguments: key, name, description. Names that begin with a bracket are
    optional; one with dots takes any number of words; one with bars takes one of these words.
    """

    sentence: str
    examples: tuple[str, ...]
    common: str = ""
    targets: tuple[tuple[str, str, str], ...] = ()


SHAPE = "size model-type num-layers d-model nhead context"
CHAPTERS: dict[str, dict[str, Command]] = {
    "Begin here": {
        "train": Command(
            "train a model on a text",
            (
                "minimega train --save-dir runs/demo",
                "minimega train --train-filename book.txt --save-dir runs/book --num-epochs 2",
            ),
            f"train-filename save-dir num-epochs num-steps lr train-batch-size {SHAPE} tokenizer resume dp",
        ),
        "generate": Command(
            "generate texts with a trained model",
            (
                "minimega generate --model-filename runs/demo",
                'minimega generate --model-filename runs/demo --prompt "Long ago" --top-k 9',
            ),
            "model-filename prompt generate-num-sentences generate-sentence-length temperature top-k top-p "
            "stop seed",
        ),
        "learn": Command(
            "list the lessons, copy one to work in, check your answer",
            ("minimega learn", "minimega learn start 01"),
            "folder",
            (
                (
                    "action",
                    "[open|start|check|watch|hint|more|solution|bug|warm-up|stretch|capstone",
                    "open or copy a lesson, check it once or at each save, show help; without it, list",
                ),
                ("lesson", "[NN", "a lesson's number or name; after capstone: steps, or ranks and steps"),
                ("answer", "[ANSWER]]]", "one line, which answers a warm-up"),
            ),
        ),
        "doctor": Command(
            "check your setup and say how to fix it",
            ("minimega doctor", "minimega doctor --ranks 3"),
            "ranks",
        ),
    },
    "Texts and models": {
        "prepare": Command(
            "clean texts for training; remove duplicates, evaluation text",
            (
                "minimega prepare book.txt --dry-run",
                "minimega prepare book.txt tales.txt --eval-filename book.txt --save-dir clean",
            ),
            "save-dir eval-filename dry-run near-duplicates",
            (("texts", "FILE-OR-FOLDER...", "texts: files, folders, or the name of a built-in one"),),
        ),
        "evaluate": Command(
            "measure a model on a text: loss, perplexity, bits per byte",
            (
                "minimega evaluate --model-filename runs/demo",
                "minimega evaluate --model-filename runs/demo --eval-filename book.txt --json",
            ),
            "model-filename eval-filename json",
        ),
        "fill": Command(
            "fill the gaps of a text with a masked model",
            (
                'minimega fill runs/masked "the [MASK] found a key"',
                'minimega fill runs/masked "a [MASK] and a [MASK]" --topn 3',
            ),
            "topn",
            (
                ("model_filename", "RUN", "a run folder, or a .safetensors file in one"),
                ("text", "TEXT", 'a text in which [MASK] marks each gap: "Long ago [MASK] found"'),
            ),
        ),
        "reshard": Command(
            "copy a run to a new folder, for another layout of ranks",
            (
                "minimega reshard runs/demo --save-dir runs/whole",
                "minimega reshard runs/demo --save-dir runs/cut --tp 2",
            ),
            "save-dir overwrite tp dp pp zero",
            (("run", "RUN", "a run folder"),),
        ),
        "import-hf": Command(
            "turn a Hugging Face GPT-2 into a run folder",
            (
                "minimega import-hf their-gpt2 --save-dir runs/theirs",
                "minimega import-hf their-gpt2 --save-dir runs/theirs --overwrite",
            ),
            "save-dir overwrite",
            (("source", "DIR", "a folder that transformers saved, or a name to download, such as gpt2"),),
        ),
        "export-hf": Command(
            "write a run's newest model as a Hugging Face GPT-2",
            (
                "minimega export-hf runs/demo --save-dir demo-gpt2",
                "minimega export-hf runs/demo --save-dir demo-gpt2 --overwrite",
            ),
            "save-dir overwrite",
            (("run", "RUN", "a run folder"),),
        ),
    },
    "Judge what it writes": {
        "score": Command(
            "score texts: BLEU, chrF, ROUGE, your own metric; compare two",
            (
                "minimega score --hypotheses answers.txt --references expected.txt",
                "minimega score --model-filename runs/demo --prompts prompts.txt",
            ),
            "hypotheses references model-filename prompts compare metric json",
        ),
        "sheet": Command(
            "write a page on which people rate texts, blinded, and its key",
            (
                "minimega sheet answers.txt expected.txt",
                "minimega sheet runs/demo answers.txt --samples 2 --sheet-filename two.html",
            ),
            "sheet-filename key samples prompts",
            (("systems", "FILE-or-RUN...", "texts, one per line or .jsonl, or run folders: one per system"),),
        ),
        "ratings": Command(
            "read people's ratings back: means with intervals, agreement",
            (
                "minimega ratings ratings-a.json ratings-b.json --key sheet.key.json",
                "minimega ratings ratings-a.json --key sheet.key.json --json",
            ),
            "key json resamples",
            (("files", "FILE...", "what the raters downloaded"),),
        ),
    },
    "Word vectors": {
        "vectors": Command(
            "train word vectors on a text; convert those of a run or a file",
            (
                "minimega vectors tales --save-vectors tales.vec",
                "minimega vectors book.txt --save-vectors book.bin --min-count 2",
            ),
            "save-vectors vector-size window num-epochs min-count limit",
            (("source", "FILE-OR-TEXT", "a text to train on (tales, pydoc, a path), a run, or vectors"),),
        ),
        "neighbours": Command(
            "list the words nearest to a word; solve analogies",
            ("minimega neighbours words.vec king", "minimega neighbours words.vec king - man + woman"),
            "topn questions limit",
            (
                ("source", "RUN-or-FILE", "a run folder, or a file of word vectors"),
                ("asked", "[WORD...]", "words, or a sum of words such as: king - man + woman"),
            ),
        ),
        "embed": Command(
            "write the hidden states of texts as an array",
            (
                'minimega embed runs/demo --prompt "the old king" --embed-filename king.npy',
                "minimega embed runs/demo --texts prompts.txt --embed-filename texts.npz",
            ),
            "prompt texts embed-filename layer pool",
            (("run", "RUN", "a run folder, or a .safetensors in one"),),
        ),
    },
    "Check": {
        "gradcheck": Command(
            "check a backward pass against finite differences",
            (
                "minimega gradcheck my_ops.py:square --shapes 3x4",
                "minimega gradcheck my_ops.py:square --shapes 3x4 --picture square.png",
            ),
            "shapes picture seed",
            (("target", "FILE.py:function", "a function that returns y and its backward"),),
        ),
        "compare": Command(
            "tell rounding from a bug: where do two runs begin to differ",
            (
                "minimega compare runs/demo runs/again",
                'minimega compare "train --tales 300 --tp 2" "train --tales 300"',
            ),
            "",
            (
                ("run_a", "RUN_A", 'a run folder, or a command in quotes: "train ..."'),
                ("run_b", "RUN_B", "the same: the reference"),
            ),
        ),
    },
    "Speed, memory and ranks": {
        "bench": Command(
            "time training steps beside torch and this machine's peak",
            (
                "minimega bench",
                "minimega bench --model-type tiny --d-model 64 --num-steps 3",
            ),
            f"{SHAPE} train-batch-size num-steps device threads",
        ),
        "memory": Command(
            "show what a rank holds: the papers' formulas, and measured",
            ("minimega memory", "minimega memory --num-layers 2 --d-model 64 --tp 2"),
            f"{SHAPE} train-batch-size tp dp pp",
        ),
        "timeline": Command(
            "show when each rank of a pipeline works: measured, in theory",
            (
                "minimega timeline --pp 2 --micro-batches 4",
                "minimega timeline --pp 2 --micro-batches 4 --picture timeline.png",
            ),
            "pp micro-batches pipeline picture trace num-steps",
        ),
    },
    "Large runs": {
        "plan": Command(
            "plan a run on many GPUs: what fits, how fast it is, and why",
            (
                "minimega plan --model-type megatron-turing-nlg --gpus 2240",
                "minimega plan --model-type gpt3-175b --gpus 1024 --tokens 300e9 --price 2",
            ),
            "gpus gpu model-type num-layers d-model nhead context vocab-size train-batch-size tokens price "
            "tp pp dp micro-batch-size recompute json explain scaling published picture trace",
        ),
    },
    "The shell": {
        "completion": Command(
            "print a script with which the Tab key completes what you type",
            ("minimega completion bash > ~/.minimega.bash", "minimega completion zsh > ~/.minimega.zsh"),
            "",
            (
                (
                    "shell",
                    "bash|zsh",
                    "your shell. Then put into ~/.bashrc: source ~/.minimega.bash; or into ~/.zshrc, after "
                    'compinit: eval "$(<~/.minimega.zsh)"',
                ),
            ),
        ),
    },
}
COMMANDS: dict[str, Command] = {name: c for chapter in CHAPTERS.values() for name, c in chapter.items()}
