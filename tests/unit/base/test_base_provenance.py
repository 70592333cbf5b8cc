"""Commit and processor of a figure."""

import re

from spikeloom.base import provenance


def test_a_checkout_has_a_commit():
    found = provenance.commit()
    assert found is None or re.fullmatch(r"[0-9a-f]{7,40}\+?", found)


def test_a_copy_inside_another_checkout_has_none(monkeypatch):
    """Git answers for whatever checkout lies around; only one that tracks the file counts."""
    answers = {"rev-parse": "0123456789", "status": ""}
    monkeypatch.setattr(provenance, "_git", lambda *words: answers.get(words[0]))
    assert provenance.commit.__wrapped__() is None
    answers["ls-files"] = "src/spikeloom/base/provenance.py"
    assert provenance.commit.__wrapped__() == "0123456789"
    answers["status"] = " M src/spikeloom/base/provenance.py"
    assert provenance.commit.__wrapped__() == "0123456789+"


def test_the_processor_has_a_name():
    assert provenance.processor()
