"""The battery sorts rules that are wrong, each in one way, from right but unusual ones."""

import direct
import pytest
import wrong
import wrong_past
from local import Local, case_of
from right import (
    RIGHT,
    Alternating,
    Hebbian,
    Inner,
    Lateral,
    Noisy,
    Owns,
    RandomFeedback,
    Remembers,
)

from spikeloom.check import credit, execution, form, learning, past, samples
from spikeloom.check.battery import BATTERY, run_check
from spikeloom.check.choices import works_with_every_encoder, works_with_every_head

ELSE = "after a batch of another size and length"
EXECUTION = execution.computes_the_same_however_it_is_executed
WORLD = form.is_deterministic_and_leaves_the_world_alone

WRONG = [
    (wrong.LargeBatches, samples.gives_the_same_for_every_sample_copied, "any size of the batch"),
    (wrong.ConstantInput, EXECUTION, "copied input"),
    (wrong.Watched, samples.does_not_mind_being_watched, "under an observer"),
    (wrong.Order, samples.does_not_depend_on_the_order_of_samples, "in any order of the samples"),
    (wrong.Previous, WORLD, "in two equal runs"),
    (wrong.PreviousSize, past.starts_every_batch_anew, "whatever came before"),
    (
        wrong.AcrossSamples,
        form.is_linear_in_the_batch_where_it_says_so,
        "the mean over samples",
    ),
    (wrong.NotAddedUp, form.adds_gradients_and_never_zeroes, "never replace it"),
    (wrong_past.Unsaved, form.resumes_to_the_bit, "after resuming"),
    (wrong_past.StaleOnResume, form.resumes_to_the_bit, "after resuming"),
    (
        wrong.ReadsPotentials,
        EXECUTION,
        "AttributeError at wrong.py:",
    ),
    (wrong.KeepsPlainCurrents, EXECUTION, "compiled kernels"),
    (wrong.ForgetsPools, EXECUTION, "changes that are not zero"),
    (wrong.AllPoolsAreMeans, EXECUTION, "executed: max pool"),
    (wrong.OverChosenSteps, credit.trains_the_head_by_its_loss, "with the weight 1/T"),
    (wrong.Twice, credit.trains_the_head_by_its_loss, "times their size"),
    (wrong.MeanTwice, form.is_linear_in_the_batch_where_it_says_so, "the mean over samples"),
    (wrong.OwnLoss, credit.trains_the_head_by_its_loss, "its loss: head squared, weights of"),
    (
        wrong.ForgetsReduction,
        credit.trains_the_head_by_its_loss,
        "reduce = 'count'",
    ),
    (wrong.LastLoss, credit.trains_the_head_by_its_loss, "the loss reported"),
    (wrong.DetachesBranches, works_with_every_head, "every head: stochmax"),
    (wrong.WritesWeights, form.adds_gradients_and_never_zeroes, "by commit alone"),
    (wrong_past.LastMask, past.starts_every_batch_anew, ELSE),
    (
        wrong_past.LastLength,
        past.starts_every_batch_anew,
        "after a batch of another size and length",
    ),
    (wrong_past.FirstNet, past.starts_every_batch_anew, "after the rule has trained another net"),
    (wrong_past.CountsCalls, past.starts_every_batch_anew, "after an evaluation"),
    (wrong_past.HooksWeights, past.starts_every_batch_anew, "whatever came before"),
    (wrong.ReadsStatistics, past.starts_every_batch_anew, "anew: running statistics of norms"),
    (wrong.NormsInEval, EXECUTION, "executed: batch_step"),
    (wrong.Float32Inside, form.keeps_type_and_device, "shorter type at wrong.py:"),
    (
        wrong.DrawsInSecret,
        WORLD,
        "had another seed",
    ),
    (wrong.SingleSample, form.is_linear_in_the_batch_where_it_says_so, "the mean over samples"),
    (wrong.SkipsFirstStep, form.commits_as_often_as_it_says, "before any gradient"),
    (wrong.ReadsMemoryOrder, EXECUTION, "channels_last"),
    (wrong.LastPass, credit.credits_every_pass_of_shared_weights, "give each pass its credit"),
    (wrong.IgnoresBias, form.keeps_type_and_device, "expected a gradient or an update"),
    (wrong.LeavesNotes, WORLD, "the net: expected the state before learn"),
    (
        wrong.LabelsInSecret,
        learning.learns_without_labels_if_it_says_so,
        "the same with other labels",
    ),
    (direct.Leaks, samples.does_not_depend_on_the_order_of_samples, "weight.update"),
    (direct.AddsUp, samples.gives_the_same_for_every_sample_copied, "any size of the batch"),
    (direct.Twice, form.adds_gradients_and_never_zeroes, "by commit alone"),
    (direct.CommitsTwice, form.commits_as_often_as_it_says, "2 calls at T = 1"),
    (direct.ForgetsALayer, form.keeps_type_and_device, "net.plan.synapses.0_0.weight"),
    (
        direct.ZeroForALayer,
        learning.learns_what_frozen_layers_cannot,
        "layers 0.0.0: expected changes",
    ),
    (direct.Compiled, EXECUTION, "weight.update, net.plan.synapses.0_0.bias.update"),
    (direct.Stale, form.resumes_to_the_bit, "after resuming"),
    (direct.Uphill, credit.trains_the_head_by_its_loss, "mind the sign"),
]
"""Rule, check, words of the message."""

