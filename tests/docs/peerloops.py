"""Neurons of other libraries as short loops, written from what their documentation says.

Each takes currents [T, B, N] and numbers by their names there, and returns spikes and potentials
as that library stores them. `p.at` fires at the threshold, `p.above` only above it; both have the
slope under test.
"""

import torch
from torch import exp


class Fire(torch.autograd.Function):
    """A step whose derivative is a function of the distance to the threshold."""

    @staticmethod
    def forward(ctx, x, slope, count):
        ctx.save_for_backward(x)
        ctx.slope = slope
        return count(x)

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.slope(ctx.saved_tensors[0]), None, None


def at(x, slope):
    return Fire.apply(x, slope, lambda x: (x >= 0).double())


def above(x, slope):
    return Fire.apply(x, slope, lambda x: (x > 0).double())


def trains(steps):
    spikes, potentials = zip(*steps, strict=True)
    return torch.stack(spikes), torch.stack(potentials)


def spikingjelly(xs, p):
    """Charge, fire, reset; a soft reset where there is no v_reset."""

    def steps():
        v = torch.full_like(xs[0], p.v_reset or 0.0)
        rest = p.v_reset or 0.0
        for x in xs:
            if p.inverse is None:
                v = v + x
            elif p.decay_input:
                v = v + (x - (v - rest)) * p.inverse
            else:
                v = v - (v - rest) * p.inverse + x
            s = at(v - p.v_threshold, p.slope)
            spent = s.detach() if p.detach_reset else s
            if p.v_reset is None:
                v = v - spent * p.v_threshold
            else:
                v = spent * p.v_reset + (1 - spent) * v
            yield s, v

    return trains(steps())


def snntorch(xs, p):
    """The reset of the last step's potential comes first, detached; then decay, input, spike."""

    def steps():
        syn = torch.zeros_like(xs[0])
        mem = torch.zeros_like(xs[0])
        for x in xs:
            reset = (mem - p.threshold > 0).double().detach()
            if p.alpha is not None:
                syn = p.alpha * syn + x
                x = syn
            if p.reset == "subtract":
                mem = p.beta * mem + x - reset * p.threshold
            elif p.reset == "zero" and p.delay:
                mem = p.beta * ((1 - reset) * mem) + x
            else:
                mem = p.beta * mem + x
            s = above(mem - p.threshold, p.slope)
            if p.reset == "zero" and not p.delay:
                mem = mem - (s - reset) * mem
            yield s, mem

    return trains(steps())


def norse(xs, p):
    """Current jumps, the potential moves, the current decays, spike and reset."""

    def steps():
        v = torch.zeros_like(xs[0])
        i = torch.zeros_like(xs[0])
        s = torch.zeros_like(xs[0])
        for x in xs:
            if p.recurrent is not None:
                x = x + s @ p.recurrent.T
            i = x if p.tau_syn_inv is None else i + x  # a box has no synaptic current
            v = v + p.dt * p.tau_mem_inv * ((p.v_leak - v) + i)
            if p.tau_syn_inv is not None:
                i = i - p.dt * p.tau_syn_inv * i
            s = above(v - p.v_th, p.slope)
            spent = s.detach() if p.recurrent is not None else s
            v = v - spent * p.v_th if p.subtract else (1 - spent) * v + spent * p.v_reset
            yield s, v

    return trains(steps())


def sinabs(xs, p):
    """Synaptic current, potential, spikes, reset, lower bound."""

    def several(v):
        count = (v > 0) * torch.div(v, p.spike_threshold, rounding_mode="trunc")
        return count if p.most is None else count.clamp(max=p.most)

    def single(v):
        return (v - p.spike_threshold >= 0).double()

    def steps():
        v = torch.zeros_like(xs[0])
        i = torch.zeros_like(xs[0])
        for x in xs:
            if p.alpha_syn is not None:
                i = p.alpha_syn * (i + x)
                x = i
            if p.alpha_mem is None:
                v = v + x
            else:
                v = p.alpha_mem * v + ((1 - p.alpha_mem) * x if p.norm_input else x)
            slope = lambda v: p.slope(v - p.spike_threshold)  # noqa: E731
            s = Fire.apply(v, slope, single if p.most == 1 else several)
            v = v * (s == 0).double() if p.zero else v - s * p.spike_threshold
            if p.min_v_mem is not None:
                v = torch.relu(v - p.min_v_mem) + p.min_v_mem
            yield s, v

    return trains(steps())


def arctan(alpha):
    return lambda x: alpha / 2 / (1 + (torch.pi / 2 * alpha * x) ** 2)


def logistic(alpha):
    return lambda x: alpha * torch.sigmoid(alpha * x) * (1 - torch.sigmoid(alpha * x))


def superspike(x):
    return 1 / (1 + x.abs()) ** 2


def single_exponential(threshold, grad_width=0.5, grad_scale=1.0):
    width = threshold * grad_width
    return lambda x: grad_scale / width * exp(-x.abs() / width)


def periodic_exponential(grad_width, grad_scale):
    """At threshold 1; x is the distance from it."""

    def slope(x):
        v = x + 1
        shifted = v - 0.5
        periodic = shifted - torch.div(shifted, 1.0, rounding_mode="floor")
        place = torch.where(v >= 1, periodic, shifted)
        return grad_scale * exp(-(place - 0.5).abs() / grad_width)

    return slope
