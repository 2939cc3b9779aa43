"""A request whose prompt one replica has computed goes on with another one, where roles say so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from headway.errors import InvalidRequest
from headway.types.fleet import Role
from tests.client.fake_engine import expected_tokens
from tests.client.fleet.readers import Readers
from tests.client.fleet.scripted import ScriptedFleet, scripted_fleet, turns
from tests.client.support import request

APART: Sequence[Role] = ("prefill", "decode")


def where(scripted: ScriptedFleet, names: Sequence[str]) -> list[int]:
    return [scripted.home(name) for name in names]


def handed_over(scripted: ScriptedFleet) -> list[int]:
    return [each.handed_over for each in scripted.fleet.replicas]


def test_prompts_are_computed_by_one_and_answers_generated_by_the_other() -> None:
    async def main() -> None:
        async with scripted_fleet(2, roles=APART, keep_kv_cache=True) as scripted:
            readers = Readers(scripted.fleet)
            for name in "abc":
                readers.submit(request(name))
            assert where(scripted, "abc") == [0, 0, 0]
            await scripted.round()
            assert where(scripted, "abc") == [1, 1, 1]
            assert scripted.engines[1].sources == {"cache 0"}
            assert handed_over(scripted) == [3, 0]
            assert [each.role for each in scripted.fleet.replicas] == ["prefill", "decode"]
            await scripted.finish()
            readers.check()

    asyncio.run(main())


def test_only_the_first_tokens_are_a_reason_to_hand_over() -> None:
    async def main() -> None:
        async with scripted_fleet(2, roles=APART, keep_kv_cache=True) as scripted:
            readers = Readers(scripted.fleet)
            readers.submit(request("a"))
            await turns()
            scripted.engines[1].die()  # nobody is there to take it
            scripted.engines[0].step()
            scripted.engines[0].deliver()
            scripted.engines[1].revive()
            await scripted.round()
            assert where(scripted, "a") == [0]
            assert handed_over(scripted) == [0, 0]
            await scripted.finish()
            readers.check()

    asyncio.run(main())


def test_an_answer_of_one_token_is_not_handed_over() -> None:
    async def main() -> None:
        async with scripted_fleet(2, roles=APART, keep_kv_cache=True) as scripted:
            readers = Readers(scripted.fleet)
            readers.submit(request("a", max_tokens=1))
            await scripted.finish()
            assert handed_over(scripted) == [0, 0]
            readers.check()

    asyncio.run(main())


def test_what_the_first_engine_computes_meanwhile_is_not_heard_twice() -> None:
    async def main() -> None:
        async with scripted_fleet(2, roles=APART, keep_kv_cache=True) as scripted:
            readers = Readers(scripted.fleet)
            asked = request("a", max_tokens=6)
            readers.submit(asked)
            await turns()
            first = scripted.engines[0]
            first.step()
            first.step()  # before it hears that the request has left
            first.deliver()
            assert scripted.home("a") == 1
            assert readers.listened["a"].tokens == expected_tokens(asked)[:1]
            await scripted.finish()
            readers.check()

    asyncio.run(main())


@pytest.mark.parametrize("gone", [0, 1])
def test_whoever_is_left_does_the_work_of_both(gone: int) -> None:
    async def main() -> None:
        async with scripted_fleet(2, roles=APART, fixed_roles=True, keep_kv_cache=True) as scripted:
            readers = Readers(scripted.fleet)
            readers.submit(request("a"))
            await scripted.round()
            scripted.engines[gone].fail()
            readers.submit(request("b"))
            await scripted.finish()
            assert {readers.listened[name].ends[0] for name in "ab"} == {"length"}
            readers.check()

    asyncio.run(main())


def test_an_idle_engine_for_answers_takes_no_prompts_where_roles_are_fixed() -> None:
    for fixed, expected in ((True, {0}), (False, {0, 1})):

        async def main(fixed: bool = fixed, expected: set[int] = expected) -> None:
            async with scripted_fleet(
                2, roles=APART, fixed_roles=fixed, keep_kv_cache=True
            ) as scripted:
                readers = Readers(scripted.fleet)
                names = [f"r{number}" for number in range(8)]
                for name in names:
                    readers.submit(request(name, max_tokens=1))
                await turns()
                first = scripted.engines[0]
                first.step()
                first.deliver()  # some wait, and the other engine has nothing to do
                left = [name for name in names if not readers.listened[name].ends]
                assert set(where(scripted, left)) == expected
                await scripted.finish()
                readers.check()

        asyncio.run(main())


def test_an_added_replica_has_the_role_that_is_asked_for() -> None:
    async def main() -> None:
        async with scripted_fleet(2, roles=APART, keep_kv_cache=True) as scripted:
            assert await scripted.fleet.add_replica("decode") == 2
            assert await scripted.fleet.add_replica() == 3
            roles = [each.role for each in scripted.fleet.replicas]
            assert roles == ["prefill", "decode", "decode", "both"]

    asyncio.run(main())


def test_roles_need_caches_that_others_can_read() -> None:
    async def main() -> None:
        with pytest.raises(InvalidRequest, match="read each other's KV cache") as caught:
            async with scripted_fleet(2, roles=APART):
                pass
        assert caught.value.field == "roles"

    asyncio.run(main())


def test_nothing_is_handed_to_a_replica_that_may_be_about_to_die() -> None:
    async def main() -> None:
        async with scripted_fleet(2, roles=APART, keep_kv_cache=True) as scripted:
            readers = Readers(scripted.fleet)
            readers.submit(request("a", max_tokens=100))
            await scripted.round()
            await scripted.round()
            assert scripted.home("a") == 1
            scripted.engines[1].die()
            scripted.engines[1].revive()  # with a request that may be what killed it
            readers.submit(request("b"))
            await scripted.round()
            assert (scripted.home("a"), scripted.home("b")) == (1, 0)
            await scripted.finish()
            readers.check()

    asyncio.run(main())


def test_who_is_on_probation_is_not_handed_over() -> None:
    async def main() -> None:
        async with scripted_fleet(2, roles=APART, keep_kv_cache=True) as scripted:
            readers = Readers(scripted.fleet)
            readers.submit(request("a"))
            await turns()
            scripted.engines[0].die()
            scripted.engines[0].revive()
            await scripted.round()
            await scripted.round()
            assert readers.listened["a"].tokens
            assert scripted.home("a") == 0
            await scripted.finish()
            readers.check()

    asyncio.run(main())
