"""Errors carry their parts; the line is made of them, wherever the error is moved to."""

import math
import pickle

import pytest

from spikeloom.base.checks import (
    FILLED,
    Length,
    above,
    at_least,
    check_number,
    expect,
    within,
)
from spikeloom.base.errors import (
    ConfigError,
    DataError,
    NumericalError,
    ShapeError,
    SpikeloomError,
    addressed,
    unknown_name,
    wrong_choice,
)
from spikeloom.data.broken import BrokenPictures, Fault


def parts(error: SpikeloomError) -> tuple[str, str, str, str, str]:
    return error.source, error.path, error.expected, error.came, error.todo


def test_a_line_and_its_parts():
    error = ShapeError.of("head", "features [B, 3]", "(2, 4)", "reduce them")
    assert str(error) == "head: expected features [B, 3], got (2, 4); reduce them."
    assert parts(error) == ("", "head", "features [B, 3]", "(2, 4)", "reduce them")
    assert ConfigError.of("a.b", "1 or more", "0").todo == "change it"


def test_plain_text_has_no_parts():
    error = ConfigError("net: expected more; add some.")
    assert str(error) == "net: expected more; add some." and parts(error) == ("",) * 5


def test_moving_changes_the_address_and_nothing_else():
    error = ShapeError.of("rules.sltt.k_steps", "1 or more", "0")
    moved = error.moved("rules.sltt", "stages.0.rule").within("entry 'a'").within("c.toml")
    assert type(moved) is ShapeError
    assert str(moved) == (
        "c.toml: entry 'a': stages.0.rule.k_steps: expected 1 or more, got 0; change it."
    )
    assert parts(moved) == (
        "c.toml: entry 'a'",
        "stages.0.rule.k_steps",
        "1 or more",
        "0",
        "change it",
    )
    assert error.moved("rules.slt", "x") is error and error.moved("k_steps", "x") is error
    whole = ConfigError.of("rules.sltt", "one of both", "both")
    assert whole.moved("rules.sltt", "x").path == "x" and whole.moved("rules.sltt.", "x.") is whole
    assert str(ConfigError("head.a: no; fix it.").moved("head", "x")) == "x.a: no; fix it."


def test_under_and_within_a_table_without_a_path():
    inner = ConfigError.of("lr", "a number above 0", "0")
    assert inner.under("stages.0.optimizer").path == "stages.0.optimizer.lr"
    whole = ConfigError.of("", "a table", "5")
    assert str(whole.under("net").within("r.toml")).startswith("r.toml: net: expected a table")
    assert str(whole.within("r.toml")) == "r.toml: expected a table, got 5; change it."


def test_what_was_looked_for_is_found_or_not():
    error = DataError.of("x.npy", "a file", "found none", "check the path.")
    assert str(error) == "x.npy: expected a file, found none; check the path."
    assert parts(error)[1:] == ("x.npy", "a file", "none", "check the path")
    asked = ConfigError.of("--net", "a text", "an empty one", "is a variable unset?")
    assert str(asked).endswith("; is a variable unset?")


@pytest.mark.parametrize(
    ("cause", "came"),
    [
        (PermissionError(13, "Permission denied", "x.npy"), "'Permission denied'"),
        (ValueError("a header\n  of no kind"), "'a header of no kind'"),
        (ValueError(), "'ValueError'"),
        (ValueError("x" * 1000), f"'{'x' * 160}'"),
    ],
)
def test_errors_of_others_are_quoted_in_a_line(cause, came):
    error = DataError.caused("x.npy", "plain arrays", cause, "write it again")
    assert (error.path, error.came, error.todo) == ("x.npy", came, "write it again")
    assert str(error) == f"x.npy: expected plain arrays, got {came}; write it again."


