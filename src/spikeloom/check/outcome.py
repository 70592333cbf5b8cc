"""How a check ends: silently, with a sentence of what is wrong, or with why it does not apply."""


class CheckFailed(AssertionError):
    """A rule does not keep what the check asks; the message is a sentence for its author."""


class CheckSkipped(Exception):  # noqa: N818
    """The check says nothing about this rule; the message says why."""


def require(held: bool, message: str) -> None:
    """Fail the check unless the condition holds.

    Raises:
        CheckFailed: it does not.
    """
    if not held:
        raise CheckFailed(message)
