"""Run and comparison folders made by hand, in the layout that training writes."""

import json
import math
import random
import re
from pathlib import Path

SITES = (("0.0.0", "conv"), ("1.0.0", "conv"), ("2.0.0", "avg_pool"), ("3.0.0", "linear"))
NET = '{default = {unit = {name = "lif"}}} c16 c32 P f64 f10'
ANN_NET = '{default = {unit = {name = "relu"}}} c16 c32 P f64 f10'
SOURCE = {
    "authors": "Xiao et al.",
    "title": "Online Training Through Time for Spiking Neural Networks",
    "venue": "NeurIPS",
    "year": 2022,
    "where": "arXiv:2210.04195",
}


def recipe(rule="bptt", *, seed=0, name="demo", steps=4, epochs=8, **changes):
    table = {
        "name": name,
        "net": {"text": "c16 c32 P f64 f10", "unit": {"name": "lif", "alpha": 0.5}},
        "data": {"name": "digits"},
        "head": {"name": "softmax"},
        "stages": [
            {
                "rule": {"name": rule},
                "steps": steps,
                "epochs": epochs,
                "batch": 64,
                "optimizer": {"name": "adamw", "lr": 0.005},
            }
        ],
        "seed": seed,
        "paper": None,
    }
    return table | changes


def curve(final=0.97, *, epochs=8, seed=0, rule="bptt", stage=0):
    draw = random.Random(f"{final} {seed}")
    rows = []
    for epoch in range(epochs):
        share = 1 - math.exp(-3 * (epoch + 1) / epochs)
        accuracy = min(1.0, 0.1 + (final - 0.1) * share + draw.gauss(0, 0.004))
        rows.append(
            {
                "stage": stage,
                "rule": rule,
                "epoch": epoch,
                "lr": 0.005,
                "loss": 2.3 * (1 - accuracy) + 0.02,
                "accuracy": accuracy,
                "val_loss": 2.4 * (1 - accuracy) + 0.05,
                "val_accuracy": max(0.0, accuracy - 0.01),
                "seconds": 0.2,
            }
        )
    rows[0]["health"] = [
        {"site": "0.0.0", "rate_per_step": 0.18, "silent_share": 0.1, "verdict": "ok"}
    ]
    return rows


def run(accuracy=0.97, *, rule="bptt", seed=0, spiking=True, steps=4, size=1.0, **changes):
    """A finished run; `size` scales its costs."""
    draw = random.Random(f"{rule} {seed} {accuracy}")
    layers = [
        {
            "site": site,
            "kind": kind,
            "unit": ("spiking" if spiking else "analog") if kind != "avg_pool" else "none",
            "neurons": 1024,
            "rate_per_step": draw.uniform(0.05, 0.45) if spiking and kind != "avg_pool" else None,
        }
        for site, kind in SITES
    ]
    steps = steps if spiking else 1
    record = {
        "format": 2,
        "name": "demo",
        "seed": seed,
        "net": NET if spiking else ANN_NET,
        "ann_net": ANN_NET,
        "data": "digits",
        "rule": rule,
        "rule_options": {},
        "steps": steps,
        "epochs": 8,
        "test_accuracy": accuracy,
        "test_loss": 0.1,
        "test_samples": 350,
        "val_accuracy": accuracy - 0.01,
        "train_seconds": 4.0 * size,
        "facts": {"title": rule.upper(), "spiking": spiking, "order": "layer"},
        "source": "Xiao et al. (2022). Online Training Through Time. NeurIPS. arXiv:2210.04195",
        "costs": {
            "parameters": 38_282,
            "rate_per_step": 0.2,
            "spikes": {"mean": 3000.0 * size},
            "ac": {"mean": 190_000.0 * size if spiking else 0.0},
            "mac": {"mean": 80_000.0},
            "energy": {
                "paper_int32": {
                    "net": 30_000.0 * size,
                    "driven": 9_000.0 * size,
                    "dense_ann": 1_080_000.0,
                },
                "paper_int32_output": {
                    "net": 40_000.0 * size,
                    "driven": 9_000.0 * size,
                    "dense_ann": 1_080_000.0,
                },
                "strict_fp32": {
                    "net": 540_000.0 * size,
                    "driven": 200_000.0 * size,
                    "dense_ann": 1_330_000.0,
                },
                "memory_aware_fp32": {"lower": 9e5 * size, "upper": 9e6 * size},
            },
            "inference": {
                "ms_per_sample": 0.8 * size,
                "ms_per_sample_quartiles": [0.75 * size, 0.85 * size],
                "rounds": 21,
            },
            "training": {
                "batch": 64,
                "peak_bytes": int(11_000_000 * size),
                "predicted_bytes": 12_000_000,
                "forward_macs": 1.3e6,
                "backward_macs": 2.6e6,
            },
            "layers": layers,
        },
        "curve": curve(accuracy, seed=seed, rule=rule),
        "stages": [
            {"rule": rule, "options": {}, "steps": steps, "epochs": 8, "planned": 8, "batch": 64}
        ],
        "accuracy_by_step": (
            [accuracy * (1 - 0.4 * 0.4**t) for t in range(1, steps)] + [accuracy]
            if spiking
            else None
        ),
        "recipe": recipe(rule, seed=seed, steps=steps),
        "environment": {"python": "3.12.3", "packages": {"torch": "2.13.0"}},
        "sources": [SOURCE],
        "warnings": [],
        "processes": 1,
        "classes": None,
    }
    return record | changes


