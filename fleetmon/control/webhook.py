"""Alertmanager's webhook: a firing alert that names an agent and a command has it carried out.

It is the one path of all commands, with the actor ``alertmanager``. An alert that comes again, as
Alertmanager's do until they are resolved, is the same command. Each agent has a budget, so that an
alert, the reset that it brings and the next failure do not chase each other. An agent that an
operator has paused, drained, stopped or quarantined is left as it is: alerts undo faults, never
decisions.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from fleetmon.control.problem import ProblemError, answer, posted
from fleetmon.control.protocol import SCHEMA
from fleetmon.control.request import CommandRequest
from fleetmon.errors import UnknownAgentError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from fleetmon.control.orders import Orders
    from fleetmon.control.protocol import AlertShape
    from fleetmon.settings import AlertWebhook
    from fleetmon.supervisor import Supervisor

ACTOR = "alertmanager"
"""Who asks, in the audit events."""

PATH = "/v1/alertmanager"
"""Where Alertmanager sends to."""

_BODY = 1024 * 1024  # bytes; a group of alerts with long annotations
_ALERTS = 1000
_KEPT = 4096  # alerts that are remembered
_RUN: Final = "run"  # what is wanted of an agent unless an operator has said otherwise
_HOLD = 1.0  # seconds for all commands of one delivery

Text = Annotated[str, Field(max_length=4096)]


class Alert(BaseModel):
    """One alert, as Alertmanager 0.2x sends it; what is not used here is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: Literal["firing", "resolved"]
    labels: dict[Text, Text] = {}
    annotations: dict[Text, Text] = {}
    startsAt: Text = ""  # noqa: N815 - Alertmanager's word
    fingerprint: Text = ""


class Delivery(BaseModel):
    """Body of ``POST /v1/alertmanager``: version 4 of Alertmanager's webhook."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str = "4"
    alerts: Annotated[tuple[Alert, ...], Field(max_length=_ALERTS)]


class Webhook:
    """The endpoint."""

    def __init__(self, fleet: Supervisor, orders: Orders, settings: AlertWebhook) -> None:
        """Prepare for one supervisor; commands go through ``orders``."""
        self._fleet = fleet
        self._orders = orders
        self._settings = settings
        self._known: OrderedDict[str, AlertShape] = OrderedDict()
        self._spent: dict[str, deque[float]] = {}

    async def deliver(self, request: Request) -> Response:
        """Carry out what the alerts ask for; 200 with what was done for each.

        Its token was asked for before (:mod:`fleetmon.control.guard`). Alertmanager sends again
        what was answered with 5xx, so that a refusal is none.
        """
        delivery = await posted(request, Delivery, _BODY)
        told = await asyncio.gather(*(self._take(alert) for alert in delivery.alerts))
        return answer(200, {"schema": SCHEMA, "alerts": told})

    async def _take(self, alert: Alert) -> AlertShape:
        told: AlertShape = {
            "fingerprint": alert.fingerprint,
            "alertname": alert.labels.get("alertname", ""),
            "agent_id": alert.labels.get("agent_id", ""),
            "command": _wanted(alert),
            "result": "ignored",
            "reason": "",
        }
        if alert.status != "firing":
            told["reason"] = "it is resolved"
        elif not told["command"] or not told["agent_id"]:
            told["reason"] = "it names no agent_id with a fleetmon_command"
        elif told["command"] not in self._settings.commands:
            told["reason"] = f"alerts may ask for {', '.join(self._settings.commands)} only"
        else:
            await self._act(_key(alert), told)
        return told

    async def _act(self, key: str, told: AlertShape) -> None:
        before = self._known.get(key)
        if before is not None:
            told["result"] = "known"
            told["reason"] = f"it came before: {before['result']} {before['reason']}".rstrip()
            return
        try:
            agent = self._fleet.agent(told["agent_id"])
        except UnknownAgentError as error:
            told["result"], told["reason"] = "refused", str(error)
            return
        agent_id = agent.agent_id
        picture = agent.snapshot()
        desired = picture.desired
        # asked again when it is carried out; here so that it costs no budget
        if desired != _RUN and picture.mode != "declared":
            told["result"] = "refused"
            told["reason"] = f"an operator wants {agent_id} {desired}; an alert does not undo that"
            return
        if not self._affords(agent_id):
            settings = self._settings
            told["result"] = "over_budget"
            told["reason"] = (
                f"{agent_id} had {settings.per_agent} commands of alerts within "
                f"{settings.period:g} s; it waits for an operator"
            )
            return
        while len(self._known) >= _KEPT:
            self._known.popitem(last=False)
        self._known[key] = told  # before anything is awaited: the same alert may come meanwhile
        try:
            outcome = await self._orders.order(
                CommandRequest(
                    key=key,
                    command=told["command"],
                    agent_id=agent_id,
                    actor=ACTOR,
                    reason=told["alertname"][:1000],
                    desired=_RUN,
                    hold=_HOLD,
                )
            )
        except ProblemError as error:
            told["result"], told["reason"] = "refused", str(error)
        else:
            told["result"], told["reason"] = outcome["result"], outcome["reason"]

    def _affords(self, agent_id: str) -> bool:
        now = time.monotonic()
        spent = self._spent.setdefault(agent_id, deque())
        while spent and spent[0] <= now - self._settings.period:
            spent.popleft()
        if len(spent) >= self._settings.per_agent:
            return False
        spent.append(now)
        return True


def _wanted(alert: Alert) -> str:
    told = alert.labels.get("fleetmon_command") or alert.annotations.get("fleetmon_command", "")
    return told.strip().lower()


def _key(alert: Alert) -> str:
    # Alertmanager always sends a fingerprint; without one the labels are the alert's identity
    identity = alert.fingerprint or repr(sorted(alert.labels.items()))
    told = f"{identity}\n{alert.startsAt}".encode("utf-8", "replace")
    return f"alert-{hashlib.sha256(told).hexdigest()[:40]}"