def test_a_sentence_more_and_another_class():
    error = NumericalError.of("training", "a finite loss", "nan", "lower the rate")
    more = error.adding("The run folder keeps epoch 2.").within("epoch 3")
    assert type(more) is NumericalError and parts(more)[1:] == parts(error)[1:]
    assert str(more) == (
        "epoch 3: training: expected a finite loss, got nan; lower the rate. "
        "The run folder keeps epoch 2."
    )
    other = DataError(**more.parts())
    assert type(other) is DataError and parts(other) == parts(more)


def test_errors_travel_between_processes():
    error = ConfigError.of("a", "b", "c\nd").within("f")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), parts(again)) == (str(error), parts(error))
    assert "\\n" in str(error) and "\n" not in str(error)
    assert str(again.moved("a", "x")) == "f: x: expected b, got c\\nd; change it."


def test_an_error_of_its_own_making_is_moved_too():
    error = BrokenPictures([Fault(3, "a.png", "a.png: expected a picture, got none; fix it.")])
    placed = error.within("data.images")
    assert type(placed) is BrokenPictures and placed.faults == error.faults
    assert str(placed) == f"data.images: {error}"


def test_addressed_moves_errors_of_one_kind():
    with pytest.raises(ConfigError, match=r"^data\.size: expected"), addressed("data.x", "data"):
        expect(False, "data.x.size", "1 or more", 0)
    with (
        pytest.raises(ShapeError, match=r"^data\.x\.size: expected"),
        addressed("data.x", "data", ConfigError),
    ):
        expect(False, "data.x.size", "1 or more", 0, kind=ShapeError)


def test_names_and_choices_have_parts():
    error = wrong_choice("rules.ottt.update", "onlin", ["batch", "online"])
    assert parts(error)[1:] == ("rules.ottt.update", "batch or online", "'onlin'", "write 'online'")
    error = unknown_name("encoder", "encoder", "poison", ["poisson", "constant"])
    assert parts(error)[1:] == (
        "encoder",
        "one of constant, poisson",
        "'poison'",
        "write 'poisson'",
    )


RANGES = [
    (at_least(1), (1, 10**9), {0: "1 or more", -1: "1 or more", math.nan: "1 or more"}),
    (at_least(1, "step", most=9), (1, 9), {0: "1 step or more", 10: "9 at most"}),
    (above(0, "a bound"), (1e-300,), {0.0: "a bound above 0", -1.0: "a bound above 0"}),
    (above(0, most=10), (10,), {0: "a number above 0", 11: "10 at most"}),
    (within(0, 1), (0, 1, 0.5), {-0.1: "a number in [0, 1]", 1.1: "a number in [0, 1]"}),
    (within(0, 1, "[)", "a decay"), (0,), {1: "a decay in [0, 1)", math.nan: "a decay in [0, 1)"}),
    (within(0, 1, "(]"), (1,), {0: "a number in (0, 1]"}),
    (within(0, 1, "()"), (0.5,), {0: "a number in (0, 1)", 1: "a number in (0, 1)"}),
]


@pytest.mark.parametrize(("allowed", "right", "wrong"), RANGES)
def test_ranges(allowed, right, wrong):
    for value in right:
        assert allowed.fault(value) == ""
        allowed.check("x", value)
    for value, expected in wrong.items():
        assert allowed.fault(value) == expected
        with pytest.raises(ConfigError) as caught:
            allowed.check("a.b", value)
        assert parts(caught.value)[1:] == ("a.b", expected, repr(value), "change it")
    allowed.check("x", None)


def test_lengths_texts_and_numbers():
    assert Length(1, "seed", 2).fault([]) == "1 seed or more"
    assert Length(1, "seed", 2).fault([1, 2, 3]) == "2 at most" and not Length(1, "seed").fault([1])
    assert FILLED.fault("") == "a text that is not empty" and not FILLED.fault("\n")
    for value, expected, came in (
        (2**63, "a whole number of 64 bits at most", "64 bits"),
        (math.inf, "a finite number", "inf"),
    ):
        with pytest.raises(ConfigError) as caught:
            check_number("seed", value)
        assert parts(caught.value)[1:4] == ("seed", expected, came)
    check_number("seed", 2**63 - 1)
