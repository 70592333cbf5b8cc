"""Look for tries that differ: python tests/fuzz/search.py --minutes 60.

It prints the smallest try it can make of each find, as a line for `FOUND` in
test_fuzz_differential.py.
"""

import argparse
import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch

import torch
from differential import Refused, Try, check
from drawing import tries
from hypothesis import HealthCheck, Phase, assume, given, seed, settings


def check_or_assume(one: Try) -> None:
    """Check a try; one that is refused does not count."""
    refused = False
    try:
        check(one)
    except Refused:
        refused = True
    assume(not refused)


def search(minutes: float, first: int = 0) -> list[str]:
    """Look for tries that differ until the time is over; return the smallest of each find."""
    end, found, number = time.monotonic() + 60 * minutes, [], first
    count, last = 0, [""]
    while time.monotonic() < end:

        @seed(number)
        @settings(
            max_examples=100,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            derandomize=False,
        )
        @given(tries())
        def run(one: Try) -> None:
            nonlocal count
            try:
                check_or_assume(one)
                count += 1
            except Exception as error:
                if "UnsatisfiedAssumption" in type(error).__name__:
                    raise
                last[0] = f"{one}  # {type(error).__name__}: {error}"
                raise

        try:
            run()
        except Exception:
            found.append(last[0])
            sys.stdout.write(f"{last[0]}\n")
            sys.stdout.flush()
        number += 1
    sys.stdout.write(f"{count} tries, {len(found)} differ\n")
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--minutes", type=float, default=60)
    words.add_argument("--seed", type=int, default=0)
    given_words = words.parse_args()
    sys.exit(1 if search(given_words.minutes, given_words.seed) else 0)
