"""The battery: all checks, in the order they are run, and how one is run."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch

from spikeloom.base.errors import SpikeloomError
from spikeloom.check.choices import (
    refuses_what_it_says,
    trains_the_nets_it_names,
    works_with_every_encoder,
    works_with_every_head,
    works_with_every_surrogate,
    works_with_every_unit,
)
from spikeloom.check.credit import (
    credits_every_pass_of_shared_weights,
    trains_the_head_by_its_loss,
)
from spikeloom.check.execution import (
    computes_the_same_however_it_is_executed,
    moves_weights_by_their_gradients,
)
from spikeloom.check.form import (
    adds_gradients_and_never_zeroes,
    commits_as_often_as_it_says,
    has_complete_facts,
    is_a_frozen_value,
    is_deterministic_and_leaves_the_world_alone,
    is_linear_in_the_batch_where_it_says_so,
    keeps_type_and_device,
    reports_what_it_saw,
    resumes_to_the_bit,
)
from spikeloom.check.learning import (
    learns_what_frozen_layers_cannot,
    learns_without_labels_if_it_says_so,
)
from spikeloom.check.memory import remembers_as_much_of_the_past_as_it_says
from spikeloom.check.outcome import CheckFailed, CheckSkipped, place
from spikeloom.check.past import starts_every_batch_anew
from spikeloom.check.samples import (
    does_not_depend_on_the_order_of_samples,
    does_not_mind_being_watched,
    gives_the_same_for_every_sample_copied,
)
from spikeloom.check.toy import Case, cases_of
from spikeloom.rules.base import RULES

Check = Callable[[Case], None]

BATTERY: tuple[Check, ...] = (
    is_a_frozen_value,
    has_complete_facts,
    keeps_type_and_device,
    reports_what_it_saw,
    commits_as_often_as_it_says,
    adds_gradients_and_never_zeroes,
    is_deterministic_and_leaves_the_world_alone,
    is_linear_in_the_batch_where_it_says_so,
    gives_the_same_for_every_sample_copied,
    does_not_depend_on_the_order_of_samples,
    does_not_mind_being_watched,
    resumes_to_the_bit,
    remembers_as_much_of_the_past_as_it_says,
    computes_the_same_however_it_is_executed,
    moves_weights_by_their_gradients,
    starts_every_batch_anew,
    trains_the_head_by_its_loss,
    credits_every_pass_of_shared_weights,
    works_with_every_unit,
    works_with_every_surrogate,
    works_with_every_head,
    works_with_every_encoder,
    trains_the_nets_it_names,
    refuses_what_it_says,
    learns_what_frozen_layers_cannot,
    learns_without_labels_if_it_says_so,
)


CHOOSES_ITSELF: tuple[Check, ...] = (
    is_a_frozen_value,
    has_complete_facts,
    computes_the_same_however_it_is_executed,
    moves_weights_by_their_gradients,
    refuses_what_it_says,
)
"""Checks that run no net, or run it on every kind of kernels by themselves.

All others run on the reference and a second time on compiled kernels, which "auto" leaves out on
small nets.
"""


@dataclass(frozen=True)
class Result:
    """How one check ended.

    Args:
        check: its name in words.
        outcome: "ok", "failed" or "skipped".
        reason: a sentence where it is not ok.
    """

    check: str
    outcome: Literal["ok", "failed", "skipped"]
    reason: str = ""


def all_cases() -> list[Case]:
    """Return every registered rule with its defaults and its variants."""
    return [case for name in RULES.names() for case in cases_of(name, RULES.find(name))]


def run_check(check: Check, case: Case) -> Result:
    """Run one check, in one thread; whatever the rule raises becomes a result."""
    name = check.__name__.replace("_", " ")
    try:
        with _one_thread():
            check(case)
            if check not in CHOOSES_ITSELF:
                case = replace(case, kernels="compiled")
                check(case)
    except CheckSkipped as why:
        return Result(name, "skipped", str(why))
    except (CheckFailed, SpikeloomError) as fault:
        return Result(name, "failed", f"{_how(case)}{fault}")
    except Exception as fault:
        where = place(traceback.extract_tb(fault.__traceback__), case.rule)
        words = f"{type(fault).__name__} at {where}: {fault}"
        return Result(name, "failed", f"{_how(case)}{words}")
    return Result(name, "ok")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run small nets as they run fastest: two threads take up to five times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _how(case: Case) -> str:
    return "with compiled kernels: " if case.kernels == "compiled" else ""


def run_battery(case: Case) -> Iterator[Result]:
    """Run all checks on one case, yielding each result as it comes."""
    for check in BATTERY:
        yield run_check(check, case)
