import dataclasses

import pytest
import torch
from metering import bernoulli, dyadic_net, measure, operations_of

from spikeloom.base.errors import ConfigError
from spikeloom.heads.softmax import Softmax
from spikeloom.meters.base import Spread
from spikeloom.meters.energy import (
    FP32,
    INT32,
    EnergyTable,
    paper_energy,
    strict_energy,
)
from spikeloom.meters.record import OperationRecord, SiteOperations
from spikeloom.nets.spec.grammar import parse

EQUAL = EnergyTable("equal", 1.0, 1.0, 32)


def site(name="0.0.0", **fields):
    return SiteOperations(
        name, "conv", fields.pop("role", "body"), fields.pop("unit", "spiking"), **fields
    )


def record_of(*sites):
    nothing = Spread(0.0, None, 1)
    return OperationRecord(1, sites, nothing, nothing)


def uniform(rate, steps, unit="spiking", inputs=100, formula=5000, **fields):
    """A site whose operands fire with one rate at each step of one sample."""
    return site(
        unit=unit,
        inputs=inputs,
        neurons=50,
        weights=10,
        formula=formula,
        pairs=formula,
        samples=1,
        evaluations=steps,
        map_steps=steps,
        unit_steps=steps,
        activity=rate * inputs * steps,
        spikes_out=round(rate * 50 * steps),
        **fields,
    )


def test_tables():
    assert (INT32.e_mac, INT32.e_ac) == (3.2, 0.1)
    assert (FP32.e_mac, FP32.e_ac) == (4.6, 0.9)
    with pytest.raises(ConfigError, match="above 0"):
        EnergyTable("free", 1.0, 0.0, 32)


def test_full_activity_at_one_step_costs_as_much_as_the_ann():
    assert paper_energy(record_of(uniform(1.0, 1)), EQUAL).efficiency == 1


def test_twice_the_steps_halves_the_efficiency():
    once, twice = (paper_energy(record_of(uniform(0.1, t))) for t in (25, 50))
    assert twice.efficiency == pytest.approx(once.efficiency / 2)
    assert once.efficiency == pytest.approx(32 / (25 * 0.1))


def test_fifteenfold_at_fifty_steps_needs_4_3_percent_activity():
    assert paper_energy(record_of(uniform(0.0427, 50))).efficiency == pytest.approx(15, abs=0.05)


def test_from_int32_to_fp32_a_spiking_net_loses_6_26():
    record = record_of(uniform(0.05, 20))
    ratio = paper_energy(record).efficiency / paper_energy(record, FP32).efficiency
    assert ratio == pytest.approx(6.26, abs=5e-3)


def test_poisson_input_costs_1175_accumulates_per_synapse():
    energy = paper_energy(record_of(uniform(0.47, 2500)))
    assert energy.snn / 0.1 / 5000 == pytest.approx(1175)
    assert 1 / energy.efficiency == pytest.approx(36.7, abs=0.05)


def test_hybrid_pays_multiplications_as_often_as_they_run_and_has_a_ceiling():
    front = uniform(1.0, 1, unit="analog", formula=1000)
    record = record_of(front, uniform(0.0, 10, formula=9000))
    energy = paper_energy(record)
    assert energy.efficiency == 10
    assert energy.layers[0].mac == 3200
    ten = dataclasses.replace(front, evaluations=10, map_steps=10)
    assert paper_energy(record_of(ten)).efficiency == 0.1


def test_layers_without_a_unit_follow_their_input():
    spikes = uniform(0.5, 4, unit="none", role="readout")
    reals = uniform(1.0, 1, unit="none", role="readout", spike_input=False)
    assert paper_energy(record_of(spikes), EQUAL).snn == 4 * 0.5 * 5000
    assert paper_energy(record_of(reals)).efficiency == 1


def test_output_activity_is_the_other_reading():
    one = dataclasses.replace(uniform(0.5, 4), spikes_out=20)  # of 50 neurons, 4 steps
    record = record_of(one)
    assert paper_energy(record, EQUAL).snn == 4 * 0.5 * 5000
    assert paper_energy(record, EQUAL, activity="output").snn == 4 * 0.1 * 5000


def test_the_ann_has_no_feedback():
    feedback = uniform(0.1, 10, role="feedback")
    assert paper_energy(record_of(uniform(0.1, 10), feedback)).ann == 3.2 * 5000


