"""Names of settings in other libraries, with what to write here instead.

They are not accepted: the error for an unknown setting quotes them.
"""

from collections.abc import Mapping

_ALPHA = "the membrane's decay per step is alpha of LIF here"
_BETA = "the decay of the synaptic current is beta here"
_V_TH = "the threshold is v_th here"
_RESET = 'write reset = "soft" (subtract the threshold), "hard" (to v_reset) or "none"'
_SCALE = "write scale_input = True here, which multiplies the input by 1 - alpha"
_SURROGATE = "the slope in place of the spike's derivative is surrogate here, e.g. Arctan()"
_PEAK = "the peak is gamma of Triangle and height of Rectangle, FastSigmoid and Exponential here"
_STATE = (
    "nothing takes its place: a call starts clean, and state is passed on with Neuron.run or step"
)
_ORDER = 'write order = "next_step" where the reset comes one step late, else "after_fire"'

UNIT_NAMES: Mapping[str, str] = {
    "alpha": f"{_ALPHA}, and IF has none: take LIF",
    "tau": f"{_ALPHA}, alpha = 1 - 1/tau, with scale_input = True where the input is divided too",
    "init_tau": f'{_ALPHA}, alpha = 1 - 1/tau, and learn = ("alpha",) trains it',
    "tau_mem": f"{_ALPHA}, alpha = exp(-1/tau), with scale_input = True where the input is scaled",
    "tau_mem_inv": f"{_ALPHA}, alpha = 1 - dt * tau_mem_inv, with scale_input = True",
    "decay": _ALPHA,
    "leak": _ALPHA,
    "lam": _ALPHA,
    "tau_syn": f"{_BETA}, beta = exp(-1/tau)",
    "tau_syn_inv": f"{_BETA}, beta = 1 - dt * tau_syn_inv",
    "threshold": _V_TH,
    "v_threshold": _V_TH,
    "spike_threshold": _V_TH,
    "vth": _V_TH,
    "thresh": _V_TH,
    "reset_mechanism": _RESET,
    "reset_method": _RESET,
    "reset_fn": _RESET,
    "hard_reset": _RESET,
    "soft_reset": _RESET,
    "reset_delay": _ORDER,
    "decay_input": _SCALE,
    "norm_input": _SCALE,
    "min_v_mem": "the lower bound of the potential is v_min here",
    "surrogate_function": _SURROGATE,
    "surrogate_grad_fn": _SURROGATE,
    "spike_grad": _SURROGATE,
    "spike_fn": "one spike per step is the rule here, write max_spikes = None for MultiSpike",
    "learn_beta": 'learn = ("alpha",) trains the membrane\'s decay here',
    "learn_alpha": 'learn = ("alpha",) trains the membrane\'s decay here, no other one is trained',
    "learn_threshold": 'learn = ("v_th",) trains the threshold here',
    "v_leak": "potentials are measured from rest here: shift v_th and v_reset by it",
    "v_rest": "potentials are measured from rest here: shift v_th and v_reset by it",
    "refractory_period": "the steps after a spike without another are refractory here",
    "t_refrac": "the steps after a spike without another are refractory here",
    "init_hidden": _STATE,
    "output": _STATE,
    "step_mode": "time is always the first axis here, and a call takes the whole train",
}
"""Advice for the names of neuron settings in SpikingJelly, snnTorch, Norse and sinabs."""

SURROGATE_NAMES: Mapping[str, str] = {
    "alpha": "write a of Arctan, k of Sigmoid, FastSigmoid and Exponential, or gamma of Triangle",
    "slope": "write k of Sigmoid, FastSigmoid and Exponential",
    "grad_scale": _PEAK,
    "scale": _PEAK,
    "beta": "write k of Sigmoid, FastSigmoid and Exponential",
}
"""Advice for the names of surrogate settings."""
