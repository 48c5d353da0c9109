"""Trains the embedded model from photos and style vectors to the finished diffusers folder, in resumable stages.

    python tools/train_embedded.py --data DIR --weights DIR --out DIR --work DIR [--minutes M] [--stage NAME]

`--data` holds the photo shards, the style table and the styles' examples, `--weights` the style teacher, `--work` takes everything
that can be made again: decoded photos, checkpoints, loss CSVs and plots, contact sheets. Runs on the CPU or on one GPU
(embedded/scale.py has the sizes). Stages: data, text, autoencoder, denoiser, inversion, tuning, styling, polish, export, card; `all`
runs them in this order; `--stage card --judged DIR` writes the model card again with the figures of tools/judge_embedded.py. Needs
the extra `train`.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path

import torch
from embedded.stages import STAGES, Stages

from engine.gpu.host_memory import keep_freed_memory


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the embedded model.")
    parser.add_argument("--data", type=Path, required=True, help="photos_256_*.tar, photos.json, styles.*, style_examples.*")
    parser.add_argument("--weights", type=Path, required=True, help="style_teacher/")
    parser.add_argument("--out", type=Path, required=True, help="the diffusers folder to write")
    parser.add_argument("--work", type=Path, required=True, help="for checkpoints and all that can be made again")
    parser.add_argument("--start", type=Path, help="a finished model folder to begin with")
    parser.add_argument("--judged", type=Path, help="a folder with judge.json, for the model card")
    parser.add_argument("--minutes", type=float, default=120.0, help="training time in all, over all runs")
    parser.add_argument("--stage", default="all", help="all, or some of " + ",".join(STAGES))
    parser.add_argument("--processes", type=int, help="processes that draw pairs and write texts beside the training")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    """Run the chosen stages."""
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    keep_freed_memory()  # a training step on the CPU takes a multiple of its time where every tensor's pages are new
    options.work.mkdir(parents=True, exist_ok=True)
    stages = STAGES if options.stage == "all" else options.stage.split(",")
    if not set(stages) <= set(STAGES):
        raise SystemExit(f"--stage {options.stage}: choose all or some of {','.join(STAGES)}")
    with ExitStack() as closing:
        run = Stages(options, torch.device("cuda" if torch.cuda.is_available() else "cpu"), closing)
        for stage in stages:
            getattr(run, stage)()


if __name__ == "__main__":
    main()
