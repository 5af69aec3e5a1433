"""The command line: `deepnets`, which is also `python -m deepnets`."""

import argparse
import io
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from . import __version__
from .errors import UserError, explain_out_of_memory

# A command imports what it needs itself, so that help and mistakes answer at once.


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Prints one line, as for every other mistake."""
        _tell(f"{self.prog}: {message}; see {self.prog} --help")
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    about = "The classic convolutional networks, from scratch, trained and compared."
    parser = _Parser("deepnets", description=about)
    parser.add_argument("--version", action="version", version=f"deepnets {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int | None], example: str, *parents):
        """Adds a command, which its docstring explains; returns what adds its arguments."""
        about, epilog = run.__doc__, f"example: %(prog)s {example}"
        command = commands.add_parser(
            name, help=about, description=about, epilog=epilog, parents=parents
        )
        command.set_defaults(command=run)
        return command.add_argument

    default = "(default %(default)s)"
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--device", default="auto", help=f"auto, cpu, cuda or cuda:N {default}")
    where.add_argument("--precision", default="auto", help=f"auto, fp32 or bf16 {default}")
    trains = argparse.ArgumentParser(add_help=False, parents=[where])
    trains.add_argument("--out", default="runs", metavar="DIR", help=f"folder of runs {default}")
    trains.add_argument("--download", action="store_true", help="fetch the dataset if missing")

    add("models", _models, "")

    argument = add("train", _train, "resnet20 --dataset mnist --epochs 2 --download", trains)
    argument("model", metavar="MODEL", help="a name from 'deepnets models'")
    datasets = "digits, mnist, cifar10 or folder:PATH"
    argument("--dataset", default="digits", help=f"{datasets} {default}")
    recipes = "vanilla, altered, classic, tuned or best"
    argument("--recipe", default="tuned", help=f"{recipes} {default}")
    argument("--seed", type=int, default=0, help=f"fixes all randomness {default}")
    argument("--epochs", type=int, help="instead of the recipe's")
    choices = "none, shift (no mirror images), standard or published"
    argument("--augment", metavar="NAME", help=f"instead of the recipe's: {choices}")
    argument("--limit", type=int, metavar="N", help="train on N images only")
    argument("--size", type=int, default=64, help=f"side of what the network sees {default}")

    argument = add("study", _study, "studies/demo.toml --out runs/demo --budget 9m", trains)
    argument("file", metavar="FILE", type=Path)
    argument("--jobs", type=int, default=1, metavar="N", help=f"trainings at a time {default}")
    cluster = "of a Dask cluster, whose workers train instead"
    argument("--scheduler", metavar="ADDRESS", help=cluster)
    argument("--budget", type=_seconds, default=math.inf, help="time to use: 90s, 9m, 2h")

    argument = add("compare", _compare, "runs/demo")
    argument("dir", nargs="?", default="results", metavar="DIR", help=f"folder of runs {default}")

    argument = add("predict", _predict, "runs/digits/resnet20/tuned/seed0 seven.png")
    argument("run", metavar="RUN_DIR", help="a run's folder, with weights")
    argument("images", metavar="IMAGE", nargs="+", type=Path)

    argument = add("evaluate", _evaluate, "runs/digits/resnet20/tuned/seed0", where)
    argument("run", metavar="RUN_DIR", help="a run's folder, with weights")
    argument("--dataset", help="folder:PATH, if the run's folder of pictures has been moved")

    argument = add("report", _report, "runs --out runs/report")
    argument("dir", metavar="DIR", help="folder of runs")
    argument("--out", type=Path, required=True, metavar="DIR", help="for page and pictures")
    return parser


def _seconds(text: str) -> float:
    """Returns the seconds of 90s, 9m or 2h."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smh])", text)
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90s, 9m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _models(args: argparse.Namespace) -> None:
    """Lists every network with its parameters and multiply-adds at 64x64."""
    from . import models

    print(f"{'10 classes, RGB, 64x64':<24}{'parameters':>12}{'mult-adds M':>13}")
    for name in models.names():
        network = models.blueprint(name)
        parameters, macs = models.count_parameters(network), models.multiply_adds(network, 64)
        print(f"{name:<24}{parameters:>12,}{macs / 1e6:>13,.1f}")


