"""The branches of stochmax: their start, bias and decay, and what the head says of its masks."""

import math

import pytest
import torch
import torch.nn.functional as F

from spikeloom.heads.base import Head
from spikeloom.heads.stochmax import Stochmax

F64 = torch.float64
B, D, K = 6, 5, 4
Y = torch.tensor([0, 1, 2, 3, 3, 0])
HIT = F.one_hot(Y, K).bool()
VARIANTS = ("softmax", "random", "determ", "panda", "qp", "dropmax")


def features():
    return torch.randn(B, D, dtype=F64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bias", [True, False])
def test_9_the_branches_start_at_their_prior_and_inference_at_rest_is_softmax(bias):
    h = torch.zeros(B, D, dtype=F64)
    starts = {"prior": (-1.2, -math.log(K - 1)), "zero": (0.0, 0.0)}
    for start, (a, r) in starts.items():
        head = Stochmax(D, K, seed=4, start=start, bias=bias).double()
        assert (head.site.synapse.bias is not None) == bias
        read = [site.synapse(h) for site in head.sites]
        assert torch.allclose(read[1], torch.full((B, K), a, dtype=F64), rtol=1e-7)
        assert torch.allclose(read[2], torch.full((B, K), r, dtype=F64), rtol=1e-7)
        p = torch.softmax(head.logits(h), 1)
        assert torch.allclose(p, torch.softmax(head.scores(h), 1), rtol=1e-14)
    assert Stochmax(D, K).sites[1].synapse.bias[0].item() == pytest.approx(-1.2)  # the default


def test_a_start_changes_no_weight():
    prior, zero = Stochmax(D, K, seed=4), Stochmax(D, K, seed=4, start="zero")
    for one, other in zip(prior.sites, zero.sites, strict=True):
        assert torch.equal(one.synapse.weight, other.synapse.weight)


def test_branches_have_a_bias_no_decay_and_a_place_in_older_weights():
    head = Stochmax(D, K, bias=False)
    names = [f"synapses.{name}.bias" for name in ("retain", "posterior")]
    branches = [site.synapse.parameters() for site in head.sites[1:]]
    assert [id(p) for p in head.undecayed()] == [id(p) for ps in branches for p in ps]
    assert Head(D, K).undecayed() == ()
    older = {name: w for name, w in head.state_dict().items() if name not in names}
    newer = Stochmax(D, K, bias=False, seed=7)
    newer.load_state_dict(older)
    assert all(not newer.state_dict()[name].any() for name in names)
    assert torch.equal(newer.sites[1].synapse.weight, head.sites[1].synapse.weight)
    with pytest.raises(RuntimeError, match="Missing key"):  # there, every map had one
        Stochmax(D, K).load_state_dict(older)


@pytest.mark.parametrize("variant", VARIANTS)
def test_figures_in_plain_numbers(variant):
    head = Stochmax(D, K, variant=variant).double()
    h = features()
    figures = {name: value.item() for name, value in head.figures(h, Y).items()}
    if variant in ("softmax", "random"):
        assert figures == {} and head.findings(figures) == ()
        return
    rho = torch.sigmoid(head.sites[1].synapse(h))
    entropy = -(rho * rho.log() + (1 - rho) * (1 - rho).log()).mean()
    assert list(figures.values()) == pytest.approx(
        [rho[HIT].mean().item(), rho[~HIT].mean().item(), entropy.item()], rel=1e-13
    )


@pytest.mark.parametrize(
    ("target", "rivals", "words"),
    [
        (0.70, 0.24, None),
        (0.496, 0.499, "does not tell classes apart: rho 0.496 for targets, 0.499 for rivals"),
        (0.90, 0.004, "has collapsed: rho 0.900 for targets, 0.004 for rivals"),
        (0.999, 0.998, "is certain: rho 0.999 for targets, 0.998 for rivals"),
    ],
)
def test_a_stuck_mask_is_found(target, rivals, words):
    head = Stochmax(D, K)
    hit, miss = (math.log(rho / (1 - rho)) for rho in (target, rivals))
    with torch.no_grad():
        head.sites[1].synapse.weight.copy_(torch.eye(K, D) * (hit - miss))
        head.sites[1].synapse.bias.fill_(miss)
    read = head.figures(torch.eye(K, D), torch.arange(K))
    figures = {name: value.item() for name, value in read.items()}
    assert list(figures.values())[:2] == pytest.approx([target, rivals], abs=1e-5)
    lines = head.findings(figures)
    assert lines == () if words is None else len(lines) == 1 and words in lines[0]


def test_variants_that_do_not_adapt_say_so():
    for variant in VARIANTS:
        lines = Stochmax(D, K, variant=variant).cautions()
        assert bool(lines) == (variant in ("determ", "panda"))
        assert all("is not adaptive" in line and "'qp' or 'dropmax'" in line for line in lines)
