"""Findings by cause: one line to act on, then where it was seen, at 80 columns."""

import pytest

from spikeloom.check.battery import run_check
from spikeloom.check.causes import Finding, cause_of, causes
from spikeloom.check.outcome import ALSO, CheckFailed, CheckSkipped, listed
from spikeloom.check.toy import Case
from spikeloom.rules.bptt import Bptt

CASE, OTHER = Case("any", Bptt()), Case("any", Bptt(loss="step"))


def found(subject, place, check="sums", kernels="reference", case=CASE, came="2"):
    cause, line = cause_of(CheckFailed(subject, "a mean", came, "divide"), case.rule)
    return Finding(cause, line, case, kernels, check, place)


def test_the_four_parts_and_where_it_was_seen():
    same = [
        found("a", ""),
        found("b", "T = 1", "commits", came="3"),
        found("c", "T = 4", "commits"),
    ]
    assert [str(cause) for cause in causes(same)] == [
        "a: expected a mean, got 2; divide.\n  sums\n  commits: T = 1, T = 4\n"
        "  on reference kernels, Bptt(loss='end')"
    ]


def test_kernels_and_rules_are_listed_once():
    (cause,) = causes([found("a", "", kernels=k, case=c) for k in ("", "") for c in (CASE, OTHER)])
    assert str(cause).splitlines()[2:] == ["  Bptt(loss='end'), Bptt(loss='step')"]
    (cause,) = causes([found("a", "", kernels=kind) for kind in ("reference", "compiled")])
    assert "  on reference and compiled kernels, Bptt" in str(cause)


def test_places_column_by_column():
    places = [ALSO.join((net, how)) for net in ("linear", "max pool") for how in ("rows", "last")]
    (cause,) = causes([found("a", place) for place in [*places, f"linear{ALSO}rows{ALSO}copied"]])
    assert str(cause).splitlines()[1] == "  sums: linear, max pool; rows, last; copied"


def test_other_words_are_another_cause_and_lines_are_short():
    other = CheckFailed("x" * 30, "word " * 30, "nothing", "mend it")
    both = causes([found("a", ""), Finding(*cause_of(other, Bptt()), CASE, "", "sums", "")])
    assert len(both) == 2
    assert max(len(line) for line in str(both[1]).splitlines()) <= 77  # the command adds three


def test_names_in_a_row():
    assert [listed("ab"), listed("abcde"), listed([])] == ["a, b", "a, b, c and 2 more", ""]


def test_one_place_that_fails_does_not_hide_the_others():
    def fail(case, text):
        raise CheckFailed(text, "a mean", case.kernels, "divide")

    def checked(case):
        yield "one", lambda: fail(case, "a")
        yield "two", lambda: [("within two", lambda: fail(case, "b"))]
        yield "three", lambda: None
        yield "four", lambda: 1 / 0

    result = run_check(checked, CASE)
    seen = [(one.place, one.kernels) for one in result.findings]
    order = ("one", "four", "within two")
    assert seen == [(place, kind) for kind in ("reference", "compiled") for place in order]
    assert result.outcome == "failed" and result.reason.count("expected a mean") == 1
    assert (
        "learn: expected no error, got ZeroDivisionError at test_check_causes.py:" in result.reason
    )


def test_a_check_that_does_not_apply():
    def skipped(case):
        raise CheckSkipped("it learns nothing")

    result = run_check(skipped, CASE)
    assert (result.outcome, result.reason) == ("skipped", "it learns nothing")


@pytest.mark.parametrize("fault", [ValueError("a"), KeyError("b")])
def test_errors_of_one_line_have_one_cause(fault):
    def raised(text):
        try:
            raise type(fault)(text)
        except Exception as error:
            return cause_of(error, Bptt())[0]

    assert raised("one") == raised("two")
