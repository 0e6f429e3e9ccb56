"""Commands that train: run, sweep, tune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aqa.commands.app import app, examples, say, show
from aqa.commands.options import ExportWandb, Overwrite, Plugin, PluginLater, use_plugins
from aqa.system.garbage import imported_for_good


@app.command(
    epilog=examples(
        "aqa run experiments/quickstart.yaml",
        "aqa run experiments/fisv.yaml data.target=PCS train.epochs=5 output=runs/short",
        "aqa run experiments/fisv.yaml model.name=mome",
        "aqa run experiments/fisv.yaml missing.train='{rates: 0.3}'",
    )
)
def run(
    experiment: Annotated[Path, typer.Argument(help="An experiment file (YAML).", metavar="EXPERIMENT")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Changes to the experiment, such as train.seed=1 or output=DIR. Quote values that have spaces.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    overwrite: Overwrite = False,
    plugin: Plugin = None,
) -> None:
    """Train a model and score it under every missing pattern."""
    with imported_for_good():
        from aqa.runs.run import run as run_experiment
        from aqa.system.devices import keep_freed_memory

    keep_freed_memory()
    result = run_experiment(experiment, overrides or [], overwrite=overwrite, say=say, show_progress=True)
    if result.already_finished:
        say(f"{result.folder} is finished; --overwrite runs it again")
    show(str(result))
    say(f"run folder: {result.folder}")


@app.command(
    epilog=examples(
        "aqa sweep experiments/sweeps/seeds.yaml --dry-run",
        "aqa sweep experiments/sweeps/seeds.yaml --jobs 2",
        "aqa sweep experiments/sweeps/seeds.yaml --status",
    )
)
def sweep(
    file: Annotated[Path, typer.Argument(help="A sweep file (YAML).", metavar="SWEEP")],
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at a time. Default: 1; with Ray as many as the cluster has room for."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs and exit.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show which runs are done, and exit.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Retry the runs that failed.")] = False,
    best: Annotated[
        bool, typer.Option("--best", help="Show the best of the runs that are done, by validation, and exit.")
    ] = False,
    export_wandb: ExportWandb = None,
    method: Annotated[
        str, typer.Option(help="With --export-wandb: grid, random or bayes, by the selection metric.")
    ] = "grid",
    plugin: PluginLater = None,
) -> None:
    """Run a grid of experiments. Runs that are done are not run again."""
    if not (dry_run or status or best or export_wandb):
        from aqa.sweeps.workers import import_once

        import_once(file)  # while this process imports what it needs itself, its plugins included
    use_plugins(plugin)
    with imported_for_good():
        from aqa.sweeps.sweep import sweep as run_sweep

    result = run_sweep(
        file,
        jobs=jobs,
        dry_run=dry_run,
        status=status,
        retry=retry,
        best=best,
        export_wandb=export_wandb,
        method=method,  # type: ignore[arg-type]
        say=say,
        show_progress=True,
    )
    show(str(result))
    raise typer.Exit(result.exit_status)


@app.command(
    epilog=examples(
        "aqa tune experiments/tune/mcmoe.yaml --dry-run",
        "aqa tune experiments/tune/mcmoe.yaml --jobs 2",
        "aqa tune experiments/tune/mcmoe.yaml --status",
    )
)
def tune(
    file: Annotated[Path, typer.Argument(help="A tune file (YAML).", metavar="TUNE")],
    jobs: Annotated[int, typer.Option(min=1, help="Trials at a time.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be searched and exit.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show what was found so far, and exit.")] = False,
    export_wandb: ExportWandb = None,
    method: Annotated[
        str, typer.Option(help="With --export-wandb: grid, random or bayes, by the selection metric.")
    ] = "bayes",
    plugin: PluginLater = None,
) -> None:
    """Search settings on the validation split, one budget for all.

    Every model gets the same number of trials. The best settings of each are then run, and scored once on test.
    """
    if jobs > 1 and not (dry_run or status or export_wandb):
        from aqa.sweeps.workers import import_once

        import_once(file)
    use_plugins(plugin)
    with imported_for_good():
        from aqa.sweeps.tune import tune as run_tune
        from aqa.system.devices import keep_freed_memory

    keep_freed_memory()
    result = run_tune(
        file,
        jobs=jobs,
        dry_run=dry_run,
        status=status,
        export_wandb=export_wandb,
        method=method,  # type: ignore[arg-type]
        say=say,
        show_progress=True,
    )
    show(str(result))
    raise typer.Exit(result.exit_status)
