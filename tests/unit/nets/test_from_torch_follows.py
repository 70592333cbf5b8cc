"""A net follows the module it was made from; what it cannot follow is an error at the next use."""

import copy
import pickle

import pytest
import torch
from netkit import generator, rng_for
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from spikeloom.base.errors import ShapeError, SpikeloomError, UnsupportedNet
from spikeloom.base.types import Batch
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.walk.events import EventEngine, _mark
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.module import Neuron
from spikeloom.rules.base import RULES
from spikeloom.rules.bptt import Bptt
from spikeloom.rules.sltt import Sltt

XS = torch.rand((3, 4, 2, 6, 6), generator=generator(2))
BATCH = Batch.of(XS, torch.arange(4) % 3)
CONSTANT = Batch.of(XS[:1].expand(3, -1, -1, -1, -1), torch.arange(4) % 3)


def made():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        Neuron(LIF(v_th=0.3)),
        nn.Flatten(),
        nn.Linear(144, 8),
        Neuron(LIF(v_th=0.3)),
        nn.Linear(8, 3),
    )


def by_hand(module, xs):
    for part in module:
        xs = part(xs) if isinstance(part, Neuron) else torch.stack([part(x) for x in xs])
    return xs


def built(module):
    net = SpikingNet.from_torch(module, (2, 6, 6))
    return net, Softmax.of(net)


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


class Drawn(nn.Module):
    def forward(self, weight):
        return weight * (torch.rand_like(weight) > 0.5)


def loud(layer, name="weight"):
    return nn.Parameter(2 * torch.rand_like(getattr(layer, name)))


def exchanged(m):
    m[0].weight, m[4].bias, m[6].weight = loud(m[0]), loud(m[4], "bias"), loud(m[6])


def swapped(m):
    m[0].weight.data = 2 * torch.rand_like(m[0].weight)
    m[6].bias.data = torch.rand(3)


def pruned(m):
    for layer in (m[0], m[4], m[6]):
        prune.random_unstructured(layer, "weight", 0.5)
    prune.l1_unstructured(m[4], "bias", 2)
    prune.l1_unstructured(m[4], "weight", 0.1)  # a second one on top


def reparametrised(m):
    parametrizations.weight_norm(m[0])
    parametrize.register_parametrization(m[4], "weight", Doubled())
    parametrize.register_parametrization(m[6], "bias", Doubled())
    parametrizations.orthogonal(m[6])


