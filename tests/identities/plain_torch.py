"""A second, slower way to train: nets, rules, schedule and optimizers in plain torch, by hand.

Nothing of it is imported from the library but the batches it is given. Neurons are leaky with a
reset by subtraction, v_th = 1, alpha = 1/2 and the slope of a sigmoid; gradients go through the
reset, as they do in the library by default.
"""

import math

import torch
import torch.nn.functional as F

ALPHA, STEEP = 0.5, 4.0


class Spike(torch.autograd.Function):
    """A step whose derivative is that of a sigmoid."""

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        s = torch.sigmoid(STEEP * u)
        return grad * STEEP * s * (1 - s)


class PlainNet:
    """A net such as "c3 c4 P f5 f2", the last f being the readout.

    Args:
        text: of convolutions (3x3), average pools (2x2) and linear layers.
        state: names and values as the library stores them; copied.
        norm: "none", "batch_step" or "batch_all".
    """

    def __init__(self, text, state, norm):
        self.norm = norm
        self.layers = [(token[0], row) for row, token in enumerate(text.split()[:-1])]
        self.state = {name: value.detach().clone() for name, value in state.items()}
        self.trained = [
            name
            for name, value in self.state.items()
            if value.is_floating_point() and "running" not in name
        ]
        for name in self.trained:
            self.state[name].requires_grad_()

    def map(self, kind, row, x, trace=None):
        """Apply weights; with a trace, their gradient is delta (x) trace."""
        if kind == "P":
            return F.avg_pool2d(x, 2)
        key = "head.synapses.readout" if row is None else f"net.plan.synapses.{row}_0"
        weight, bias = self.state[f"{key}.weight"], self.state.get(f"{key}.bias")

        def apply(a, w, b):
            return F.conv2d(a, w, b, padding=1) if kind == "c" else F.linear(a.flatten(1), w, b)

        if trace is None:
            return apply(x, weight, bias)
        credited = apply(trace, weight, None)
        return apply(x, weight.detach(), bias) + (credited - credited.detach())

    def normed(self, row, c):
        """Apply torch's own batch norm."""
        if self.norm == "none":
            return c
        key = f"net.plan.norms.{row}_0_0"
        self.state[f"{key}.num_batches_tracked"] += 1
        mean, var = self.state[f"{key}.running_mean"], self.state[f"{key}.running_var"]
        return F.batch_norm(
            c, mean, var, self.state[f"{key}.weight"], self.state[f"{key}.bias"], training=True
        )

    def trains(self, xs):
        """Run layer by layer; return features [T, B, D]."""
        for kind, row in self.layers:
            cs = torch.stack([self.map(kind, row, x) for x in xs])
            if kind == "P":
                xs = cs
                continue
            if self.norm == "batch_all":
                cs = self.normed(row, cs.flatten(0, 1)).unflatten(0, cs.shape[:2])
            else:
                cs = torch.stack([self.normed(row, c) for c in cs])
            v, out = torch.zeros_like(cs[0]), []
            for c in cs:
                u = ALPHA * v + c
                out.append(Spike.apply(u - 1))
                v = u - out[-1]
            xs = torch.stack(out)
        return xs.flatten(2)

    def learn(self, rule, xs, target, commit):
        """Learn from one batch with the loss where the rule has it."""
        if rule["name"] == "bptt":
            self._learn_by_layer(rule, xs, target)
            commit()
        else:
            self._learn_by_step(rule, xs, target, commit)

    def _learn_by_layer(self, rule, xs, target):
        hs = self.trains(xs)
        if rule.get("loss") == "step":
            losses = [F.cross_entropy(self.map("f", None, h), target) for h in hs]
            torch.stack(losses).mean().backward()
        else:
            F.cross_entropy(self.map("f", None, hs.mean(0)), target).backward()

    def _learn_by_step(self, rule, xs, target, commit):
        """SLTT, and OTTT with its traces behind the first layer."""
        v, traces = {}, {}

        def trace(row, h):
            if rule["name"] == "sltt":
                return None
            before = traces.get(row, torch.zeros_like(h))
            traces[row] = (h + ALPHA * before).detach()
            return traces[row]

        for x in xs:
            h = x
            for kind, row in self.layers:
                if kind == "P":
                    h = self.map(kind, row, h)
                    continue
                c = self.map(kind, row, h, trace(row, h) if row else None)
                c = self.normed(row, c)
                u = c + ALPHA * v.get(row, torch.zeros_like(c)).detach()
                h = Spike.apply(u - 1)
                v[row] = u - h
            h = h.flatten(1)
            (F.cross_entropy(self.map("f", None, h, trace(None, h)), target) / len(xs)).backward()
            if rule.get("update") == "online":
                commit()
        if rule.get("update") != "online":
            commit()


class PlainOptimizer:
    """SGD with momentum, Adam, AdamW, RAdam, from their equations; norms clipped first."""

    def __init__(self, net, name, weight_decay, momentum=0.0, clip=None):
        self.net, self.name, self.clip = net, name, clip
        self.decay, self.momentum = weight_decay, momentum
        self.first, self.second, self.t, self.lr = {}, {}, 0, 0.0

    @torch.no_grad()
    def step(self):
        """Update every weight that has a gradient, and forget the gradients."""
        state, b1, b2 = self.net.state, 0.9, 0.999
        grads = {name: state[name].grad for name in self.net.trained}
        grads = {name: grad.contiguous() for name, grad in grads.items() if grad is not None}
        if self.clip is not None:
            norm = math.sqrt(sum(float(grad.square().sum()) for grad in grads.values()))
            grads = {name: g * min(1.0, self.clip / (norm + 1e-6)) for name, g in grads.items()}
        self.t += 1
        for name, g in grads.items():
            w = state[name]
            if self.name == "adamw":
                w.mul_(1 - self.lr * self.decay)
            else:
                g = g + self.decay * w
            m = self.first.get(name, torch.zeros_like(g))
            if self.name == "sgd":
                self.first[name] = g + self.momentum * m
                w.sub_(self.lr * self.first[name])
                continue
            m = self.first[name] = b1 * m + (1 - b1) * g
            v = self.second.get(name, torch.zeros_like(g))
            v = self.second[name] = b2 * v + (1 - b2) * g * g
            w.sub_(self.lr * self._direction(m / (1 - b1**self.t), v, b2))
        for name in self.net.trained:
            state[name].grad = None

    def _direction(self, mean, v, b2):
        if self.name != "radam":
            return mean / ((v / (1 - b2**self.t)).sqrt() + 1e-8)
        most = 2 / (1 - b2) - 1
        rho = most - 2 * self.t * b2**self.t / (1 - b2**self.t)
        if rho <= 5:
            return mean
        over, under = (rho - 4) * (rho - 2) * most, (most - 4) * (most - 2) * rho
        return mean * math.sqrt(over / under * (1 - b2**self.t)) / (v.sqrt() + 1e-8)