def samples(*, count=8, steps=4, classes=None, seed=0, neurons=32):
    """Traces of leaky neurons driven by noise; spikes and potentials agree with each other."""
    draw = random.Random(seed)
    shown = []
    for number in range(count):
        label = number % 10
        prediction = label if draw.random() < 0.8 else (label + 1) % 10
        layers = []
        for site, kind in SITES:
            if kind == "avg_pool":
                continue
            trains, potentials = [], []
            for _ in range(neurons):
                v, train, potential = 0.0, [], []
                drive = draw.uniform(0, 0.9)
                for t in range(1, steps + 1):
                    v = 0.5 * v + drive + draw.gauss(0, 0.15)
                    potential.append(v)
                    if v >= 1:
                        train.append(t - 1)
                        v -= 1
                trains.append(train)
                potentials.append(potential)
            layers.append(
                {
                    "site": site,
                    "unit": "lif",
                    "neurons": 1024,
                    "v_th": 1.0,
                    "shown": list(range(neurons)),
                    "spikes": trains,
                    "levels": [1.0, 1.0, 1.0],
                    "traced": [0, 1, 2],
                    "v": potentials[:3],
                }
            )
        pixels = [min(255, int(255 * draw.random() ** 2)) for _ in range(64)]
        final = [draw.gauss(0, 0.6) for _ in range(10)]
        final[prediction] += 4
        logits = [
            [one * t / steps + draw.gauss(0, 0.2) for one in final] for t in range(1, steps + 1)
        ]
        shown.append(
            {
                "index": 10 * number,
                "label": label,
                "prediction": prediction,
                "image": {"shape": [1, 8, 8], "pixels": pixels},
                "logits": logits,
                "layers": layers,
            }
        )
    return {"format": 2, "steps": steps, "classes": classes, "samples": shown}


def entry(label, *runs, **changes):
    empty = {"control": False, "refusal": None, "error": None, "block": None, "tuning": None}
    return {"label": label, "differences": [], **empty, "runs": list(runs), **changes}


def write(path: Path, record):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return path


def write_run(folder: Path, record, traces=None, *, finished=True):
    """Write a run folder; an unfinished one holds its curve alone."""
    write(folder / "recipe.json", record["recipe"])
    lines = "".join(json.dumps(epoch) + "\n" for epoch in record["curve"])
    (folder / "metrics.jsonl").write_text(lines)
    if finished:
        write(folder / "result.json", record)
        if traces:
            write(folder / "samples.json", traces)
    return folder


def write_comparison(folder: Path, entries, *, traces=False, name="demo"):
    write(folder / "results.json", {"format": 2, "name": name, "seeds": [0], "entries": entries})
    for number, one in enumerate(entries):
        slug = re.sub(r"[^a-z0-9]+", "-", one["label"].lower()).strip("-")
        for record in one["runs"][:1]:
            spiking = record["facts"]["spiking"]
            own = samples(seed=number) if traces and spiking else None
            write_run(folder / slug / f"seed{record['seed']}", record, own)
    return folder


def many(*, count=60, seeds=1):
    """As many entries as a page may have to show: rules by sizes, some controls and failures."""
    entries = []
    for number in range(count):
        rule = ("bptt", "sltt", "ottt", "ann")[number % 4]
        size = 0.4 + 0.06 * number
        runs = [
            run(
                min(1.0, 0.90 + 0.08 * math.sin(number) ** 2 + 0.002 * seed),
                rule=rule,
                seed=seed,
                size=size,
                spiking=rule != "ann",
            )
            for seed in range(seeds)
        ]
        label = f"{rule.upper()}, width {number}"
        control = number % 20 == 19
        if number % 30 == 28:
            entries.append(entry(label, refusal="rules.ide: needs a feedback edge; add one."))
        else:
            entries.append(entry(label, *runs, control=control))
    return entries
