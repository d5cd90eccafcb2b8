"""What other programs call our options, values and commands: hints for unknown names.

The names come from nanoGPT, transformers (TrainingArguments, generate, model configurations), PyTorch, Keras,
Megatron-LM, DeepSpeed and litgpt. One name may mean several options; the command decides.
"""

# What to type here: names in other programs.
OPTIONS = {
    "train-filename": """data dataset dataset-name dataset-config data-dir data-path train-data
        train-data-path train-file train-filenames training-data text file filename input input-file
        input-path corpus""",
    "eval-filename": """eval-data eval-file val-data val-file valid-data valid-data-path validation-file
        validation-data test-data test-data-path test-file data dataset""",
    "tokenizer": "tokenizer-type tokenizer-name tokenizer-kind tokenization",
    "word-dropout": "token-dropout word-drop input-dropout mask-ratio",
    "span-mask": "span-masking mean-noise-span-length noise-density mask-length",
    "random-offsets": "random-crop random-crops random-windows shift-windows",
    "loss-on answers": """completion-only-loss assistant-only-loss train-on-completions train-on-responses
        mask-prompt mask-inputs response-only""",
    "loss-on all": "train-on-inputs train-on-prompt",
    "plain": "raw no-chat no-chat-template raw-prompt",
    "objective": "task loss training-objective pretraining-objective criterion",
    "objective masked": "mlm masked-lm mask mlm-probability masked",
    "objective causal": "clm causal-lm causal",
    "vocab-size": "padded-vocab-size n-vocab vocab num-tokens vocabulary-size make-vocab-size-divisible-by",
    "model-type": """model model-name model-name-or-path model-config config-name preset checkpoint-name
        pretrained-model-name-or-path""",
    "size": "depth scale dial model-size",
    "d-model": """n-embd n-embed embed-dim embedding-dim embedding-size hidden-size hidden-dim dim
        model-dim d width emb-dim""",
    "d-embedding": "factorized-embedding factorised-embedding word-embed-proj-dim factorized-embedding-size",
    "nhead": """n-head n-heads num-heads heads num-attention-heads num-head attention-heads
        encoder-attention-heads head""",
    "num-layers": """n-layer n-layers layers num-hidden-layers num-layer num-blocks n-blocks
        num-decoder-layers""",
    "context": """block-size seq-length seq-len sequence-length max-seq-length max-seq-len context-length
        context-size max-length n-positions n-ctx max-position-embeddings model-max-length window bptt""",
    "d-hidden": """intermediate-size ffn-hidden-size n-inner dim-feedforward ffn-dim d-ff mlp-dim
        feedforward-dim hidden-features""",
    "dropout": """hidden-dropout attention-dropout dropout-rate dropout-p resid-pdrop attn-pdrop embd-pdrop
        drop-rate hidden-dropout-prob attention-probs-dropout-prob""",
    "activation": "activation-function hidden-act act nonlinearity activation-fn hidden-activation",
    "norm-position": "norm-first pre-norm post-norm norm-type apply-residual-connection-post-layernorm",
    "norm-eps": "layer-norm-epsilon layer-norm-eps rms-norm-eps layernorm-epsilon norm-epsilon",
    "positions": "position-embedding-type position-embeddings positional-encoding pos-emb pos-encoding",
    "untied": "untie-embeddings-and-output-weights untie",
    "untied false": "tie-word-embeddings tie-weights tied tie-embeddings",
    "head-bias": "lm-head-bias output-bias",
    "experts": "num-experts n-experts num-local-experts n-expert moe-num-experts n-routed-experts",
    "top-k-experts": "moe-router-topk num-experts-per-tok n-expert-per-token moe-top-k experts-per-token",
    "balance": "moe-aux-loss-coeff router-aux-loss-coef aux-loss-coef load-balancing-loss aux-loss-alpha",
    "train-batch-size": """batch-size batch bs b global-batch-size per-device-train-batch-size
        device-batch-size per-gpu-train-batch-size train-batch train-micro-batch-size-per-gpu
        total-batch-size""",
    "accumulate": """gradient-accumulation-steps grad-accum accumulate-grad-batches grad-accum-steps
        gradient-accumulation-iters accumulation-steps gradient-accumulation""",
    "num-epochs": "epochs epoch num-train-epochs n-epochs max-epochs nb-epoch nb-epochs",
    "num-steps": """max-iters max-steps train-iters iters iterations n-steps num-iters steps total-steps
        num-train-steps max-train-steps train-steps steps-per-epoch lr-decay-iters""",
    "optimizer": "optim optimiser optimizer-type opt optimizer-name",
    "lr": "learning-rate lr-rate max-lr peak-lr base-lr step-size learningrate eta initial-lr",
    "schedule": "lr-decay-style lr-scheduler-type lr-scheduler scheduler lr-schedule decay-lr scheduler-type",
    "warmup": """warmup-steps warmup-iters lr-warmup-steps lr-warmup-iters num-warmup-steps warmup-ratio
        lr-warmup-fraction""",
    "min-lr": "lr-min end-lr eta-min min-learning-rate final-lr lr-end",
    "beta1": "adam-beta1 betas b1 momentum",
    "beta2": "adam-beta2 b2 rho alpha",
    "eps": "epsilon adam-eps adam-epsilon eps-adam optimizer-eps",
    "weight-decay": "wd decay l2 l2-penalty weight-decay-rate",
    "clip": """grad-clip clip-grad max-grad-norm gradient-clip-val gradient-clipping max-norm
        clip-norm clipnorm""",
    "dtype": "precision torch-dtype data-type params-dtype type mixed-precision",
    "dtype float16": "fp16 half amp float16 autocast",
    "dtype bfloat16": "bf16 bfloat16",
    "dtype float32": "fp32 float32 no-amp",
    "dtype float64": "fp64 float64 double",
    "seed": "random-seed rng-seed manual-seed random-state data-seed",
    "init-from": "pretrained finetune from-pretrained init-weights initial-checkpoint-dir resume-from load",
    "save-dir": """out-dir output-dir out output o save-path run-dir checkpoint-dir ckpt-dir save save-to
        logging-dir log-dir run workdir checkpoint-path""",
    "resume": """resume-from-checkpoint resume-training continue continue-training restore load-checkpoint
        auto-resume""",
    "overwrite": "overwrite-output-dir force replace",
    "eval-every": "eval-interval eval-steps evaluation-steps eval-freq val-interval val-check-interval",
    "save-every": """save-interval save-steps checkpoint-interval save-freq checkpoint-every
        log-interval-save ckpt-interval""",
    "recompute": "recompute-granularity activation-checkpointing recompute-method",
    "recompute full": """gradient-checkpointing checkpoint-activations recompute-activations
        use-activation-checkpointing remat""",
    "keep": "save-total-limit keep-last-n max-to-keep max-checkpoints keep-checkpoints",
    "eval-batch-size": "per-device-eval-batch-size per-gpu-eval-batch-size val-batch-size batch-size batch",
    "device": "accelerator device-type platform backend",
    "device cuda": "cuda gpu use-cuda gpus use-gpu",
    "device cpu": "no-cuda use-cpu no-gpu",
    "config": "config-file cfg yaml hparams config-path deepspeed",
    "tp": """tensor-model-parallel-size tensor-parallel-size model-parallel-size tensor-parallel mp
        tensor-parallelism tp-size""",
    "dp": """data-parallel-size data-parallel world-size nproc-per-node num-gpus nproc num-replicas ddp
        num-processes devices data-parallelism dp-size""",
    "pp": "pipeline-model-parallel-size pipeline-parallel-size pipeline-parallel pp-size pipeline-stages",
    "pipeline": "pipeline-schedule pp-schedule pipeline-parallel-schedule",
    "micro-batches": "micro-batch-size num-microbatches microbatches n-microbatches chunks num-micro-batches",
    "virtual-stages": """num-layers-per-virtual-pipeline-stage virtual-pipeline-model-parallel-size
        num-virtual-stages-per-pipeline-rank model-chunks""",
    "cp": "context-parallel-size context-parallel cp-size ring-attention sequence-parallel-size",
    "ep": "expert-model-parallel-size expert-parallel-size expert-parallel ep-size",
    "zero 1": "use-distributed-optimizer",
    "zero": "zero-stage stage zero-optimization",
    "zero 3": "fsdp fully-shard use-fsdp",
    "kernels numba": "compile torch-compile jit fused use-fused-kernels",
    "threads": "num-threads num-workers cpu-threads nthreads omp-num-threads",
    "model-filename": """model checkpoint ckpt checkpoint-dir ckpt-dir ckpt-path checkpoint-path model-path
        model-dir model-name-or-path out-dir load resume run run-dir model-file weights save-dir m""",
    "prompt": "start input input-text text prefix prompts p seed-text",
    "generate-filename": "out output output-file out-file genfile save-to o",
    "generate-num-sentences": """num-samples n-samples num-return-sequences num-sentences samples
        number-of-samples n num""",
    "generate-sentence-length": """max-new-tokens max-length max-tokens length num-tokens out-seq-length
        tokens-to-generate max-gen-len n-predict""",
    "beams": "num-beams beam-size beam beam-width beam-search n-best",
    "length-penalty": "lenpen length-penalty-alpha length-normalization alpha",
    "temperature": "temp t sampling-temperature",
    "temperature 0": "greedy no-sample do-sample",
    "top-k": "topk k",
    "top-p": "topp p nucleus-p nucleus",
    "stop": "stop-sequence stop-sequences stop-string stop-strings stop-token eos eos-token",
    "dry-run": "n dryrun count-only simulate",
    "normal-form": "normalization normalize unicode-form unicode nfc nfkc normalization-form",
    "keep-lines": "no-rejoin keep-line-breaks keep-newlines",
    "near-duplicates": "jaccard similarity dedup dedupe deduplicate minhash-threshold near-dup threshold",
    "script": "scripts language languages lang writing-system",
    "overlap": "decontaminate decontamination contamination",
    "overlap-words": "ngram n-gram ngram-size ngrams n",
    "hypotheses": "predictions prediction hyps hyp sys hypothesis outputs input i",
    "references": "refs ref reference targets target gold labels r",
    "bleu-tokenize": "tokenize tok tokenizer",
    "compare": "baseline other",
    "metric": "metrics m score-function",
    "prompts": "questions sources src queries",
    "copied-from": "training-text contamination memorization",
    "secret": "canary exposure",
    "samples": "num-samples n-samples count number",
    "sheet-filename": "output out html page o output-file",
    "key": "answers secret-key mapping",
    "resamples": "n-bootstrap bootstrap confidence paired-bs paired-bs-n num-resamples",
    "texts": "text-file sentences input-file file data inputs",
    "layer": "layer-index hidden-layer layers output-layer",
    "pool": "pooling pooling-mode pool-type",
    "embed-filename": "output output-file out out-file o save save-to save-dir output-dir",
    "gpus": "num-gpus n-gpus ngpus total-num-gpus world-size num-devices gpu-count",
    "gpu": "gpu-name gpu-type gpu-kind accelerator system",
    "tokens": "total-num-tokens train-tokens num-tokens total-tokens",
    "price": "cost price-per-hour gpu-price",
    "explain": "verbose why show-formulas",
    "shapes": "shape sizes size input-shape",
    "picture": "plot png figure image out output o save",
    "trace": "profile out output",
    "vectors": """pretrained-vectors embeddings pretrained-embeddings word-vectors embedding-file emb-path
        word2vec glove fasttext""",
    "freeze-vectors": "freeze-embeddings fix-word-vecs-enc freeze freeze-emb fixed-embeddings",
    "save-vectors": """output out o save-word2vec-format out-file output-file save save-path save-dir
        generate-filename fname""",
    "vector-size": "size dim embedding-size embedding-dim d-model d-embedding vectors-size vec-size n-embd",
    "window": "window-size ws context skip-window",
    "negative": "neg negatives num-negative num-neg negative-samples n-negatives num-neg-samples",
    "sample": "subsample subsampling sampling t threshold",
    "min-count": "min-frequency min-freq mincount min-word-count minimum-count vocab-min-count",
    "alpha": "learning-rate start-alpha initial-lr",
    "topn": "top-n number-of-neighbours top",
    "questions": "analogies analogy-file questions-words",
    "limit": "max-vectors restrict-vocab threshold",
    "folder": "dir directory out-dir",
}

