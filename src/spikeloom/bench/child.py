"""The process of one contender: it builds steps and runs them when it is told to.

Requests and replies are lines of JSON. The interpreter may be another one, with a peer and torch
alone: nothing here and below imports more than torch and numpy.
"""

import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, TextIO

import torch

from spikeloom.base.errors import SpikeloomError
from spikeloom.base.extras import version_of
from spikeloom.bench.contender import CONTENDERS, Contender, Layout, Step, Task
from spikeloom.bench.neuron import measure_neuron
from spikeloom.bench.workloads import Workload
from spikeloom.meters.clock import stopwatch
from spikeloom.meters.peak import peak_allocated

WARM_LEAST, WARM_MOST = 2, 12
"""Steps that are not timed after the build."""

STEADY = 0.9
"""A step is warm once no further one is faster than this share of the fastest so far."""

TRIALS = 3
"""Steps per layout, where the fastest of several is looked for; slow steps get one."""

LEAD_BELOW = 1.0
"""Seconds; shorter steps get one that is not timed first, since another contender ran before."""

TURN = 3.0
"""Seconds after which a turn ends even if steps are left."""


class Host:
    """The steps that were built in this process, by key."""

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}
        self.fastest: dict[str, float] = {}

    def open(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Build a contender's step, warm it up, and measure its memory.

        Where the layout is still to be chosen, return the fastest one instead: the step is then
        built in a new process, since the trial has changed the memory of this one.
        """
        contender = CONTENDERS.find(request["contender"])
        reason = _missing(contender)
        if reason:
            return {"skip": reason}
        workload, precision = Workload.from_dict(request["workload"]), request["precision"]
        layouts = contender.layouts if workload.images else contender.layouts[:1]
        layout = request["layout"] or layouts[0]
        if request["layout"] is None and len(layouts) > 1:
            tasks = [Task(workload, precision, one) for one in layouts]
            return {"choose": _fastest({one.layout: contender.build(one) for one in tasks})}
        started = _peak_resident()
        step = contender.build(Task(workload, precision, layout))
        begun = time.perf_counter()
        loss = float(step.call())
        first = time.perf_counter() - begun
        if request["timed"]:
            warm_up(step.call)
            self.fastest[request["key"]] = stopwatch(step.call)
        process = _peak_resident() - started  # the profiler below would be part of it
        peak = peak_allocated(step.call)
        self.steps[request["key"]] = step
        return {
            "loss": loss,
            "first": first,
            "layout": layout,
            "backend": step.backend(),
            "peak": peak,
            "process": process,
            "version": version_of(contender.package) or "?" if contender.package else "",
        }

    def turn(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Time some steps."""
        key = request["key"]
        call = self.steps[key].call
        begun = time.perf_counter()
        spent = stopwatch(call)
        # the fastest step decides: the first may be slow since another contender ran before
        self.fastest[key] = min(spent, self.fastest.get(key, spent))
        seconds = [spent] if self.fastest[key] >= LEAD_BELOW else []
        while len(seconds) < request["steps"]:
            seconds.append(stopwatch(call))
            if time.perf_counter() - begun >= TURN:  # after a step: a turn has one at least
                break
        return {"seconds": seconds}

    def close(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Forget a step."""
        del self.steps[request["key"]]
        gc.collect()
        return {}

    def neuron(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Time the neuron alone."""
        return measure_neuron(tuple(request["shape"]), request["rounds"])


def warm_up(call: Callable[[], object]) -> int:
    """Run steps until they no longer get faster (kernels compiled, memory taken); return how many.

    Example:
        >>> 2 <= warm_up(lambda: None) <= 12
        True
    """
    fastest = stopwatch(call)
    for count in range(1, WARM_MOST):
        spent = stopwatch(call)
        if count + 1 >= WARM_LEAST and spent > STEADY * fastest:
            return count + 1
        fastest = min(fastest, spent)
    return WARM_MOST


def serve(requests: TextIO, replies: TextIO, threads: int) -> None:
    """Answer requests until there are no more."""
    torch.set_num_threads(threads)
    host = Host()
    actions: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
        "open": host.open,
        "turn": host.turn,
        "close": host.close,
        "neuron": host.neuron,
    }
    for line in requests:
        request = json.loads(line)
        try:
            reply = actions[request["do"]](request)
        except (Exception, SystemExit) as error:  # whatever a peer raises is its row's reason
            reply = {"skip": _one_line(error)}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def main() -> None:
    """Serve on standard input and output; what peers print goes to standard error."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, replies, int(sys.argv[1]))


def _fastest(steps: Mapping[Layout, Step]) -> Layout:
    for step in steps.values():
        step.call()
    first = {layout: stopwatch(step.call) for layout, step in steps.items()}
    rounds = TRIALS - 1 if max(first.values()) < LEAD_BELOW else 0
    times = {layout: [seconds] for layout, seconds in first.items()}
    for _ in range(rounds):
        for layout, step in steps.items():
            times[layout].append(stopwatch(step.call))
    return min(steps, key=lambda layout: min(times[layout]))


def _missing(contender: Contender) -> str:
    if contender.package and find_spec(contender.package) is None:
        return f"{contender.package} is not installed"
    return ""


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, SpikeloomError):
        return text
    return f"{type(error).__name__}: {text}"[:200]


def _peak_resident() -> int:
    """Return the most memory the process has ever held, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
