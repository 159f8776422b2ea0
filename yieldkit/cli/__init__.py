"""The command line: one thin file a command, loaded only when it is used."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click

from yieldkit.errors import YieldkitError
from yieldkit.version import __version__

__all__ = ["GROUPS", "app", "emit", "json_option", "run", "steps_bar"]

GROUPS: Final[Mapping[str, str]] = {
    "burnin": "Burn-in campaigns: run, resume, replay, status.",
    "defects": "Yield laws and sampled defects.",
    "demo": "One wafer through the whole chain, ending in an HTML report.",
    "diagnose": "Classify the symptoms of a run.",
    "doctor": "Say what this installation has and whether it works.",
    "emulate": "Run a training or inference program on a booted wafer.",
    "map": "Read wafer maps and inspection files.",
    "reliability": "Intervals for what was counted.",
    "repair": "Plan, check and ship the map of a wafer.",
    "report": "Write the HTML report of a run.",
    "wafer": "Wafer specifications and presets.",
}


class _LazyGroup(click.Group):
    """Loads `yieldkit.cli.<name>:command` when the command is called, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(GROUPS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in GROUPS:
            return None
        module = importlib.import_module(f"yieldkit.cli.{cmd_name}")
        command = module.command
        if not isinstance(command, click.Command):
            raise TypeError(f"yieldkit.cli.{cmd_name}.command is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(GROUPS.items()))


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="yieldkit")
def app() -> None:
    """Yield, defects, repair and burn-in reliability of wafer-scale processors."""


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json`, passed as `as_json`: the same facts as the text, for machines."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")(function)


def emit(facts: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print `facts` as JSON or `text` for people; both say the same."""
    click.echo(json.dumps(facts, indent=2, sort_keys=True, allow_nan=False) if as_json else text)


@contextmanager
def steps_bar(name: str, total: int) -> Iterator[Callable[..., None]]:
    """A bar with the time left on a terminal, nothing when piped; yields what to call after each step."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total)
        yield lambda *_: bar.advance(task)


def run(arguments: Sequence[str]) -> int:
    """Run the command line on `arguments` and return its exit status; bugs keep their traceback."""
    try:
        outcome = app.main(args=list(arguments), prog_name="yieldkit", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("yieldkit: interrupted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return 2
    except YieldkitError as error:
        line = "; ".join(part.strip() for part in str(error).splitlines() if part.strip())
        click.echo(f"yieldkit: {line}", err=True)
        return error.exit_code
    except KeyboardInterrupt:
        click.echo("yieldkit: interrupted", err=True)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return outcome if isinstance(outcome, int) else 0
