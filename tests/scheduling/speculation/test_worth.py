"""What takes time to ask must save more than that."""

from __future__ import annotations

from headway.scheduling.speculation.worth import ADVANCE, SELDOM, Worth


def asked(worth: Worth, saved: float, steps: int, *, first: int = 0) -> int:
    """In how many of so many steps it was asked, where asking takes a second."""
    count = 0
    for step in range(first, first + steps):
        if worth.asks(step):
            count += 1
            worth.learn(1.0, saved)
    return count


def test_what_saves_nothing_is_soon_asked_seldom() -> None:
    worth = Worth()
    assert worth.asks(1), "nothing is known of it"
    assert asked(worth, 0.0, ADVANCE) == ADVANCE
    assert asked(worth, 0.0, 100 * SELDOM) < 102


def test_what_saves_more_than_it_takes_is_always_asked() -> None:
    assert asked(Worth(), 1.1, 1000) == 1000


def test_what_becomes_worth_it_is_asked_again() -> None:
    worth = Worth()
    asked(worth, -3.0, 500)
    assert asked(worth, 3.0, 4000) > 2000


def test_what_was_saved_long_ago_does_not_pay_for_ever() -> None:
    worth = Worth()
    asked(worth, 50.0, 1000)
    assert asked(worth, 0.0, 1000) < ADVANCE + 1000 / SELDOM + 2