def _train(args: argparse.Namespace) -> None:
    """Trains a network, continues an interrupted training, or reports a finished one."""
    from . import recipes, training

    variant = {} if args.augment is None else {"augment": args.augment}
    overrides = {} if args.epochs is None else {"epochs": args.epochs}
    recipe = recipes.get(args.recipe, args.model, variant, **overrides)
    settings = {"limit": args.limit, "input_size": args.size}
    job = training.Job(args.model, args.dataset, recipe, args.seed, **settings)
    how = {"device": args.device, "precision": args.precision, "download": args.download}
    run = training.fit(job, args.out, **how)
    share = f"{100 * run.accuracy:.2f} % of {run.info.test_total} test images"
    print(f"{run.path}: {share}, {run.info.train_seconds:.0f} s")
    for warning in run.info.warnings:
        print(f"warning: {warning}")


def _study(args: argparse.Namespace) -> int:
    """Trains all runs of a study file that are not finished yet."""
    from . import study

    jobs = study.plan(args.file)
    when = {"budget": args.budget, "parallel": args.jobs, "scheduler": args.scheduler}
    how = {"device": args.device, "precision": args.precision, "download": args.download}
    _, missing = study.execute(jobs, args.out, **when, **how)
    for line in missing:
        print(f"not finished: {line}")
    return 1 if missing else 0


def _compare(args: argparse.Namespace) -> None:
    """Prints accuracies of runs with intervals and cost, and improved against original."""
    from . import runs
    from .compare import text

    print(text.terminal(runs.find(args.dir)))


def _predict(args: argparse.Namespace) -> int:
    """Prints the most likely classes of your own pictures."""
    from . import predict, runs

    classify, code = predict.classifier(runs.Run.load(args.run)), 0
    for file in args.images:
        try:
            classes, done = classify(file)
        except UserError as error:  # of this picture; the others are answered
            _tell(f"deepnets: {error}")
            code = 2
            continue
        shares = [f"{name} {100 * share:.1f} %" for name, share in classes]
        print(f"{file}: {', '.join(shares)}", flush=True)
        for what in done:
            print(f"  {what}")
    return code


def _evaluate(args: argparse.Namespace) -> int:
    """Tests a run's stored weights again, and compares with what the run says."""
    from . import predict, runs

    run = runs.Run.load(args.run)
    how = {"device": args.device, "precision": args.precision}
    predicted = predict.evaluate(run, dataset=args.dataset, **how)
    count, share = len(predicted), (predicted == run.test["labels"]).mean()
    says = f"the run says {100 * run.accuracy:.2f} %"
    print(f"{run.path}: {100 * share:.2f} % of {count} test images; {says}")
    same = (predicted == run.test["predicted"]).sum()
    print(f"  {same} of {count} predictions are those of the run")
    # Another machine or precision rounds otherwise, which changes few predictions.
    return 0 if same >= 0.97 * count else 1


def _report(args: argparse.Namespace) -> None:
    """Makes a page about runs: accuracies, learning curves, confusion matrices."""
    from . import disk, runs
    from .compare import report

    print(*disk.write_all(report.files(runs.find(args.dir), args.out)), sep="\n")


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    It is 0; 1 for a study that is not finished, a run whose weights do not confirm it, or output
    that nobody reads on; 2 for a mistake; 130 for Ctrl-C. SIGTERM stops a training with 143.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever called
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, open till the end
        elif isinstance(stream, io.TextIOWrapper):
            # A name that the terminal cannot show must not end a training
            stream.reconfigure(errors="backslashreplace")
    try:
        parser = _parser()
        args = parser.parse_args(arguments)
        for name, value in vars(args).items():  # of --size=-- Python before 3.12 makes a list
            if value == []:
                parser.error(f"argument --{name}: expected one argument")
        with explain_out_of_memory():
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
    """Prints a mistake in one line, whatever is in the names that it speaks of."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in mistake)
    print(line, file=sys.stderr, flush=True)


def _give_up_output() -> None:
    """Discards what cannot be written, or Python's last flush would complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