@pytest.mark.parametrize(
    ("ac", "mac", "millijoules"),
    [(0.10, 0.14, 0.734), (0.50, 2.75, 13.10), (1.69, 0.20, 2.44), (0.0, 1.82, 8.372)],
)
def test_published_rows_of_syops_counter(ac, mac, millijoules):
    record = record_of(
        site(
            inputs=1,
            neurons=1,
            weights=1,
            formula=1,
            pairs=1,
            samples=1,
            ac=round(ac * 1e9),
            mac=round(mac * 1e9),
        )
    )
    assert strict_energy(record, FP32).snn * 1e-9 == pytest.approx(millijoules, abs=6e-3)


def test_dead_net_has_no_finite_efficiency():
    assert paper_energy(record_of(uniform(0.0, 4))).efficiency == float("inf")


# on measured records


TEXT = "c4 P c4 f6 f3"


def measured(net, xs):
    return operations_of(net, xs, head=Softmax.of(net).eval())


def test_paper_formula_on_a_measured_net():
    """Eq. 11 written out with the mean spikes entering each layer."""
    net = dyadic_net(TEXT, (1, 8, 8))
    xs = bernoulli(5, 3, 1, 8, 8)
    record, spikes = measure(net, [xs], head=Softmax.of(net).eval())
    rate = {one.name: one.rate_per_step for one in spikes.sites}
    macs = [site.formula for site in record.sites if site.formula]
    entering = [xs.mean().item(), rate["0.0.0"], rate["2.0.0"], rate["3.0.0"]]
    expected = 5 * 0.1 * sum(m * r for m, r in zip(macs, entering, strict=True))
    assert macs == [64 * 9 * 4, 4 * 9 * 4 * 16, 64 * 6, 18]
    assert paper_energy(record).snn == pytest.approx(expected)
    assert paper_energy(record).ann == pytest.approx(3.2 * sum(macs))


def test_constant_coding_charges_accumulates_at_each_step_in_the_paper_only():
    net = dyadic_net(TEXT, (1, 8, 8))
    image = torch.randint(1, 255, (3, 1, 8, 8)) / 256
    record = measured(net, image.expand(5, 3, 1, 8, 8))
    first = record.sites[0]
    paper, strict = paper_energy(record), strict_energy(record)
    assert paper.layers[0].ac == pytest.approx(5 * 0.1 * first.formula)
    assert strict.layers[0].mac == pytest.approx(3.2 * first.pairs)
    assert strict.layers[0].ac == 0
    assert first.mac_recomputed == 5 * first.mac
    assert record.sites[2].ac_recomputed == record.sites[2].ac


def test_strict_energy_prices_the_counts():
    net = dyadic_net(TEXT, (1, 8, 8))
    record = measured(net, bernoulli(5, 3, 1, 8, 8))
    per = record.per_sample
    for table in (INT32, FP32):
        plain = strict_energy(record, table)
        assert plain.snn == pytest.approx(table.e_ac * per("ac") + table.e_mac * per("mac"))
        assert plain.ann == pytest.approx(table.e_mac * record.pairs)
        folded = strict_energy(record, table, fold_pool=True)
        assert folded.snn == pytest.approx(table.e_ac * per("ac_folded"))


def test_ann_is_credited_for_its_zeros_too():
    spec = parse(TEXT)
    net, ann = dyadic_net(spec, (1, 8, 8)), dyadic_net(spec.as_ann(), (1, 8, 8))
    xs = torch.randint(0, 255, (1, 3, 1, 8, 8)) / 256
    ours, theirs = measured(net, xs.expand(5, -1, -1, -1, -1)), measured(ann, xs)
    assert strict_energy(theirs).snn == pytest.approx(3.2 * theirs.per_sample("mac"))
    assert strict_energy(ours).ann == strict_energy(theirs).ann == pytest.approx(3.2 * ours.pairs)
    assert paper_energy(theirs).efficiency == pytest.approx(1, rel=1e-12)


def test_unknown_choices_are_refused():
    record = record_of(uniform(0.1, 4))
    with pytest.raises(ConfigError, match="input or output"):
        paper_energy(record, activity="both")  # pyright: ignore
