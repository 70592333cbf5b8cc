"""The battery: all checks, in the order they are run, and how one is run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from spikeloom.check import choices, credit, execution, form, learning, memory, past, samples
from spikeloom.check.causes import Finding, cause_of, causes
from spikeloom.check.outcome import CheckSkipped, Places
from spikeloom.check.toy import Case, cases_of
from spikeloom.neurons.trains import Kernels
from spikeloom.rules.base import RULES

Check = Callable[[Case], Places | None]
"""Checks what it can at once, or returns the places at which it is to be tried."""

ONCE: tuple[Check, ...] = (
    form.is_a_frozen_value,
    form.has_complete_facts,
    execution.computes_the_same_however_it_is_executed,
    execution.moves_weights_by_their_gradients,
    choices.refuses_what_it_says,
)
"""Checks that run no net, or run it on every kind of kernels by themselves.

All others run on the reference and a second time on compiled kernels, which "auto" leaves out on
small nets.
"""

BATTERY: tuple[Check, ...] = (
    form.is_a_frozen_value,
    form.has_complete_facts,
    form.keeps_type_and_device,
    form.reports_what_it_saw,
    form.commits_as_often_as_it_says,
    form.adds_gradients_and_never_zeroes,
    form.is_deterministic_and_leaves_the_world_alone,
    form.is_linear_in_the_batch_where_it_says_so,
    samples.gives_the_same_for_every_sample_copied,
    samples.does_not_depend_on_the_order_of_samples,
    samples.does_not_mind_being_watched,
    form.resumes_to_the_bit,
    memory.remembers_as_much_of_the_past_as_it_says,
    execution.computes_the_same_however_it_is_executed,
    execution.moves_weights_by_their_gradients,
    past.starts_every_batch_anew,
    credit.trains_the_head_by_its_loss,
    credit.credits_every_pass_of_shared_weights,
    choices.works_with_every_unit,
    choices.works_with_every_surrogate,
    choices.works_with_every_head,
    choices.works_with_every_encoder,
    choices.trains_the_nets_it_names,
    choices.refuses_what_it_says,
    learning.learns_what_frozen_layers_cannot,
    learning.learns_without_labels_if_it_says_so,
)


@dataclass(frozen=True)
class Result:
    """How one check ended: what is wrong and where, or why it says nothing about the rule."""

    check: str
    outcome: Literal["ok", "failed", "skipped"]
    skipped: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def reason(self) -> str:
        """Why it is not ok: for each cause a line, and where it was seen."""
        return self.skipped or "\n".join(map(str, causes(self.findings)))


def all_cases() -> list[Case]:
    """Return every registered rule with its defaults and its variants."""
    return [case for name in RULES.names() for case in cases_of(name, RULES.find(name))]


def run_check(check: Check, case: Case) -> Result:
    """Run one check, in one thread; whatever the rule raises becomes a finding."""
    name = check.__name__.replace("_", " ")
    kernels: tuple[Kernels, ...] = (case.kernels,) if check in ONCE else ("reference", "compiled")
    findings: list[Finding] = []
    with _one_thread():
        try:
            for kind in kernels:
                findings += _found(check, replace(case, kernels=kind), name)
        except CheckSkipped as why:
            return Result(name, "skipped", str(why))
    return Result(name, "failed" if findings else "ok", findings=tuple(findings))


def _found(check: Check, case: Case, name: str) -> Iterator[Finding]:
    """Yield what is wrong, place by place: one that fails does not hide the others."""
    todo: list[tuple[str, Callable[[], Any]]] = [("", lambda: check(case))]
    for place, attempt in todo:
        try:
            todo += attempt() or ()
        except CheckSkipped:
            raise
        except Exception as fault:
            kernels = "" if check in ONCE else case.kernels
            yield Finding(*cause_of(fault, case.rule), case, kernels, name, place)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run small nets as they run fastest: two threads take up to five times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_battery(case: Case) -> Iterator[Result]:
    """Run all checks on one case, yielding each result as it comes."""
    for check in BATTERY:
        yield run_check(check, case)
