"""`yieldkit emulate check`: static checks of a program before it runs."""

from __future__ import annotations

from pathlib import Path

import click

from yieldkit.cli import emit, json_option

__all__ = ["check"]


@click.command("check")
@click.argument("program_file", metavar="PROGRAM.json", type=click.Path(path_type=Path))
@click.option("--queue-depth", type=click.IntRange(min=1), default=4, show_default=True, help="Words a queue holds.")
@click.option("--sram-words", type=click.IntRange(min=1), default=12_288, show_default=True, help="SRAM of a core.")
@click.option(
    "--most-moves",
    type=click.IntRange(min=0),
    default=200_000_000,
    show_default=True,
    help="Words moved in search of a deadlock, over all launches.",
)
@json_option
def check(program_file: Path, queue_depth: int, sram_words: int, most_moves: int, *, as_json: bool) -> None:
    """Check colours, counts of words, deadlock and SRAM; exit 3 when something does not hold."""
    from yieldkit.emulator.checks import inspect_lowered
    from yieldkit.emulator.lowering import lower
    from yieldkit.errors import AnswerIsNo
    from yieldkit.workloads import Program

    lowered = lower(Program.load(program_file), sram_words=sram_words)
    report = inspect_lowered(lowered, queue_depth=queue_depth, most_moves=most_moves)
    lines = []
    for one in report.launches:
        state = f"{len(one.problems)} problems" if one.problems else "good"
        banks = f"banks {min(one.sram.banks)} to {max(one.sram.banks)}"
        use = f"{one.sram.words} of {one.sram.sram_words} words of SRAM, {banks}"
        lines.append(f"{one.launch}: {state}; {one.moves} moves of words; {use}; deadlock {one.deadlock}")
        lines += [f"  {text}" for text in one.problems]
    problems = len(report.problems)
    lines.append(f"{len(report.launches)} launches with queues of {queue_depth} words: {problems or 'no'} problems")
    emit({**report.to_dict(), "holds": not problems}, "\n".join(lines), as_json=as_json)
    if problems:
        raise AnswerIsNo(report.problems[0] + (f" (and {problems - 1} more)" if problems > 1 else ""))
