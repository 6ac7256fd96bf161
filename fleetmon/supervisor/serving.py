"""What a supervisor serves: metrics and control plane, as applications and at addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from fleetmon.errors import NotRunningError

if TYPE_CHECKING:
    from collections.abc import Collection

    from prometheus_client import CollectorRegistry

    from fleetmon.control.server import ControlServer
    from fleetmon.runtime.fleet import Fleet
    from fleetmon.settings import SupervisorSettings
    from fleetmon.supervisor import Supervisor
    from fleetmon.telemetry.app import ASGIApp
    from fleetmon.telemetry.collector import FleetCollector
    from fleetmon.telemetry.server import MetricsServer


class Serving:
    """What others reach over HTTP; a part of :class:`Supervisor`."""

    settings: SupervisorSettings
    _fleet: Fleet
    _registry: CollectorRegistry | None
    _server: MetricsServer | None
    _control: ControlServer | None

    def collector(self) -> FleetCollector:
        """Return an ordinary collector, for hosts that render by themselves."""
        from fleetmon.telemetry.collector import FleetCollector

        return FleetCollector(self._fleet)

    def metrics_app(self, *, cache: bool | None = None) -> ASGIApp:
        """Return an ASGI application with ``/metrics``, ``/healthz`` and ``/readyz``, to mount.

        Args:
            cache: as ``settings.metrics.cache``, which is the default.
        """
        from fleetmon.telemetry.app import metrics_app

        if cache is None:
            cache = self.settings.metrics.cache
        return metrics_app(self._fleet, registry=self._registry, cache=cache)

    def control_app(
        self, *, token: str | None = None, hosts: Collection[str] | None = None
    ) -> ASGIApp:
        """Return the control plane as an ASGI application, to mount in the host's own.

        It carries commands, so the host says who may ask. Serve it from one event loop only; each
        call returns another one, which knows no command of the others.

        Args:
            token: asked for as ``Authorization: Bearer``; ``None`` leaves that to the host.
            hosts: names that ``Host`` may have; ``None`` leaves that to the host.
        """
        from fleetmon.control.app import ControlPlane
        from fleetmon.control.secrets import Token

        plane = ControlPlane(cast("Supervisor", self))
        return plane.app(hosts=hosts, token=None if token is None else Token(token))

    @property
    def control_path(self) -> str:
        """The control plane's socket; raises :class:`NotRunningError` when there is none."""
        if self._control is None or not self._control.path:
            msg = "no control socket is served; set settings.control.enabled"
            raise NotRunningError(msg)
        return self._control.path

    @property
    def control_url(self) -> str:
        """Where it is served on TCP; raises :class:`NotRunningError` when it is not."""
        if self._control is None or not self._control.url:
            msg = "the control plane is not served on TCP; set settings.control.listen to HOST:PORT"
            raise NotRunningError(msg)
        return self._control.url

    @property
    def metrics_url(self) -> str:
        """Where ``/metrics`` is served; raises :class:`NotRunningError` when it is not."""
        if self._server is None:
            msg = "metrics are not served; set settings.metrics.listen to HOST:PORT"
            raise NotRunningError(msg)
        return f"{self._server.url}/metrics"
