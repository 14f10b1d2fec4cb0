"""The webhooks block at work: configuration in, events in, signed deliveries out.

Promises: what was answered 202 is on disk and is delivered at least once, under one id; a configuration change loses nothing that waits;
an endpoint whose secret is missing keeps its events until the secret is there. Deliberately absent: ordering, filters on content,
transformations.
"""

import hashlib
import ipaddress
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from pillion.delivery.machine import Machine
from pillion.delivery.model import SECOND, DestinationName, Policy
from pillion.kinds.exchange import ConditionReport
from pillion.runtime.block import JSON, Block, BlockConfiguration, Context, Prepared, Refused, SecretMissing, Unready
from pillion.runtime.operation import HotOperation, Operation
from pillion.webhooks import routes
from pillion.webhooks.compiled import CompiledEndpoint
from pillion.webhooks.dialing import Dialer, Resolver, default_tls
from pillion.webhooks.egress import Address, Guard
from pillion.webhooks.engine import Router
from pillion.webhooks.events import timestamp
from pillion.webhooks.inspection import Inspection
from pillion.webhooks.intake import Publisher
from pillion.webhooks.metrics import WebhooksCollector
from pillion.webhooks.pool import Pool
from pillion.webhooks.sender import Route, WebhookSender, build_route
from pillion.webhooks.signing import SigningKey, read_keys
from pillion.webhooks.target import parse_target

KIND: Final = "WebhookEndpoint"

FAILING: Final = 300 * SECOND
"""Nanoseconds for which events wait and nothing succeeds before an endpoint counts as failing: a receiver that is deployed anew is back by then."""

GRACE: Final = 20.0
"""Seconds that attempts in flight get at the end: above the usual timeout of an attempt (15 s), below the usual grace period of a pod (30 s)."""


