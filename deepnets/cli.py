"""The command line: `deepnets`, which is also `python -m deepnets`."""

import argparse
import io
import json
import math
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from . import __version__
from .errors import UserError, lack_of_memory_told

# What a command needs is imported by the command: help and mistakes answer at once.


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as for every other mistake."""
        _tell(f"{self.prog}: {message}; see {self.prog} --help")
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "deepnets",
        description="The classic convolutional networks, from scratch, trained and compared.",
    )
    parser.add_argument("--version", action="version", version=f"deepnets {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    models = commands.add_parser(
        "models", help="every network: parameters and multiply-adds at 64x64"
    )
    models.set_defaults(command=_models)

    train = commands.add_parser(
        "train", help="train a network, continue an interrupted training, or report a finished one"
    )
    train.set_defaults(command=_train)
    train.add_argument("model", metavar="MODEL", help="a name from 'deepnets models'")
    train.add_argument(
        "--dataset",
        default="digits",
        help="digits, mnist, cifar10 or folder:PATH (default %(default)s)",
    )
    train.add_argument(
        "--recipe",
        default="tuned",
        help="vanilla, altered, classic, tuned or best (default %(default)s)",
    )
    train.add_argument(
        "--seed", type=int, default=0, help="of everything random (default %(default)s)"
    )
    train.add_argument("--epochs", type=int, help="instead of the recipe's")
    train.add_argument("--limit", type=int, metavar="N", help="train on N images only")
    train.add_argument(
        "--size",
        type=int,
        default=64,
        help="side of the images the network sees (default %(default)s)",
    )

    study = commands.add_parser("study", help="all runs of a study file that are not finished yet")
    study.set_defaults(command=_study)
    study.add_argument("file", metavar="FILE", type=Path)
    study.add_argument("--tier", help="the file's tier, full or small say (default: its first)")
    study.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="trainings at a time (default %(default)s)"
    )
    study.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a Dask cluster, whose workers train instead"
    )
    study.add_argument("--budget", type=_seconds, default=math.inf, help="time to use: 90s, 9m, 2h")

    for command in (train, study):
        command.add_argument(
            "--out", default="runs", metavar="DIR", help="folder of runs (default %(default)s)"
        )
        command.add_argument(
            "--download", action="store_true", help="fetch the dataset if it is missing"
        )

    compare = commands.add_parser(
        "compare", help="accuracies of runs with intervals and cost, and improved against original"
    )
    compare.set_defaults(command=_compare)

    predict = commands.add_parser("predict", help="the most likely classes of your own pictures")
    predict.set_defaults(command=_predict)
    predict.add_argument("run", metavar="RUN_DIR", help="a run's folder, with weights")
    predict.add_argument("images", metavar="IMAGE", nargs="+", type=Path)

    evaluate = commands.add_parser(
        "evaluate", help="test a run's stored weights again, and hold it against what the run says"
    )
    evaluate.set_defaults(command=_evaluate)
    evaluate.add_argument("run", metavar="RUN_DIR", help="a run's folder, with weights")
    evaluate.add_argument(
        "--dataset", help="folder:PATH, if the run's folder of pictures has been moved"
    )

    report = commands.add_parser(
        "report", help="a page about runs: accuracies, learning curves, confusion matrices"
    )
    report.set_defaults(command=_report)
    report.add_argument("dir", metavar="DIR", help="folder of runs")
    report.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="for page and pictures"
    )

    for command in (train, study, evaluate):
        command.add_argument(
            "--device", default="auto", help="auto, cpu, cuda or cuda:N (default %(default)s)"
        )
        command.add_argument(
            "--precision", default="auto", help="auto, fp32 or bf16 (default %(default)s)"
        )
    compare.add_argument(
        "dir",
        nargs="?",
        default="results",
        metavar="DIR",
        help="folder of runs (default %(default)s)",
    )
    for command in (models, compare):
        command.add_argument("--json", action="store_true", help="for programs")
    return parser


def _seconds(text: str) -> float:
    """90s, 9m or 2h in seconds."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smh])", text)
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90s, 9m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _models(args: argparse.Namespace) -> None:
    from . import models

    rows: list[dict[str, Any]] = []
    for name in models.names():
        network = models.blueprint(name)
        counts = models.count_parameters(network), models.multiply_adds(network, 64)
        rows.append({"name": name, "parameters": counts[0], "macs": counts[1]})
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{'10 classes, RGB, 64x64':<24}{'parameters':>12}{'mult-adds M':>13}")
    for row in rows:
        print(f"{row['name']:<24}{row['parameters']:>12,}{row['macs'] / 1e6:>13,.1f}")