# Differences between our option and its namesake.
REMARKS = {
    "micro-batch-size": "their number, not their size",
    "per-device-train-batch-size": "over all replicas",
    "per-gpu-train-batch-size": "over all replicas",
    "train-micro-batch-size-per-gpu": "over all replicas",
    "warmup-ratio": "in steps",
    "lr-warmup-fraction": "in steps",
    "num-layers-per-virtual-pipeline-stage": "the number of stages, not of layers",
    "do-sample": "above 0 samples",
    "steps-per-epoch": "for the whole run",
    "lr-decay-iters": "the schedule ends with the run",
}

# The values of an option: names in other programs.
VALUES = {
    "loss-on": {
        "answers": "completion completions response responses assistant answer",
        "all": "everything both",
    },
    "device": {"cpu": "host", "cuda": "gpu cuda:0 nvidia cupy gpu:0 0"},
    "objective": {
        "masked": "mlm bert masked-lm fill-mask bidirectional denoising cloze",
        "causal": "clm gpt causal-lm autoregressive left-to-right next-token",
    },
    "dtype": {
        "float16": "fp16 half f16 16 fp16-mixed 16-mixed torch.float16",
        "bfloat16": "bf16 bfloat bf16-mixed bf16-true torch.bfloat16",
        "float32": "fp32 f32 32 single float full tf32 torch.float32",
        "float64": "fp64 f64 64 double torch.float64",
    },
    "optimizer": {
        "sgd": "gd gradient-descent vanilla",
        "momentum": "sgd-momentum sgdm heavy-ball",
        "adamw": "adamw-torch adamw-hf adamw-torch-fused adam-w",
        "adam": "fusedadam fused-adam",
    },
    "activation": {
        "gelu": "gelu-new gelu-tanh gelu-fast gelu-pytorch-tanh",
        "gelu-erf": "gelu-exact",
        "relu": "rectifier",
    },
    "norm-position": {
        "pre": "pre-norm preln pre-ln first true",
        "post": "post-norm postln post-ln last false",
    },
    "positions": {"learned": "learned-absolute absolute embedding", "sinusoidal": "sin sine sinus fixed"},
    "schedule": {
        "constant": "none constant-with-warmup flat off",
        "cosine": "cosine-with-restarts cosine-annealing cos cosine-decay",
        "linear": "linear-decay",
        "step": "multistep multi-step steplr step-decay",
    },
    "tokenizer": {
        "char": "character characters byte bytes letter",
        "word": "words",
        "whitespace": "space spaces split",
        "bpe": "gpt2 gpt2bpetokenizer tiktoken byte-pair bytepair byte-level",
    },
    "recompute": {"full": "true all block uniform", "selective": "attention partial", "none": "false no off"},
    "pipeline": {
        "1f1b": "pipedream-flush pipedream one-f-one-b default",
        "interleaved": "interleaved-1f1b interleaved1f1b vpp",
        "zero-bubble": "zb zb-h1 zbh1 zerobubble interleavedzerobubble zbv",
        "gpipe": "naive fill-drain",
    },
    "model-type": {"gpt2": "gpt-2 gpt2-small 124m", "gpt3-175b": "gpt-3 gpt3", "tiny": "small mini nano"},
}
SWITCH = {"true": "yes y on 1 t", "false": "no n off 0 f"}

