"""Records made by hand, with round numbers."""

from pathlib import Path

from spikeloom.records.comparison import ComparisonRecord, EntryRecord
from spikeloom.records.files import as_record


def run(accuracy=0.9, *, spiking=True, net="snn", data="digits", **changes):
    """A record's table with round numbers; the ReLU net of every spec is called "ann"."""
    costs = {
        "parameters": 12_345,
        "spikes": {"mean": 250.0},
        "ac": {"mean": 4_000.0},
        "mac": {"mean": 60_000.0},
        "energy": {
            "paper_int32": {"net": 2e6, "driven": 1e6, "dense_ann": 9e6},
            "strict_fp32": {"net": 4e6, "driven": 1e6, "dense_ann": 20e6},
        },
        "training": {"forward_macs": 100.0, "backward_macs": 200.0, "peak_bytes": 5_550_000},
    }
    record = {
        "format": 3,
        "name": "x",
        "rule": "bptt" if spiking else "ann",
        "epochs": 1,
        "curve": [],
        "test_accuracy": accuracy,
        "train_seconds": 6.0,
        "net": net if spiking else "ann",
        "ann_net": "ann",
        "data": data,
        "steps": 4 if spiking else 1,
        "facts": {"spiking": spiking},
        "costs": costs,
    }
    for path, value in changes.items():
        target, keys = record, path.split("__")
        for key in keys[:-1]:
            target = target[key]
        target[keys[-1]] = value
    return record


def entry(label, *runs, control=False, **others):
    """An entry of the older format; `others` are keys of the present one."""
    seeded = [{"seed": seed} | one for seed, one in enumerate(runs)]
    table = {"label": label, "control": control, "runs": seeded} | others
    return as_record(EntryRecord, table, Path("test"))


def comparison(*entries, **others):
    """A comparison of entries."""
    return ComparisonRecord(format=3, name="x", seeds=(0,), entries=entries, **others)


def timed(middle, *, half=0.1, name="ms_per_sample"):
    """A time in milliseconds as a record keeps it, its quartiles `half` away."""
    return {
        name: middle,
        f"{name}_quartiles": [middle - half, middle + half],
        f"{name}_doubt": None,
        "rounds": 11,
    }


ANN = run(
    spiking=False,
    train_seconds=2.0,
    costs__energy={
        "paper_int32": {"net": 9e6, "driven": 0.0, "dense_ann": 9e6},
        "strict_fp32": {"net": 10e6, "driven": 0.0, "dense_ann": 20e6},
    },
)
