"""`yieldkit wafer`: presets and specifications."""

from __future__ import annotations

import click

from yieldkit.cli import emit, json_option

__all__ = ["command"]


@click.group(name="wafer")
def command() -> None:
    """Wafer specifications and presets."""


@command.command("list")
@json_option
def list_presets(as_json: bool) -> None:
    """List the presets with their counts."""
    from yieldkit.wafer import WaferSpec, preset_names

    found = [WaferSpec.preset(name).summary() for name in preset_names()]
    lines = [f"{'preset':<8}{'sites':>13}{'physical':>11}{'enabled':>10}{'fabric':>13}{'spares/row':>12}"]
    for one in found:
        sites = " x ".join(map(str, one["physical_shape"]))
        fabric = " x ".join(map(str, one["logical_shape"]))
        lines.append(
            f"{one['name']:<8}{sites:>13}{one['physical_cores']:>11,}{one['enabled_cores']:>10,}"
            f"{fabric:>13}{one['spares_per_row']:>12}"
        )
    emit({"presets": found}, "\n".join(lines), as_json=as_json)


@command.command()
@click.argument("wafer")
@click.option("--toml", "as_toml", is_flag=True, help="Print the whole spec as TOML, to edit and pass as --spec.")
@click.option("--sources", is_flag=True, help="Add where each number is from.")
@json_option
def show(wafer: str, as_toml: bool, sources: bool, as_json: bool) -> None:
    """Show a preset by its name, or a spec file (a name that ends in .toml or has a slash)."""
    from yieldkit.wafer import WaferSpec

    is_file = wafer.endswith(".toml") or "/" in wafer
    spec = WaferSpec.from_toml(wafer) if is_file else WaferSpec.preset(wafer)
    if as_toml:
        click.echo(spec.to_toml(), nl=False)
        return
    facts = spec.summary()
    lines = [f"{key.replace('_', ' '):<18}{_shown(value)}" for key, value in facts.items()]
    if sources:
        lines += ["", "Sources", *(f"  {path}: {text}" for path, text in sorted(spec.sources.items()))]
        facts["sources"] = dict(spec.sources)
    emit(facts, "\n".join(lines), as_json=as_json)


@command.command()
@click.argument("file", type=click.Path())
@json_option
def check(file: str, as_json: bool) -> None:
    """Check a spec file; names every wrong field and exits with 2 when there is one."""
    from yieldkit.wafer import WaferSpec

    spec = WaferSpec.from_toml(file)
    facts = {"file": file, "ok": True, "name": spec.name, "fingerprint": spec.fingerprint}
    emit(facts, f"{file}: fine, wafer {spec.name}, fingerprint {spec.fingerprint}", as_json=as_json)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        return " x ".join(_shown(item) for item in value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