COMMANDS = {
    "train": "finetune fine-tune pretrain fit learn-from training run",
    "generate": "sample infer inference predict chat write text complete",
    "evaluate": "eval validate test perplexity",
    "sheet": "survey rate human-eval annotate questionnaire",
    "ratings": "agreement survey-results human-ratings",
    "score": "metrics bleu rouge sacrebleu judge",
    "fill": "fill-mask unmask mask complete-gaps cloze infill",
    "gradcheck": "grad-check check gradient-check check-gradients",
    "bench": "benchmark speed throughput",
    "memory": "mem estimate",
    "timeline": "profile trace bubble",
    "prepare": "clean preprocess preprocess-data dedup deduplicate filter normalize decontaminate",
    "plan": "planner planning calculator calculate size-up what-if llm-analysis calculon",
    "reshard": "convert convert-checkpoint repartition merge split",
    "compare": "diff",
    "embed": "encode embeddings features hidden-states extract feature-extraction vectorize",
    "import-hf": "import from-pretrained convert-from-hf hf",
    "export-hf": "export save-pretrained convert-to-hf to-hf",
    "doctor": "info check-install env status selftest",
    "vectors": "word2vec w2v skipgram skip-gram embeddings train-vectors export-vectors fasttext glove",
    "neighbours": "neighbors nearest most-similar similar similarity analogy analogies distance",
    "learn": "lesson lessons tutorial course",
    "completion": "completions autocomplete autocompletion tab-completion shell-completion",
}


def plain(name: str) -> str:
    """A name in lower case and with hyphens, as the tables above spell it."""
    return name.lower().replace("_", "-")


def found(name: str, table: dict[str, str]) -> list[str]:
    """All entries of a table that another program calls `name`."""
    return [here for here, theirs in table.items() if plain(name) in theirs.split()]