CHANGES = {
    "exchanged": exchanged,
    "swapped": swapped,
    "loaded": lambda m: m.load_state_dict({k: 2 * v for k, v in made().state_dict().items()}),
    "pruned": pruned,
    "pruned and removed": lambda m: (pruned(m), prune.remove(m[0], "weight")),
    "parametrised": reparametrised,
    "weight norm by hook": lambda m: [nn.utils.weight_norm(m[i]) for i in (0, 6)],
    "norm": lambda m: (setattr(m[1], "eps", 0.5), setattr(m[1], "weight", loud(m[1]))),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("early", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_weights_are_the_modules_at_every_time(change, early):
    module = made()
    if early:
        change(module)
    net, head = built(module)
    if not early:
        change(module)
    own = {id(one) for one in module.parameters()}
    assert {id(one) for one in (*net.parameters(), *head.parameters())} == own
    features = net(XS)
    expected = by_hand(copy_of(module, change), XS)
    assert features.unique().numel() > 1
    torch.testing.assert_close(torch.stack([head.logits(h) for h in features]), expected)
    head.logits(features[-1]).sum().backward()
    assert all(one.grad is not None for one in net.parameters() if one.requires_grad)


def copy_of(module, change):
    """Return a module like the first: torch cannot copy pruned ones."""
    twin = made()
    change(twin)
    values = module.state_dict()
    running = {name: value for name, value in twin.state_dict().items() if "running" in name}
    twin.load_state_dict({**values, **running})
    return twin


def test_a_pruned_norm_is_not_folded_without_its_mask():
    module = made().eval()
    net, _ = built(module)
    with torch.no_grad():
        prune.random_unstructured(module[1], "weight", 2)
        module[1].weight_orig.mul_(2)  # the pruned weight that torch keeps is stale now
        torch.testing.assert_close(net(XS), by_hand(module[:-1], XS))


@pytest.mark.parametrize("change", [exchanged, pruned, reparametrised])
def test_sums_over_events_see_changes(change):
    module = made()
    net, _ = built(module)
    net.eval()
    engine = EventEngine(limit=1.0)
    with torch.no_grad():
        before = net(XS, ops=engine.ops)
        change(module)
        after = net(XS, ops=engine.ops)
        torch.testing.assert_close(after, net(XS))
        assert not torch.equal(before, after)


def test_weights_made_anew_are_never_taken_for_the_last_ones():
    module = made()
    net, _ = built(module)
    synapse = net.sites[1].synapse
    assert _mark(synapse) == _mark(synapse)
    pruned(module)  # from now on a weight may lie in the memory of the one before
    assert _mark(synapse) != _mark(synapse)


def test_trained_thresholds_are_followed_through_a_parametrisation():
    module = nn.Sequential(nn.Linear(4, 8), Neuron(LIF(v_th=0.3, learn=("v_th",))))
    net, xs = SpikingNet.from_torch(module, (4,)), 3 * torch.rand(5, 3, 4)
    before = net(xs)
    parametrize.register_parametrization(module[1], "raw_v_th", Doubled())
    after = net(xs)
    assert torch.equal(after, by_hand(module, xs)) and not torch.equal(before, after)


def test_types_follow():
    module = made()
    net, head = built(module)
    module.double()
    assert net(XS.double()).dtype == torch.float64
    net.float()
    assert {one.dtype for one in (*module.parameters(), *head.parameters())} == {torch.float32}


def test_parameters_keep_their_names():
    net, head = built(made())
    assert [*dict(net.named_parameters())][:2] == [
        "plan.synapses.0_0.weight",
        "plan.synapses.0_0.bias",
    ]
    text = SpikingNet('{default = {norm = "batch_step"}} c4 f8{norm = "none"} f3', (2, 6, 6))
    text.load_state_dict(net.state_dict())
    torch.testing.assert_close(
        text.plan.get_parameter("synapses.0_0.weight"), net.sites[0].synapse.weight
    )


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_follow_their_own_module(copied):
    module = made()
    net, _ = built(module)
    twin = copied(net)
    theirs = twin.link.module
    net.eval(), twin.eval()
    torch.testing.assert_close(twin(XS), net(XS))
    with torch.no_grad():
        theirs[0].weight = loud(theirs[0])
    assert twin.sites[0].synapse.weight is theirs[0].weight
    assert twin.last_linear is theirs[6] and not torch.equal(twin(XS), net(XS))
    theirs[0].register_forward_hook(lambda *_: None)
    net(XS)
    with pytest.raises(UnsupportedNet, match="module without hooks"):
        twin(XS)


def replaced(m):
    m[4] = nn.Linear(144, 8)


def set_bias(m):
    m[4].bias = None


LATER = {
    "stride": (lambda m: setattr(m[0], "stride", (2, 2)), r"Linear\)|Conv2d"),
    "padding": (lambda m: setattr(m[0], "padding_mode", "reflect"), r"0 \(Conv2d\).*'zeros'"),
    "replaced": (replaced, r"module Sequential: expected what the net was made from"),
    "added": (lambda m: m.append(nn.ReLU()), "module Sequential: expected what the net was made"),
    "unit": (lambda m: setattr(m[2], "unit", LIF(v_th=9.0)), r"2 \(Neuron\), unit: expected what"),
    "bias": (set_bias, r"4 \(Linear\).*expected what the net was made from"),
    "forward": (lambda m: setattr(m[0], "forward", torch.relu), "forward of its class"),
    "hook": (lambda m: m[0].register_forward_hook(print), r"0 \(Conv2d\): .*hooks, got print"),
    "pre-hook": (lambda m: m.register_forward_pre_hook(print), "Sequential: .*without hooks"),
    "backward": (lambda m: m[2].register_full_backward_hook(print), r"2 \(Neuron\): .*hooks"),
    "head's hook": (lambda m: m[6].register_forward_hook(print), r"6 \(Linear\): .*hooks"),
    "drawn": (lambda m: parametrize.register_parametrization(m[0], "weight", Drawn()), "Drawn"),
    "spectral": (lambda m: parametrizations.spectral_norm(m[4]), r"4 \(Linear\).*_SpectralNorm"),
    "width": (lambda m: setattr(m[4], "weight", nn.Parameter(torch.rand(9, 144))), r"4 \(Linear"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), LATER.values(), ids=LATER)
@pytest.mark.parametrize("call", ["run_by_layer", "run_by_time", "run_rates"])
def test_other_changes_are_errors_at_the_next_use(change, message, call):
    module = made()
    net, _ = built(module)
    change(module)
    with pytest.raises((UnsupportedNet, ShapeError), match=message):
        getattr(net, call)(XS[0] if call == "run_rates" else XS)


def normed(synapse):
    with pytest.raises(AttributeError, match="no setter"):
        nn.utils.weight_norm(synapse)


ON_SYNAPSES = {
    "parametrised": lambda s: parametrize.register_parametrization(s, "weight", Doubled()),
    "spectral": lambda s: parametrizations.spectral_norm(s),
    "normed": normed,
}


@pytest.mark.parametrize("change", ON_SYNAPSES.values(), ids=ON_SYNAPSES)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weights_made_on_the_nets_side_are_refused(change):
    """A synapse has the tables of the user's layer, which is left without its weight."""
    net, _ = built(made())
    change(net.sites[0].synapse)
    with pytest.raises(UnsupportedNet, match=r"0 \(Conv2d\): expected a layer with a weight"):
        net(XS)


def test_a_parametrisation_of_a_synapse_can_be_taken_back():
    net, _ = built(made().eval())
    net.eval()
    before = net(XS)
    synapse = net.sites[0].synapse
    parametrize.register_parametrization(synapse, "weight", nn.Identity())
    parametrize.remove_parametrizations(synapse, "weight")
    assert torch.equal(net(XS), before)


class Counted(nn.Module):
    """A module with settings of its own."""

    def __init__(self):
        super().__init__()
        self.skips, self.epoch, self.conv = True, 0, nn.Conv2d(2, 2, 1)

    def forward(self, x):
        return self.conv(x) + x if self.skips else self.conv(x)


def test_settings_that_forward_reads():
    module = Counted()
    net = SpikingNet.from_torch(module, (2, 6, 6))
    module.epoch = 5  # nothing that counts
    before = net(XS)
    module.skips = False
    with pytest.raises(UnsupportedNet, match="Counted, skips: expected what the net was made from"):
        net(XS)
    module.skips = True
    torch.testing.assert_close(net(XS), before)


def test_a_dropout_has_the_nets_mode():
    module = nn.Sequential(nn.Linear(5, 64), Neuron(LIF()), nn.Dropout(0.5))
    net = SpikingNet.from_torch(module, (5,))
    xs = torch.rand(3, 2, 5)
    net.eval()
    assert not module[2].training
    net(xs)
    module.train()
    with pytest.raises(UnsupportedNet, match=r"2 \(Dropout\): expected the net's mode, evaluation"):
        net(xs)
    modes = [(part, part.training) for part in net.modules()]
    net.train()
    for part, training in modes:  # as what measures a net does
        part.training = training
    net.train()
    net(xs, rng=rng_for(2))


def gradients(module, rule):
    net, head = built(module)
    rule.prepare(net, head.sites, BATCH)
    rule.learn(net, BATCH, head.bind(BATCH.target, BATCH.rng), lambda: None)
    return {name: one.grad for name, one in module.named_parameters()}


def test_per_step_rules_go_back_to_what_weights_are_made_from():
    module, plain = made(), made()
    reparametrised(module)
    with torch.no_grad():
        for name in ("0.weight", "4.weight", "6.weight", "6.bias"):
            layer, kind = name.split(".")
            plain.get_parameter(name).copy_(getattr(module[int(layer)], kind))
    ours, theirs = gradients(module, Sltt()), gradients(plain, Sltt())
    torch.testing.assert_close(ours["4.parametrizations.weight.original"], 2 * theirs["4.weight"])
    torch.testing.assert_close(ours["6.parametrizations.bias.original"], 2 * theirs["6.bias"])
    weight = module[0].parametrizations.weight
    magnitude, direction = weight.original0.detach(), weight.original1.detach()
    unit = direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    expected = (theirs["0.weight"] * unit).flatten(1).sum(1).view_as(magnitude)
    torch.testing.assert_close(ours["0.parametrizations.weight.original0"], expected)


@pytest.mark.parametrize("name", RULES.names())
def test_every_rule_trains_it_as_the_net_of_its_spec(name):
    rule, found = RULES.find(name), []
    for spec in (False, True):
        net, head = built(made())
        if spec:
            plain = SpikingNet(net.spec, net.in_shape)
            plain.load_state_dict(net.state_dict())
            other = Softmax.of(plain)
            other.load_state_dict(head.state_dict())
            net, head = plain, other
        try:
            chosen = rule()
            chosen.prepare(net, head.sites, CONSTANT)
        except SpikeloomError as error:
            found.append(str(error))
            continue
        target = CONSTANT.target
        chosen.learn(net, CONSTANT, head.bind(target, CONSTANT.rng), lambda: None)
        grads = [one.grad for one in (*net.parameters(), *head.parameters())]
        found.append([one.clone() for one in grads if one is not None])
    if isinstance(found[0], str):
        assert found[0] == found[1]
        return
    assert len(found[0]) == len(found[1]) > 0
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("rule", [Bptt(), Sltt()])
def test_hooks_on_gradients_are_called(rule):
    module = made()
    module[0].weight.register_hook(lambda grad: torch.zeros_like(grad))
    calls = []
    module[4].weight.register_post_accumulate_grad_hook(calls.append)
    found = gradients(module, rule)
    assert not found["0.weight"].any() and found["0.bias"].any() and len(calls) > 0