RISKS = [
    (Noisy, form.reports_what_it_saw),
    (Noisy, form.is_linear_in_the_batch_where_it_says_so),
    (Noisy, samples.does_not_depend_on_the_order_of_samples),
    (Noisy, credit.trains_the_head_by_its_loss),
    (Noisy, credit.credits_every_pass_of_shared_weights),
    (Remembers, form.adds_gradients_and_never_zeroes),
    (Remembers, form.is_linear_in_the_batch_where_it_says_so),
    (Remembers, form.resumes_to_the_bit),
    (Remembers, past.starts_every_batch_anew),
    (Owns, form.adds_gradients_and_never_zeroes),
    (Owns, form.resumes_to_the_bit),
    (Owns, past.starts_every_batch_anew),
    (Lateral, form.resumes_to_the_bit),
    (Lateral, works_with_every_encoder),
    (Hebbian, form.keeps_type_and_device),
    (Hebbian, form.adds_gradients_and_never_zeroes),
    (Hebbian, learning.learns_without_labels_if_it_says_so),
    (Inner, form.commits_as_often_as_it_says),
    (Inner, credit.trains_the_head_by_its_loss),
    (Alternating, form.adds_gradients_and_never_zeroes),
    (Alternating, credit.trains_the_head_by_its_loss),
    (RandomFeedback, credit.credits_every_pass_of_shared_weights),
    (direct.HebbByError, learning.learns_what_frozen_layers_cannot),
    (direct.HebbByError, form.adds_gradients_and_never_zeroes),
    (direct.WithoutBiases, form.keeps_type_and_device),
    (direct.WithoutBiases, EXECUTION),
    (direct.DeltaHead, credit.trains_the_head_by_its_loss),
    (direct.Homeostatic, execution.moves_weights_by_their_gradients),
    (direct.Homeostatic, form.resumes_to_the_bit),
]
"""Checks that a careless battery fails right rules at."""


@pytest.mark.parametrize(
    ("kind", "check", "words"), WRONG, ids=lambda v: getattr(v, "__name__", "")
)
def test_wrong_rules_are_named(kind, check, words):
    result = run_check(check, case_of(kind))
    assert result.outcome == "failed" and words in " ".join(result.reason.split()), result


@pytest.mark.parametrize(("kind", "check"), RISKS, ids=lambda v: v.__name__)
def test_right_rules_pass_where_it_is_easily_missed(kind, check):
    result = run_check(check, case_of(kind))
    assert result.outcome == "ok", result


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*RIGHT, *direct.RIGHT], ids=lambda v: v.__name__)
def test_right_rules_pass(kind):
    results = [run_check(check, case_of(kind)) for check in BATTERY]
    assert [r for r in results if r.outcome == "failed"] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Local, *(kind for kind, *_ in WRONG)], ids=lambda v: v.__name__)
def test_the_battery_fails_wrong_rules_alone(kind):
    failed = any(run_check(check, case_of(kind)).outcome == "failed" for check in BATTERY)
    assert failed == (kind is not Local)
