"""The firing rate at which a net would take its ANN's energy; imports nothing, for reports."""


def break_even_rate(rate: float, net: float, driven: float, ann: float) -> float:
    r"""Return the mean firing rate at which a net would take its ANN's energy.

    .. math:: r^* = r\, \frac{E_{ANN} - (E_{net} - E_{driven})}{E_{driven}}

    All rates are scaled alike; what the input costs stays. Products with pooled spikes are taken
    to grow in proportion, though they grow more slowly, so for them the result is a lower bound.

    Args:
        rate: r, spikes per neuron and step of the whole net.
        net: its energy.
        driven: the part that layers take which read the net's own spikes.
        ann: the ANN's energy, in the same unit.

    Returns:
        The rate per neuron and step; 0 or less where no rate is low enough, infinity or above 1
        where none is too high.

    Source:
        ours; with a single rate and no input layer it is (E_MAC / E_AC) / T.
    """
    return rate * (ann - (net - driven)) / driven if driven else float("inf")
