"""What an operator sees of a large fleet at a glance: counts, and who does not run as usual."""

from __future__ import annotations

import asyncio

import pytest
from helpers_control import fallen

from fleetmon.control.client import Client, find
from fleetmon.control.encoding import encode_row
from fleetmon.control.protocol import RequestError
from fleetmon.control.reads import BRIEF

pytestmark = pytest.mark.anyio


async def test_a_large_fleet_is_told_in_counts_and_those_that_do_not_run_as_usual(
    reachable, fleetmon, as_json
):
    async with reachable() as fleet:
        for number in range(BRIEF + 50):
            fleet.attach(f"AGENT-{number}")
        client = Client(find().socket)
        told = await asyncio.to_thread(client.snapshot, brief=True)
        assert told["counts"] == {
            "healthy": BRIEF + 50, "degraded": 0, "failed": 0, "declared": 0,
        }  # fmt: skip
        assert (told["agents"], told["left_out"], told["health"]) == ([], BRIEF + 50, 0)
        code, out, _ = await fleetmon("status")
        assert (code, out.splitlines()) == (0, [
            f"hall: running, 250 agents: 250 healthy (process {told['pid']})",
            "(250 more agents: fleetmon agents)",
        ])  # fmt: skip
        await fleet.pause("AGENT-7")
        await fallen(fleet, "DEAD")
        told = await asyncio.to_thread(client.snapshot, brief=True)
        assert [a["agent_id"] for a in told["agents"]] == ["DEAD", "AGENT-7"]
        assert (told["health"], told["counts"]["failed"], told["left_out"]) == (2, 1, 249)
        code, out, _ = await fleetmon("status --check")
        assert code == 11
        assert out.splitlines()[-1] == (
            "(that do not run as usual, the worst first; 249 more agents: fleetmon agents)"
        )
        # what a program reads is whole, and so is what is selected by name
        assert len((await as_json("status --json"))[1]["agents"]) == BRIEF + 51
        assert (await fleetmon("restart AGENT-3 --dry-run"))[1].splitlines()[1] == (
            "  AGENT-3 (running)"
        )
        assert (await fleetmon("doctor"))[0] == 0
        with pytest.raises(RequestError, match="must be full or brief"):
            await asyncio.to_thread(client._json, "GET", "/v1/snapshot?view=x")


async def test_a_fleet_of_forty_is_shown_whole(reachable, fleetmon):
    async with reachable() as fleet:
        for number in range(40):
            fleet.attach(f"AGENT-{number}")
        _, out, _ = await fleetmon("status")
        assert len(out.splitlines()) == 42


async def test_a_row_that_is_kept_takes_no_more_room_than_it_has_bytes(reachable):
    import tracemalloc

    async with reachable() as fleet:
        row = fleet.attach("APEX").row()
        tracemalloc.start()
        try:
            kept = [encode_row(row) for _ in range(500)]
            size, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert size < 500 * (len(kept[0]) + 100)
