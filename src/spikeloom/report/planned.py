"""How each layer is computed, and why not faster, as lines for the terminal."""

from collections.abc import Callable

from spikeloom.nets.how import (
    How,
    Setting,
    cheap_names,
    decide,
    why_not_folded,
    why_not_inside,
    why_not_pool,
    why_not_short,
    why_not_spare,
)
from spikeloom.nets.module.build import Plan
from spikeloom.nets.module.site import Site

HEADINGS = ("layer", "neurons by", "pool", "norm", "state", "currents")

ORDERS = {
    "time": "step by step",
    "layer": "layer by layer, each on the whole train",
    "rates": "one pass in firing rates",
}


def plan_title(word: str, setting: Setting) -> str:
    """Say when the net is run so."""
    gradients = "with gradients" if setting.grad else "without gradients"
    return f"{word}: {ORDERS[setting.order]}, {setting.rows} rows at once, {gradients}"


def plan_rows(plan: Plan, setting: Setting) -> list[tuple[str, ...]]:
    """Return a row per site; headings first."""
    cheap = cheap_names(plan, setting)
    rows: list[tuple[str, ...]] = [HEADINGS]
    for site in plan.sites:
        how = decide(site, setting, cheap)
        runs = site.unit is not None and site.unit.stateful
        trains = runs and setting.order != "rates"
        if how.joined:
            assert site.source is not None
            pool = f"with {site.source.name}"
        else:
            pool = f"{how.pool}x{how.pool} inside" if how.pool > 1 else "-"
        rows.append(
            (
                site.name,
                how.loop if trains else "-",
                pool,
                _norm(how),
                ("short" if how.short else "whole") if trains and setting.order == "time" else "-",
                ("overwritten" if how.spare else "kept") if trains else "-",
            )
        )
    return rows


def _norm(how: How) -> str:
    if how.norm == "none":
        return "-"
    return how.norm if how.inside(1) or how.norm != "inside" else f"inside, T >= {how.inside_from}"


def plan_reasons(plan: Plan, setting: Setting) -> list[str]:
    """Say why the slower way is taken, each reason once with its layers."""
    found: dict[str, list[str]] = {}
    for site in plan.sites:
        for said in _reasons(site, setting):
            found.setdefault(said, []).append(site.name)
    return [f"{said} ({', '.join(names)})" for said, names in found.items()]


def _reasons(site: Site, s: Setting) -> list[str]:
    runs = site.unit is not None and site.unit.stateful and s.order != "rates"
    lines = []
    asked: list[tuple[bool, str, Callable[[], str]]] = [
        (site.pool is not None, "pool apart", lambda: why_not_pool(site, s)),
        (runs and s.order == "time", "state whole", lambda: why_not_short(s)),
        (runs, "currents kept", lambda: why_not_spare(site, s)),
    ]
    for applies, what, why in asked:
        reason = why() if applies else ""
        if reason:
            lines.append(f"{what}: {reason}")
    if site.norm is not None and why_not_folded(site, s) and why_not_inside(site, s):
        lines.append(f"norm before the neurons: {why_not_inside(site, s)}")
    return lines