def _train(args: argparse.Namespace) -> None:
    from . import recipes, training

    overrides = {} if args.epochs is None else {"epochs": args.epochs}
    recipe = recipes.get(args.recipe, args.model, **overrides)
    job = training.Job(
        args.model, args.dataset, recipe, args.seed, limit=args.limit, input_size=args.size
    )
    run = training.fit(
        job, args.out, download=args.download, device=args.device, precision=args.precision
    )
    info = run.info
    print(
        f"{run.path}: {100 * run.accuracy:.2f} % of {info['test_total']} test images, {info['train_seconds']:.0f} s"
    )
    for warning in info["warnings"]:
        print(f"warning: {warning}")


def _study(args: argparse.Namespace) -> int:
    if args.file.parts[:1] == ("studies",) and not args.file.exists():
        raise UserError(f"{args.file} is not here; run this in a clone of the repository")
    from . import study

    _, missing = study.execute(
        study.plan(args.file, args.tier), args.out, budget=args.budget, parallel=args.jobs, scheduler=args.scheduler,
        download=args.download, device=args.device, precision=args.precision,
    )  # fmt: skip
    for line in missing:
        print(f"not finished: {line}")
    return 1 if missing else 0


def _compare(args: argparse.Namespace) -> None:
    from . import runs
    from .compare import effects, text

    found = runs.find(args.dir)
    if args.json:
        tables = {name: table(found).astype(object) for name, table in effects.TABLES.items()}
        answer = {
            name: table.where(table.notna(), None).to_dict("records")  # JSON has no NaN
            for name, table in tables.items()
        }
        print(json.dumps(answer, indent=1, allow_nan=False))
    else:
        print(text.terminal(found))


def _predict(args: argparse.Namespace) -> int:
    from . import predict, runs

    classify, code = predict.classifier(runs.Run.load(args.run)), 0
    for file in args.images:
        try:
            classes, done = classify(file)
        except UserError as error:  # of this picture; the others are answered
            _tell(f"deepnets: {error}")
            code = 2
            continue
        print(
            f"{file}: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in classes),
            flush=True,
        )
        for what in done:
            print(f"  {what}")
    return code


def _evaluate(args: argparse.Namespace) -> int:
    from . import predict, runs

    run = runs.Run.load(args.run)
    predicted = predict.evaluate(
        run, dataset=args.dataset, device=args.device, precision=args.precision
    )
    share, same = (
        (predicted == run.test["labels"]).mean(),
        (predicted == run.test["predicted"]).sum(),
    )
    print(
        f"{run.path}: {100 * share:.2f} % of {len(predicted)} test images; the run says {100 * run.accuracy:.2f} %"
    )
    print(f"  {same} of {len(predicted)} predictions are those of the run")
    # another machine or precision rounds otherwise, and little more
    return 0 if same >= 0.97 * len(predicted) else 1


def _report(args: argparse.Namespace) -> None:
    from . import disk, runs
    from .compare import report

    print(*disk.write_all(report.files(runs.find(args.dir), args.out)), sep="\n")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0; 1 for a study that is not finished, a run whose
    weights do not confirm it, or output that nobody reads on; 2 for a mistake; 130 for Ctrl-C.
    SIGTERM stops a training with 143.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever called
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, open till the end
    # a name that the terminal has no letters for must not end a training
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        parser = _parser()
        args = parser.parse_args(arguments)
        for name, value in vars(args).items():  # of --size=-- Python before 3.12 makes a list
            if value == []:
                parser.error(f"argument --{name}: expected one argument")
        with lack_of_memory_told():
            code = args.command(args) or 0
        sys.stdout.flush()  # a closed pipe or a full disk shows here, and not after the end
        return code
    except UserError as error:
        _tell(f"deepnets: {error}")
        return 2
    except BrokenPipeError:  # whoever read the output has seen enough
        _give_up_output()
        return 1
    except OSError as error:
        _tell(f"deepnets: {error.filename or 'system'}: {error.strerror or error}")
        _give_up_output()
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues", file=sys.stderr)
        return 130


def _tell(mistake: str) -> None:
    """Print a mistake in one line, whatever is in the names that it speaks of."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in mistake)
    print(line, file=sys.stderr, flush=True)


def _give_up_output() -> None:
    """Let what cannot be written go nowhere, or Python's last flush would complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
