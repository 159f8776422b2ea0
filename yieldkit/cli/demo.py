"""`yieldkit demo`: one wafer through the whole chain, ending in an HTML report."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from yieldkit.cli import emit, json_option, steps_bar

__all__ = ["command"]


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("reports/demo"), show_default=True, help="Folder.")
@click.option("--preset", default="mini", show_default=True, help="Wafer preset.")
@click.option("--seed", type=click.IntRange(min=0), default=5, show_default=True, help="Of the wafer and the campaign.")
@click.option("--d0", type=click.FloatRange(min=0), help="Defects per cm²; the wafer's own density when left out.")
@click.option("--alpha", type=click.FloatRange(min=0, min_open=True), default=2.0, show_default=True)
@click.option("--defects", type=click.Path(path_type=Path), help="Defects of this KLARF file instead of sampled ones.")
@click.option("--wafer-id", help="Wafer of the file.")
@click.option("--place", type=click.Choice(["keep", "scale"]), default="scale", show_default=True)
@click.option("--steps", type=click.IntRange(min=3), default=450, show_default=True, help="Training steps.")
@click.option("--trials", type=click.IntRange(min=1), default=120, show_default=True, help="Trials of the campaign.")
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True)
@json_option
def command(
    out: Path,
    preset: str,
    seed: int,
    d0: float | None,
    alpha: float,
    defects: Path | None,
    wafer_id: str | None,
    place: str,
    steps: int,
    trials: int,
    jobs: int,
    *,
    as_json: bool,
) -> None:
    """Carry one wafer from its defects to a trained model, a burn-in campaign and a report.

    Defects, fault map, repair, firmware image, booted fabric, real training and decoding on it, a campaign of injected
    faults, blind diagnosis, report. Exit 3 when the wafer cannot be repaired (the report says why).
    """
    from yieldkit.burnin import Campaign, CampaignRun, outcome_table, show_progress, stop_on_signals
    from yieldkit.burnin.chain import build_chain
    from yieldkit.defects import NegativeBinomial
    from yieldkit.emulator.running import check_protection
    from yieldkit.emulator.training import train
    from yieldkit.errors import AnswerIsNo
    from yieldkit.repair import repair_yield
    from yieldkit.report import YieldResult, report_of, write_report
    from yieldkit.wafer import WaferSpec
    from yieldkit.wafermap import read_wafer_map
    from yieldkit.workloads.gpt import GptShape

    def say(text: str) -> None:
        if not as_json:
            click.echo(text)

    density = d0 if d0 is not None else WaferSpec.preset(preset).process.d0_per_cm2
    section: dict[str, Any] = {"preset": preset, "id": wafer_id or "W01"}
    if defects is None:
        section["defects"] = {"law": "negative_binomial", "d0_per_cm2": density, "alpha": alpha, "seed": seed}
    else:
        chosen = read_wafer_map(defects, wafer_id=wafer_id).wafer_id
        section["id"] = chosen or section["id"]
        section["defects"] = {"klarf": str(defects.absolute()), "wafer_id": chosen}
        section["defects"]["place"] = "scaled" if place == "scale" else "as_is"
    tables = {
        "campaign": {"name": "demo", "seed": seed, "trials": trials, "round": trials, "chunk": 5},
        "wafer": section,
        "program": {"kind": "gpt_training", "steps": 48},
        "faults": {
            "kinds": {"sram_data": 4, "accumulator": 2, "config": 4, "link_flip": 2, "link_drop": 1},
            "sites": "used",
        },
    }
    campaign = Campaign.from_tables(tables, source="demo")

    chain = build_chain(campaign.spec.wafer, seed=seed)
    for note in chain.faults.notes:
        say(f"defects  {note}")
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in chain.faults.counts().items())
    say(f"wafer    {preset} {section['id']}: {counts}")
    say(f"repair   {chain.plan.summary()}")
    law = NegativeBinomial(d0_per_cm2=density, alpha=alpha)
    estimate = repair_yield(chain.wafer, law, chain.rules, n=300, rng=seed)
    silicon = chain.wafer.silicon_mm2
    yields = YieldResult(
        laws=[
            ("a wafer without a defect, negative binomial", "(1 + A D0 / alpha)^-alpha", law.yield_(area_mm2=silicon))
        ],
        simulated=[
            ("yield with repair", estimate.repaired, estimate.n, estimate.low, estimate.high, "Wilson"),
        ],
        facts=[("D0", f"{density:g} per cm²"), ("alpha", alpha), ("silicon", f"{silicon:,.0f} mm²")],
    )
    say(f"yield    {estimate.repaired} of {estimate.n} sampled wafers give the standard fabric")
    report = out / "report.html"
    command_line = "yieldkit " + shlex.join(sys.argv[1:]) if sys.argv[0].endswith(("yieldkit", "__main__.py")) else ""
    title = f"yieldkit: wafer {section['id']} ({preset})"
    if chain.fabric is None:
        path = write_report(report_of(title=title, chain=chain, yields=yields, command=command_line), report)
        emit({"report": str(path), "status": chain.plan.status}, str(path), as_json=as_json)
        raise AnswerIsNo(f"the wafer cannot be repaired: {chain.plan.summary()}")
    check_protection(chain.wafer)

    say(f"training {steps} steps of a GPT on a 16 x 16 rectangle of the fabric")
    shape = GptShape(layers=2, width=128, heads=16, context=32, sequences=16)
    with steps_bar("training", steps) as tick:
        training = train(chain.fabric, shape, rows=16, cols=16, steps=steps, write=16, threads=jobs, progress=tick)
    held_out = training.held_out[-1][1]
    say(
        f"         held-out loss {held_out:.3f} nats/byte; bigram {training.bigram:.3f}, trigram {training.trigram:.3f}"
    )

    say(f"campaign {trials} trials, one fault each, {jobs} job(s)")
    # A folder of its own for every campaign: a second demo goes on with its run, another one starts afresh.
    folder = out / f"campaign-{campaign.fingerprint[:8]}"
    with stop_on_signals() as stop:
        for _ in show_progress(campaign.iter_run(folder, jobs=jobs, stop=stop)):
            pass
    run = CampaignRun.load(folder)
    for row in outcome_table(run).query("kind == 'all'").itertuples():
        say(f"         {row.label:<20} {row.count:>4} of {row.n}")
    data = report_of(
        title=title,
        subtitle="defects, repair, training, injected faults and blind diagnosis on one wafer",
        chain=chain,
        yields=yields,
        training=training,
        campaign=run,
        command=command_line,
    )
    data.save(out / "report.json")
    chain.faults.save(out / "faults.json")
    chain.plan.save(out / "plan.json")
    if chain.image is not None:
        chain.image.save(out / "firmware.bin")
    training.program.save(out / "program.json")
    path = write_report(data, report)
    facts = {
        "report": str(path),
        "status": chain.plan.status,
        "held_out_loss": held_out,
        "bigram_loss": training.bigram,
        "trigram_loss": training.trigram,
        "trials": run.n,
        "state_hash": training.result.state_hash,
    }
    emit(facts, str(path), as_json=as_json)