class WebhooksBlock:
    """The webhooks block of one sidecar.

    Args:
        context: what the runtime lends.
        dialer: opens connections; one with the system's resolver and authorities unless a test brings another.
        also_denied: addresses that are denied beside the special ones.
    """

    def __init__(
        self, context: Context, *, dialer: Dialer | None = None, also_denied: frozenset[Address] = frozenset()
    ) -> None:
        self._also_denied = also_denied
        self._clock = context.clock
        self._rotating: tuple[ConditionReport, ...] = ()
        self._resolver: Resolver | None = None
        if dialer is None:
            self._resolver = Resolver()
            dialer = Dialer(self._resolver, default_tls)
        self._pool = Pool(dialer)
        self._sender = WebhookSender(self._pool, context.clock)
        self._machine = Machine(
            name=context.block,
            path=context.data_dir / "deliveries.db",
            sender=self._sender,
            clock=context.clock,
            conditions=context.conditions,
            tasks=context.tasks,
        )
        self._publisher = Publisher(self._machine, context.clock)
        self._inspection = Inspection(self._machine)
        self._operations = routes.operations(self._publisher, self._inspection)
        context.metrics.register(
            WebhooksCollector(self._machine, lambda: self._publisher.unrouted, self._pool.statistics)
        )

    def operations(self) -> Sequence[Operation]:
        """Give the block's routes."""
        return self._operations

    def hot_operations(self) -> Sequence[HotOperation]:
        """None: an answer waits for the disk, so publishing is an operation with a shortcut."""
        return ()

    # Configuration

    async def prepare(self, configuration: BlockConfiguration) -> Prepared:
        """Build the endpoints that *configuration* asks for.

        Raises:
            Refused: a resource is not what this version compiles.
        """
        endpoints: dict[DestinationName, CompiledEndpoint] = {}
        policies: dict[DestinationName, Policy] = {}
        ready: dict[DestinationName, Route] = {}
        unready: list[Unready] = []
        rotating: list[ConditionReport] = []
        for text, resource in sorted(configuration.resources.get(KIND, {}).items()):
            name = DestinationName(text)
            try:
                endpoint = endpoints[name] = msgspec.convert(resource, CompiledEndpoint)
                target = parse_target(endpoint.url)
                guard = self._guard(endpoint)
            except (msgspec.ValidationError, ValueError) as error:
                raise Refused(f"{KIND} {name}: {error}") from None
            keys: tuple[SigningKey, ...] = ()
            problem = None
            try:
                keys = read_keys(configuration.secrets.value(*endpoint.secret))
            except SecretMissing as missing:
                problem = Unready(
                    kind=KIND,
                    name=name,
                    reason="SecretMissing",
                    message=f"spec.signing.secretRef: {missing}; events wait until it is there",
                )
            except ValueError as error:
                problem = Unready(
                    kind=KIND,
                    name=name,
                    reason="SecretInvalid",
                    message=f'spec.signing.secretRef: key "{endpoint.secret[1]}" of Secret "{endpoint.secret[0]}" {error}; events wait until then',
                )
            if problem is not None:
                unready.append(problem)
            rotating += _rotating(name, keys)
            ready[name] = build_route(endpoint, target, guard, keys)
            policies[name] = _policy(endpoint, hold=problem.message if problem else "")

        def commit() -> None:
            self._rotating = tuple(rotating)
            self._sender.replace(ready)
            self._machine.configure(policies)
            self._publisher.replace(Router(endpoints))
            self._inspection.replace(endpoints)

        return Prepared(commit=commit, unready=tuple(unready))

    def _guard(self, endpoint: CompiledEndpoint) -> Guard:
        return Guard(
            networks=tuple(ipaddress.ip_network(rule.cidr) for rule in endpoint.allow if rule.cidr),
            hosts=frozenset(rule.host for rule in endpoint.allow if rule.host),
            also_denied=self._also_denied,
        )

    # Life

    async def start(self) -> None:
        """Open the store and take up what waits in it.

        Raises:
            Unstartable: another process has the store, or a newer version wrote it.
        """
        await self._machine.open()

    async def drain(self) -> None:
        """Start no more attempts and let those in flight end."""
        await self._machine.drain(GRACE)

    async def stop(self) -> None:
        """Close the store and all connections."""
        await self._machine.stop()
        self._pool.close()
        if self._resolver is not None:
            self._resolver.close()

    # Introspection

    def statistics(self) -> JSON:
        """Give what the block is doing now."""
        return {
            "delivery": self._machine.statistics(),
            "connections": self._pool.statistics(),
            "unrouted": self._publisher.unrouted,
        }

    def observed(self) -> Mapping[tuple[str, str], Mapping[str, JSON]]:
        """Give figures per endpoint; the operator adds backlogs up and keeps the latest success."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for one in self._machine.destinations:
            if one.policy is not None:
                figures = found[KIND, one.name] = {"backlog": one.backlog}
                if one.last_success:
                    figures["lastSuccess"] = timestamp(one.last_success)[:19] + "Z"
        return found

    def reports(self) -> Iterator[ConditionReport]:
        """Name the endpoints that are disabled, that nothing reaches, and whose secrets rotate."""
        yield from self._rotating
        now = self._clock.wall_ns()
        for one in self._machine.destinations:
            if one.policy is None or one.policy.hold:
                continue  # gone, or said to be unready already
            if one.disabled:
                yield ConditionReport(
                    kind=KIND,
                    name=one.name,
                    type="Disabled",
                    reason="ReceiverWantsNoMore",
                    message=f"{one.disabled}; its events wait for 7 days: change spec.url, or enable it again with POST /v1/webhooks/endpoints/{one.name}:enable",
                    degrades=True,
                    stalls=True,
                )
            elif one.backlog and max(one.oldest, one.last_success) < now - FAILING and one.oldest:
                since = f"since {timestamp(one.last_success)[:19]}Z" if one.last_success else "so far"
                yield ConditionReport(
                    kind=KIND,
                    name=one.name,
                    reason="NothingDelivered",
                    message=f"events wait and no delivery has succeeded {since}; GET /v1/webhooks/attempts?endpoint={one.name} tells why",
                    degrades=True,
                )


def _rotating(name: str, keys: Sequence[SigningKey]) -> Iterator[ConditionReport]:
    if len(keys) > 1:
        message = f"{len(keys)} secrets sign each delivery; take the old ones out once the receiver knows the new one"
        yield ConditionReport(kind=KIND, name=name, type="SecretRotating", reason="SeveralSecrets", message=message)


def _policy(endpoint: CompiledEndpoint, *, hold: str) -> Policy:
    return Policy(
        schedule_ns=endpoint.schedule_ns,
        jitter_percent=endpoint.jitter_percent,
        respect_retry_after=endpoint.respect_retry_after,
        timeout_ns=endpoint.timeout_ns,
        concurrency=endpoint.concurrency,
        retain_succeeded_ns=endpoint.retain_succeeded_ns,
        retain_failed_ns=endpoint.retain_failed_ns,
        # A digest, because a URL may hold a token and this is stored.
        identity=hashlib.sha256(endpoint.url.encode()).hexdigest()[:32],
        hold=hold,
    )


def api_server_addresses(environment: Mapping[str, str]) -> frozenset[Address]:
    """Give the address of the cluster's API server, which the kubelet tells every container."""
    try:
        return frozenset({ipaddress.ip_address(environment.get("KUBERNETES_SERVICE_HOST", ""))})
    except ValueError:
        return frozenset()


def create(context: Context) -> Block:
    """Make the block."""
    return WebhooksBlock(context, also_denied=api_server_addresses(os.environ))
