"""Names of options and commands that people type, and what they are called here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Final

from ugatit_cli.errors import UsageError

# What is said where a command has it -> what people call it, without dashes.
OPTIONS: Final[Mapping[str, str]] = {
    "--learning-rate": "lr learningrate init-lr g-lr d-lr",
    "--iterations": "steps iters iter iteration max-steps max-iter max-iters num-steps n-iter niter train-steps "
    "epochs epoch n-epochs num-epochs max-epochs e",
    "--minutes": "epochs epoch n-epochs num-epochs max-epochs e hours time max-time duration",
    "--batch-size": "batch bs b batchsize",
    "--image-size": "resolution res img-size imsize size crop-size load-size input-size width height",
    "--size": "resolution res img-size imsize image-size resize scale width height output-size",
    "--output": "out out-dir outdir outfile output-dir output-folder output-path output-file result result-dir "
    "results results-dir dest destination dst save save-to save-dir save-path target-dir run-dir log-dir name to",
    "--model": "weights weight checkpoint checkpoint-path checkpoint-dir ckpt model-path model-name pretrained",
    "--from": "pretrained init init-from finetune fine-tune from-model base-model weights model checkpoint ckpt",
    "--resume": "continue continue-train continue-from resume-from restart load",
    "--device cuda": "gpu gpus gpu-id gpu-ids cuda use-gpu use-cuda g",
    "--device cpu": "cpu use-cpu no-cuda no-gpu",
    "--device mps": "mps metal",
    "--precision fp16": "fp16 half float16",
    "--precision bf16": "bf16 bfloat16 amp autocast mixed-precision",
    "--precision fp32": "fp32 float32 full-precision",
    "--workers": "num-workers n-workers threads num-threads nthreads jobs j cpus",
    "--overwrite": "force f yes y replace clobber exist-ok overwrite-existing",
    "--skip-existing": "no-overwrite no-clobber keep-existing skip resume continue",
    "--update": "newer refresh",
    "--to": "target target-domain domain",
    "--direction": "a2b b2a atob btoa reverse way",
    "--format": "ext extension filetype type suffix output-format to-format",
    "--quality": "jpeg-quality compression",
    "--dry-run": "dryrun n simulate preview",
    "--json": "jsonl json-lines output-json",
    "--report": "html html-report page gallery",
    "--verbose": "debug info log-level loud",
    "--quiet": "silent s no-progress no-verbose",
    "--log-file": "log logfile",
    "--config": "cfg conf c settings yaml opt config-file",
    "--data": "dataset datasets dataset-path dataroot datadir data-dir data-root data-path",
    "--checkpoint-every": "save-every save-freq save-interval save-epoch-freq save-latest-freq checkpoint-interval",
    "--sample-every": "print-freq display-freq sample-freq sample-interval",
    "--evaluate-every": "eval-every eval-freq eval-interval val-every validate-every",
    "--seed": "random-seed manual-seed",
    "--holdout": "val-split test-split validation-split val-size test-size",
    "--flip": "mirror hflip horizontal-flip",
    "--augment": "augmentation aug data-augmentation diffaug ada",
    "--variant light": "light lightweight",
    "--variant full": "full",
    "--channels": "ch ngf filters base-channels n-channels nf",
    "--discriminator-channels": "ndf",
    "--blocks": "n-res n-blocks num-blocks res-blocks resblocks",
    "--adversarial-weight": "adv-weight gan-weight lambda-adv lambda-gan",
    "--cycle-weight": "lambda-cycle lambda-cyc lambda-a lambda-b",
    "--identity-weight": "lambda-identity lambda-idt lambda-id",
    "--cam-weight": "lambda-cam",
    "--weight-decay": "wd l2",
    "--decay-from": "decay decay-epoch decay-step n-epochs-decay lr-decay lr-policy scheduler",
    "--ema": "ema-decay ema-beta",
    "--save-memory": "gradient-checkpointing checkpointing low-memory low-vram lowvram medvram",
    "--method": "arch architecture algorithm gan",
    "--recipe": "preset",
    "--domains": "names class-names labels",
    "--tile": "tiles tiling tile-size chunk",
    "--max-pixels": "max-size pixel-limit",
    "--strength": "alpha blend opacity intensity amount mix",
    "--alpha": "opacity strength blend",
    "--keep-colour": "keep-color keep-colors keep-colours preserve-color preserve-colour",
    "--keep-metadata": "exif keep-exif metadata copy-metadata",
    "--background": "bg bg-color background-color background-colour",
    "--colormap": "cmap colourmap palette",
    "--layout": "mode grid sheet view",
    "--maps": "map attention heatmap",
    "--faces": "face crop-face detect-faces",
    "--box": "crop bbox region roi rect rectangle",
    "--mask": "masks",
    "--films": "video videos movies film",
    "--codec": "vcodec encoder",
    "--steady": "deflicker flicker smooth temporal stabilize stabilise",
    "--style": "style-image reference ref seed",
    "--styles": "n-styles num-styles variations num-samples",
    "--files-from": "list file-list filelist input-list files",
    "--base": "root base-dir root-dir",
    "--watch": "daemon follow monitor poll",
    "--shard": "part split partition num-shards",
    "--engine onnx": "onnx onnxruntime ort",
    "--compile": "torch-compile jit",
    "--metrics": "metric fid kid",
    "--pairs": "paired ground-truth gt",
    "--features": "inception extractor feature-extractor",
    "--from-file": "file local path zip",
    "--force": "redownload refresh overwrite",
    "--host": "ip address bind listen server-name",
    "--port": "p server-port",
    "--open": "browser launch",
    "--token": "password api-key key auth",
    "--help-all": "all advanced options full-help",
}
_PICTURES: Final = (
    "input inputs image images img source src in i folder dir directory path file test-dir picture data"
)
# What is said instead, of some commands: no option is meant.
SENTENCES: Final[Mapping[str, Mapping[str, str]]] = {
    "translate": {_PICTURES: "Pictures are named without an option: ugatit translate PICTURES -o out/"},
    "cam": {_PICTURES: "Pictures are named without an option: ugatit cam PICTURES"},
    "train": {
        f"{_PICTURES} a b folder-a folder-b train-a train-b": "Folders are named without an option: ugatit train A B",
        "fp16 half float16": "fp16 is too coarse to train: take --precision bf16.",
        "phase": "ugatit train trains; ugatit translate uses what it has made.",
    },
    "evaluate": {
        "output out o save out-dir output-dir": "Figures go to stdout: ugatit evaluate ... --json > figures.json",
        "fake generated translated real input inputs": "Folders are named without: ugatit evaluate TRANSLATED REAL",
    },
    "": {
        "version": "ugatit --version shows it.",
        "recursive r": "Folders are taken with all that is below them.",
        "list list-models models": "ugatit models lists models, ugatit data data sets.",
    },
}
COMMANDS: Final[Mapping[str, str]] = {
    "translate": "predict infer inference run test apply generate stylize stylise transform transfer process",
    "cam": "attend heatmap gradcam grad-cam explain maps",
    "serve": "web webui ui gui server demo app start",
    "train": "fit learn finetune fine-tune",
    "evaluate": "eval score metrics fid kid validate",
    "study": "survey poll vote",
    "fetch": "download pull get install",
    "convert": "import",
    "export": "onnx torchscript",
    "push": "upload publish share",
    "models": "model list ls zoo",
    "data": "dataset datasets",
    "doctor": "info env check diagnose system",
    "completion": "complete completions autocomplete",
    "show": "info describe view",
    "rm": "remove delete del uninstall",
    "path": "where which location",
    "verify": "check validate",
    "list": "ls all",
    "tally": "count results",
}
# How alike names are of which one is a slip of the other.
ALIKE: Final = 0.75


def meant_by(path: str, typed: str, options: Iterable[str]) -> str:
    """The option that people mean by a name, as a sentence; empty if there is none.

    Args:
        path: of the command: `study make`; empty for all commands together.
        options: those that it has, with their dashes.
    """
    named, name, options = path.rpartition(" ")[2], _plain(typed), list(options)
    for sentences in (SENTENCES.get(named, {}), SENTENCES[""]):
        for names, sentence in sentences.items():
            if name in names.split():
                return sentence
    meant = [one for one, names in OPTIONS.items() if name in names.split() and one.split()[0] in options]
    meant = meant or [f"--{name}"] * (f"--{name}" in options) or _alike(f"--{name}", options)
    return f"It is {' or '.join(meant)} here." if meant else ""


def no_such_option(path: str, typed: str, options: Iterable[str]) -> UsageError:
    """What to say of an option that a command hasn't: as `meant_by`."""
    hint = meant_by(path, typed, options) or f"ugatit {path} --help lists all there are."
    return UsageError(f"no such option: {typed}", hint)


def no_such_command(group: str, typed: str, commands: Iterable[str]) -> UsageError:
    """What to say of a command that there isn't; `group` has a space at its end, or is empty."""
    commands = list(commands)
    meant = [one for one, names in COMMANDS.items() if typed.lower() in names.split() and one in commands]
    meant = meant or _alike(typed, commands)
    hint = f"It is {' or '.join(f'ugatit {group}{one}' for one in meant)}." if meant else ""
    return UsageError(f"no such command: {group}{typed}", hint or f"ugatit {group}--help lists all there are.")


def _plain(name: str) -> str:
    return name.lstrip("-").partition("=")[0].replace("_", "-").lower()


def _alike(name: str, names: Iterable[str]) -> list[str]:
    names = list(names)
    longer = [one for one in names if len(name) > 4 and one.startswith(name)]
    return longer or difflib.get_close_matches(name, names, n=2, cutoff=ALIKE)
