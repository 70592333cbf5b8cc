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
    (wrong.LargeBatches, samples.gives_the_same_for_every_sample_copied, "size of the batch"),
    (wrong.ConstantInput, EXECUTION, "copied input"),
    (wrong.Watched, samples.does_not_mind_being_watched, "observer"),
    (wrong.Order, samples.does_not_depend_on_the_order_of_samples, "order of the samples"),
    (wrong.Previous, WORLD, "between two equal runs"),
    (wrong.PreviousSize, past.starts_every_batch_anew, "is another one after"),
    (
        wrong.AcrossSamples,
        form.is_linear_in_the_batch_where_it_says_so,
        "not the mean over",
    ),
    (wrong.NotAddedUp, form.adds_gradients_and_never_zeroes, "learn must add"),
    (wrong_past.Unsaved, form.resumes_to_the_bit, "after resuming"),
    (wrong_past.StaleOnResume, form.resumes_to_the_bit, "after resuming"),
    (
        wrong.ReadsPotentials,
        EXECUTION,
        "AttributeError at wrong.py:",
    ),
    (wrong.KeepsPlainCurrents, EXECUTION, "compiled kernels"),
    (wrong.ForgetsPools, EXECUTION, "a gradient of zeros"),
    (wrong.AllPoolsAreMeans, EXECUTION, "'max pool': logits"),
    (wrong.OverChosenSteps, credit.trains_the_head_by_its_loss, "the weight 1/T each"),
    (wrong.Twice, credit.trains_the_head_by_its_loss, "of the head have 2.0"),
    (wrong.MeanTwice, form.is_linear_in_the_batch_where_it_says_so, "not the mean over"),
    (wrong.OwnLoss, credit.trains_the_head_by_its_loss, "weights of samples: the loss reported"),
    (
        wrong.ForgetsReduction,
        credit.trains_the_head_by_its_loss,
        "reduce = 'count': the loss",
    ),
    (wrong.LastLoss, credit.trains_the_head_by_its_loss, "the loss reported"),
    (wrong.DetachesBranches, works_with_every_head, "head stochmax: no .grad after learn"),
    (wrong.WritesWeights, form.adds_gradients_and_never_zeroes, "without a commit"),
    (wrong_past.LastMask, past.starts_every_batch_anew, ELSE),
    (
        wrong_past.LastLength,
        past.starts_every_batch_anew,
        "after a batch of another size and length",
    ),
    (wrong_past.FirstNet, past.starts_every_batch_anew, "after the rule has trained another net"),
    (wrong_past.CountsCalls, past.starts_every_batch_anew, "after an evaluation"),
    (wrong_past.HooksWeights, past.starts_every_batch_anew, "is another one after"),
    (wrong.ReadsStatistics, past.starts_every_batch_anew, "depends on running statistics"),
    (wrong.NormsInEval, EXECUTION, "'batch_step': logits"),
    (wrong.Float32Inside, form.keeps_type_and_device, "shorter type at wrong.py:"),
    (
        wrong.DrawsInSecret,
        WORLD,
        "generator was another",
    ),
    (wrong.SingleSample, form.is_linear_in_the_batch_where_it_says_so, "not the mean over"),
    (wrong.SkipsFirstStep, form.commits_as_often_as_it_says, "before any gradient"),
    (wrong.ReadsMemoryOrder, EXECUTION, "channels_last"),
    (wrong.LastPass, credit.credits_every_pass_of_shared_weights, "give each pass its credit"),
    (wrong.IgnoresBias, form.keeps_type_and_device, "has no .grad after learn"),
    (wrong.LeavesNotes, WORLD, "was left in the net"),
    (wrong.LabelsInSecret, learning.learns_without_labels_if_it_says_so, "depends on the labels"),
    (direct.Leaks, samples.does_not_depend_on_the_order_of_samples, "weight.update"),
    (direct.AddsUp, samples.gives_the_same_for_every_sample_copied, "size of the batch"),
    (direct.Twice, form.adds_gradients_and_never_zeroes, "without a commit"),
    (direct.CommitsTwice, form.commits_as_often_as_it_says, "2 times at T = 1"),
    (direct.ForgetsALayer, form.keeps_type_and_device, "net.plan.synapses.0_0.weight"),
    (direct.ZeroForALayer, learning.learns_what_frozen_layers_cannot, "layers 0.0.0"),
    (direct.Compiled, EXECUTION, "compiled kernels, layout rows: net.plan.synapses.0_0.weight.upd"),
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
    assert result.outcome == "failed" and words in result.reason, result


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
