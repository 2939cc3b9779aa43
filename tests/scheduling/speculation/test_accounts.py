"""Accounts of streams: who is ahead may wait for others, who is behind may not."""

from __future__ import annotations

import pytest

from headway.scheduling.speculation.accounts import LOAN, MOST_LEAD, MOST_LOSS, StreamAccount
from headway.scheduling.speculation.choice import SLOWER


def test_what_was_right_counts_against_what_the_steps_took_longer() -> None:
    account = StreamAccount()
    account.gained = 2
    account.settle(0.3)
    assert account.lead == pytest.approx(LOAN + 1.7)
    account.gained = 0
    account.settle(0.3)
    assert account.lead == pytest.approx(LOAN + 1.4)


def test_a_lead_is_bounded_and_a_loss_ends_its_drafts() -> None:
    account = StreamAccount()
    account.gained = 100
    account.settle(0.0)
    assert account.lead == MOST_LEAD
    account.gained = 0
    account.settle(MOST_LEAD + MOST_LOSS - 0.1)
    assert account.may_draft
    account.settle(0.2)
    assert not account.may_draft


def test_who_is_behind_makes_up_by_what_each_step_may_be_slower() -> None:
    account = StreamAccount(lead=-1.0, reckoned=100)
    account.catch_up(150)
    account.catch_up(150)
    assert account.lead == pytest.approx(-1.0 + 50 * SLOWER)
    account.catch_up(10_000)
    assert account.lead == LOAN
    ahead = StreamAccount(lead=2.0, reckoned=100)
    ahead.catch_up(10_000)
    assert ahead.lead == 2.0
