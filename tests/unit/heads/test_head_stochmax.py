"""Exact identities of stochmax: its terms, masks and gradients, its start and its figures."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikeloom.base.errors import ConfigError
from spikeloom.base.seeding import SampleRng
from spikeloom.heads.stochmax import (
    EPS,
    Stochmax,
    auxiliary,
    concrete,
    masked_cross_entropy,
    negative_entropy,
    posterior_kl,
    target_term,
)
from spikeloom.nets.ops import PLAIN

F64 = torch.float64
B, D, K = 6, 5, 4
Y = torch.tensor([0, 1, 2, 3, 3, 0])
HIT = F.one_hot(Y, K).bool()
RNG = SampleRng(1, 2, torch.arange(10, 10 + B))
VARIANTS = ("softmax", "random", "determ", "panda", "qp", "dropmax")
MASKED = ("random", "panda", "qp", "dropmax")


def rand(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def head_of(variant="dropmax", **options) -> Stochmax:
    head = Stochmax(D, K, variant=variant, **options).double()
    with torch.no_grad():
        for row, site in enumerate(head.sites):
            site.synapse.bias.copy_(0.1 * rand(K, seed=20 + row))
    return head


def maps(head, h):
    """Return o, a, r by matrix products."""
    return [h @ site.synapse.weight.t() + site.synapse.bias for site in head.sites]


def test_1_a_full_mask_is_softmax_cross_entropy():
    o = rand(B, K)
    ours = masked_cross_entropy(o, torch.ones_like(o), Y)
    assert torch.equal(ours, F.cross_entropy(o, Y))
    head = head_of("softmax")
    h = rand(B, D)
    assert torch.equal(head.bind(Y, RNG)(h).value, F.cross_entropy(head.scores(h), Y))


def test_2_the_masked_softmax_is_that_of_shifted_logits():
    o, z = rand(B, K), torch.rand(B, K, dtype=F64, generator=torch.Generator().manual_seed(1))
    z = z.scatter(1, Y.unsqueeze(1), 1.0)
    direct = (z + EPS) * o.exp() / ((z + EPS) * o.exp()).sum(1, keepdim=True)
    shifted = torch.softmax(o + torch.log(z + EPS), 1)
    assert (direct - shifted).abs().max().item() < 5e-16
    expected = -direct.gather(1, Y.unsqueeze(1)).log().mean()
    assert masked_cross_entropy(o, z, Y).item() == pytest.approx(expected.item(), rel=1e-14)
    without_target = z.scatter(1, Y.unsqueeze(1), 0.3)  # the target is forced to 1 anyway
    assert torch.equal(masked_cross_entropy(o, without_target, Y), masked_cross_entropy(o, z, Y))


def test_3_a_dropped_class_gets_no_gradient():
    o = rand(B, K).requires_grad_()
    z = torch.ones(B, K, dtype=F64)
    z[:, 1] = 0
    masked_cross_entropy(o, z, Y).backward()
    rival = Y != 1
    assert o.grad[rival, 1].abs().max().item() < 1e-18  # eps e^{o} against the sum of the rest
    assert o.grad[rival, 2].abs().max().item() > 1e-3


def test_4_kl_is_the_target_term_alone_where_q_is_rho_and_never_negative():
    a = rand(B, K)
    expected = -torch.sigmoid(a).gather(1, Y.unsqueeze(1)).log().mean()
    assert posterior_kl(a, a, HIT).item() == pytest.approx(expected.item(), rel=1e-14)
    assert torch.equal(target_term(a, Y), posterior_kl(a, a, HIT))
    for seed in range(20):
        q_logit = 3 * rand(B, K, seed=seed)
        assert posterior_kl(q_logit, 3 * rand(B, K, seed=seed + 50), HIT).item() >= 0


def test_4_kl_in_plain_numbers():
    a, q_logit = rand(B, K), rand(B, K, seed=9)
    q = torch.sigmoid(q_logit)
    total = 0.0
    for b in range(B):
        for k in range(K):
            p, x = 1 / (1 + math.exp(-a[b, k].item())), q[b, k].item()
            if k == Y[b]:
                total -= math.log(p)
            else:
                total += x * math.log(x / p) + (1 - x) * math.log((1 - x) / (1 - p))
    assert posterior_kl(q_logit, a, HIT).item() == pytest.approx(total / B, rel=1e-13)


def test_5_without_posterior_logits_q_is_rho_and_the_auxiliary_term_k_log_2():
    head = head_of()
    with torch.no_grad():
        head.sites[2].synapse.weight.zero_()
        head.sites[2].synapse.bias.zero_()
    h = rand(B, D)
    o, a, r = maps(head, h)
    assert torch.equal(torch.sigmoid(a + r), torch.sigmoid(a))
    assert auxiliary(r, HIT).item() == pytest.approx(K * math.log(2), rel=1e-15)
    u = RNG.stream_for("stochmax").uniform((K,), dtype=F64, device=h.device)
    parts = masked_cross_entropy(o, concrete(a, u, 0.1), Y)
    parts = parts - F.logsigmoid(a.gather(1, Y.unsqueeze(1))).mean() + K * math.log(2)
    parts = parts + negative_entropy(a)
    assert head.bind(Y, RNG)(h).value.item() == pytest.approx(parts.item(), rel=1e-13)


def test_5_negative_entropy_is_least_at_one_half():
    half = torch.zeros(B, K, dtype=F64)
    assert negative_entropy(half).item() == pytest.approx(-K * math.log(2), rel=1e-15)
    for seed in range(10):
        assert negative_entropy(rand(B, K, seed=seed)) > negative_entropy(half)
    a = rand(B, K).requires_grad_()
    rho = torch.sigmoid(a.detach())
    expected = (rho * rho.log() + (1 - rho) * (1 - rho).log()).sum(1).mean()
    negative_entropy(a).backward()
    assert negative_entropy(a).item() == pytest.approx(expected.item(), rel=1e-14)
    assert torch.allclose(a.grad, a.detach() * rho * (1 - rho) / B, rtol=1e-13)


def test_6_a_concrete_draw_is_above_one_half_with_probability_q():
    u = (torch.arange(200_000, dtype=F64) + 0.5) / 200_000  # every uniform value once
    for q in (0.1, 0.3, 0.7):
        full = torch.full_like(u, math.log(q / (1 - q)))
        for tau in (0.05, 0.1, 1.0, 5.0):
            share = (concrete(full, u, tau) > 0.5).double().mean().item()
            assert share == pytest.approx(q, abs=1e-5)
    full = torch.full_like(u, math.log(0.3 / 0.7))
    mean = concrete(full, u, 0.1).mean().item()
    second_order = 0.3 + (math.pi * 0.1) ** 2 / 6 * 0.3 * 0.7 * (1 - 2 * 0.3)  # 0.3014
    assert mean == pytest.approx(second_order, abs=5e-5)
    assert concrete(full, u, 1e-3).mean().item() == pytest.approx(0.3, abs=1e-4)


def test_6_concrete_in_plain_numbers_and_finite_at_the_ends():
    logit, u, tau = -0.85, 0.8, 0.25
    shifted = (logit + math.log(u / (1 - u))) / tau
    z = concrete(torch.tensor(logit, dtype=F64), torch.tensor(u, dtype=F64), tau)
    assert z.item() == pytest.approx(1 / (1 + math.exp(-shifted)), rel=1e-13)
    for dtype in (torch.float32, F64):
        ends = torch.tensor([-1e4, 1e4], dtype=dtype, requires_grad=True)
        z = concrete(ends, torch.tensor([1.0, 0.0], dtype=dtype), 0.1)
        z.sum().backward()
        assert bool(torch.isfinite(z).all()) and bool(torch.isfinite(ends.grad).all())


@pytest.mark.parametrize("logit", [-25.0, -17.0, -3.0, 3.0, 17.0, 25.0])
def test_6_float32_draws_follow_their_logit_where_its_sigmoid_rounds(logit):
    u = torch.tensor([0.3, 0.6])
    values = torch.full((2,), logit, requires_grad=True)
    drawn = concrete(values, u, 10.0)
    drawn.sum().backward()
    exact = torch.full((2,), logit, dtype=F64, requires_grad=True)
    expected = concrete(exact, u.double(), 10.0)
    expected.sum().backward()
    assert torch.allclose(drawn.double(), expected, rtol=2e-6)
    assert torch.allclose(values.grad.double(), exact.grad, rtol=2e-5)


def test_7_the_posterior_gives_the_retain_logits_no_gradient():
    head = head_of(entropy=0.0)
    h = rand(B, D)
    a_rows = head.sites[1].synapse
    head.bind(Y, RNG)(h).value.backward()
    a = maps(head, h)[1].detach().requires_grad_()
    r = maps(head, h)[2].detach()
    posterior_kl(a.detach() + r, a, HIT).backward()
    assert torch.allclose(a_rows.bias.grad, a.grad.sum(0), rtol=1e-12, atol=1e-15)
    rho, q = torch.sigmoid(a.detach()), torch.sigmoid(a.detach() + r)
    expected = torch.where(HIT, -(1 - rho), rho - q) / B
    assert torch.allclose(a.grad, expected, rtol=1e-12, atol=1e-15)


def test_7_a_saturated_target_is_still_pulled_back():
    a = torch.full((1, 2), -30.0, dtype=F64, requires_grad=True)
    hit = torch.tensor([[True, False]])
    posterior_kl(torch.zeros(1, 2, dtype=F64), a, hit).backward()
    assert a.grad[0].tolist() == pytest.approx([-1.0, -0.5], abs=1e-12)


def test_7_kl_by_its_own_logit_has_the_gradient_of_the_formula():
    a, q_logit = rand(B, K), rand(B, K, seed=3).requires_grad_()
    posterior_kl(q_logit, a, HIT).backward()
    q = torch.sigmoid(q_logit.detach())
    expected = q * (1 - q) * (q_logit.detach() - a) / B  # q' (log odds of q - log odds of rho)
    assert torch.allclose(q_logit.grad, torch.where(HIT, 0.0, expected), rtol=1e-11, atol=1e-16)


def test_qp_holds_the_target_at_078_where_panda_lets_it_fall_to_one_half():
    """a sigma(a) = 1 at the optimum of -log rho + rho log rho + (1 - rho) log(1 - rho)."""
    h, y = torch.ones(1, 1, dtype=F64), torch.tensor([0])
    expected = {"qp": 0.7822, "panda": 0.5}
    for variant, rho in expected.items():
        head = Stochmax(1, K, variant=variant).double()
        with torch.no_grad():
            for site in head.sites:
                site.synapse.weight.zero_()
        bias = head.sites[1].synapse.bias
        u = torch.full((1, K), 0.5, dtype=F64)
        for _ in range(400):
            bias.grad = None
            head.loss(h, y, noise=u, ops=PLAIN).value.backward()
            with torch.no_grad():
                bias -= bias.grad
        assert torch.sigmoid(bias)[0].item() == pytest.approx(rho, abs=1e-4), variant
        a = bias[0].item()
        if variant == "qp":
            assert a / (1 + math.exp(-a)) == pytest.approx(1.0, abs=1e-9)


def test_8_inference_ignores_shifts_of_o_and_factors_of_rho_but_not_shifts_of_a():
    head = head_of()
    h = rand(B, D)
    o, a, _ = maps(head, h)

    def infer(o, rho):
        return torch.softmax(o + torch.log(rho + EPS), 1)

    p = torch.softmax(head.logits(h), 1)
    rho = torch.sigmoid(a)
    assert torch.allclose(p, infer(o, rho), rtol=1e-13)
    assert torch.allclose(p, infer(o + 3.5, rho), rtol=1e-13)
    assert torch.allclose(p, infer(o, rho / 7), rtol=1e-13)
    assert not torch.allclose(p, infer(o, torch.sigmoid(a + 1)), rtol=1e-3)


def test_the_variants_in_their_parts():
    h = rand(B, D)
    u = RNG.stream_for("stochmax").uniform((K,), dtype=F64, device=h.device)
    for variant in VARIANTS:
        head = head_of(variant, tau=0.3, entropy=0.7, keep=0.25)
        o, a, r = maps(head, h)
        rho = torch.sigmoid(a)
        entropy = 0.7 * negative_entropy(a)
        expected = {
            "softmax": F.cross_entropy(o, Y),
            "random": masked_cross_entropy(o, concrete(-math.log(3) + 0 * o, u, 0.3), Y),
            "determ": masked_cross_entropy(o, rho, Y) + entropy,
            "panda": masked_cross_entropy(o, concrete(a, u, 0.3), Y) + entropy,
            "qp": masked_cross_entropy(o, concrete(a, u, 0.3), Y) + entropy - rho[HIT].log().mean(),
            "dropmax": masked_cross_entropy(o, concrete(a + r, u, 0.3), Y)
            + entropy
            + posterior_kl(a + r, a, HIT)
            + auxiliary(r, HIT),
        }[variant]
        logits, value = head.bind(Y, RNG)(h)
        assert value.item() == pytest.approx(expected.item(), rel=1e-13), variant
        plain = variant in ("softmax", "random")
        shown = o if plain else o + torch.log(rho + EPS)
        assert torch.allclose(logits, shown, rtol=1e-14, atol=1e-15), variant
        assert not logits.requires_grad or plain


@pytest.mark.parametrize("variant", VARIANTS[:-1])  # a stop-gradient has none: see test 7
def test_gradients_pass_finite_differences(variant):
    head = head_of(variant, tau=0.8, entropy=0.5)
    objective = head.bind(Y, RNG)
    h = rand(B, D).requires_grad_()

    def loss(h, *_):
        return objective(h).value

    assert torch.autograd.gradcheck(loss, (h, *head.parameters()), eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("variant", MASKED)
def test_one_mask_per_batch_however_often_the_objective_is_called(variant):
    head = head_of(variant)
    objective = head.bind(Y, RNG)
    h, other = rand(B, D), rand(B, D, seed=8)
    first = objective(h).value
    objective(other)
    assert torch.equal(objective(h).value, first)
    again = head.bind(Y, RNG)
    again(other)
    assert torch.equal(again(h).value, first)
    next_epoch = SampleRng(1, 3, RNG.index)
    assert not torch.equal(head.bind(Y, next_epoch)(h).value, first)


def test_one_mask_per_batch_from_a_plain_generator_too():
    objective = head_of().bind(Y, torch.Generator().manual_seed(0))
    h = rand(B, D)
    assert torch.equal(objective(h).value, objective(h).value)
    assert torch.equal(objective.over(h[None]).value, objective(h).value)


@pytest.mark.parametrize("variant", MASKED)
def test_a_sample_keeps_its_mask_in_any_batch(variant):
    head = head_of(variant)
    rows = [4, 1]
    whole = head.draw(B, RNG, rand(B, D))
    some = head.draw(2, SampleRng(1, 2, RNG.index[rows]), rand(2, D))
    assert whole.shape == (B, K) and torch.equal(some, whole[rows])
    generator = torch.Generator().manual_seed(0)
    assert head.draw(B, generator, rand(B, D)).shape == (B, K)


def test_variants_without_chance_draw_nothing():
    for variant in ("softmax", "determ"):
        assert head_of(variant).draw(B, RNG, rand(B, D)) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("variant", VARIANTS)
def test_half_precision_stays_finite(variant, dtype):
    head = Stochmax(D, K, variant=variant).to(dtype)
    with torch.no_grad():
        if variant not in ("softmax", "random"):
            nn.init.constant_(head.sites[1].synapse.bias, -60.0)  # rho = 9e-27
    h = rand(B, D).to(dtype)
    logits, value = head.bind(Y, RNG)(h)
    assert logits.dtype == value.dtype == torch.float32
    assert bool(torch.isfinite(logits).all()) and bool(torch.isfinite(value))
    value.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in head.parameters() if p.grad is not None)
    assert bool(torch.isfinite(head.logits(h)).all())


def test_the_posterior_map_is_not_read_at_inference():
    head = head_of()
    h = rand(B, D)
    before = head.logits(h)
    with torch.no_grad():
        head.sites[2].synapse.weight.fill_(9.0)
    assert torch.equal(head.logits(h), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "dropmix"}, r"^head.stochmax.variant: expected one of .*, got 'dropmix'"),
        ({"start": "one"}, r"^head.stochmax.start: expected prior or zero, got 'one'"),
        ({"tau": 0.0}, r"^head.stochmax.tau: expected a number above 0, got 0.0"),
        ({"entropy": -1.0}, r"^head.stochmax.entropy: expected 0 or more, got -1.0"),
        ({"keep": 1.0}, r"^head.stochmax.keep: expected a probability in \(0, 1\), got 1.0"),
        ({"keep": 0.0}, r"^head.stochmax.keep: "),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Stochmax(D, K, **options)


@pytest.mark.parametrize("variant", VARIANTS)
def test_inference_needs_rho_where_the_variant_has_one(variant):
    head = Stochmax(6, 4, variant=variant)
    names = [site.name for site in head.inference_sites]
    assert names == (["readout"] if variant in ("softmax", "random") else ["readout", "retain"])


def test_monte_carlo_prediction_is_the_mean_over_all_masks():
    head = Stochmax(5, 3, samples=20_000).double()
    h = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    o = head.scores(h)
    rho = torch.sigmoid(head.sites[1].synapse(h))
    exact = torch.zeros_like(o)
    for bits in range(8):
        z = torch.tensor([bits >> k & 1 for k in range(3)], dtype=torch.float64)
        share = (rho * z + (1 - rho) * (1 - z)).prod(1, keepdim=True)
        exact += share * torch.softmax(o + torch.log(z + 1e-20), 1)
    found = torch.softmax(head.logits(h), 1)
    assert torch.allclose(found, exact, atol=0.015)  # 4 standard errors of 20,000 draws
    assert torch.equal(head.logits(h)[:2], head.logits(h[:2]))  # no batch mates
    with pytest.raises(ConfigError, match="samples: expected 0 or more"):
        Stochmax(5, 3, samples=-1)
