"""Manifests that must be refused, and what the refusal must say.

`by` tells who can see the mistake: `schema` means that the API server itself refuses it (structural schema or CEL), `meaning` means that it
takes our own checks (`pillion lint`, the operator). Both print a message with the field's path, and lint adds the fix.
"""

import json
from typing import Literal, NamedTuple


class Bad(NamedTuple):
    """One bad manifest: its kind, its spec as YAML, and the refusal's path and words."""

    name: str
    kind: str
    spec: str
    path: str
    says: tuple[str, ...]
    by: Literal["schema", "meaning"] = "schema"

    @property
    def text(self) -> str:
        """The whole manifest."""
        body = "\n".join(f"  {line}" for line in self.spec.strip().splitlines())
        return f"apiVersion: pillion.dev/v1alpha1\nkind: {self.kind}\nmetadata:\n  name: {self.name}\nspec:\n{body}\n"


def _limit(name: str, spec: str, path: str, *says: str, by: Literal["schema", "meaning"] = "schema") -> Bad:
    return Bad(f"limit-{name}", "RateLimitPolicy", spec, path, says, by)


def _hook(name: str, spec: str, path: str, *says: str, by: Literal["schema", "meaning"] = "schema") -> Bad:
    base = {
        "url": "url: https://hooks.example.com/in",
        "signing": "signing: {scheme: standard, secretRef: {name: hook, key: secret}}",
    }
    lines = [line for field, line in base.items() if not any(own.startswith(f"{field}:") for own in spec.splitlines())]
    return Bad(f"hook-{name}", "WebhookEndpoint", "\n".join([*lines, spec]), path, says, by)


def _mail(name: str, spec: str, path: str, *says: str, by: Literal["schema", "meaning"] = "schema") -> Bad:
    return Bad(f"mail-{name}", "NotificationTemplate", spec, path, says, by)


def _flag(name: str, spec: str, path: str, *says: str, by: Literal["schema", "meaning"] = "schema") -> Bad:
    return Bad(f"flag-{name}", "FeatureFlag", spec, path, says, by)


def _profile(name: str, spec: str, path: str, *says: str, by: Literal["schema", "meaning"] = "schema") -> Bad:
    return Bad(f"profile-{name}", "SidecarProfile", spec, path, says, by)


_VARIABLES = (
    "variables: {type: object, required: [name], properties: {name: {type: string, maxLength: 40}}}\ndefaultLocale: en"
)


def _content(subject: str = "Hi", text: str = "Hello", *, html: str = "", locale: str = "en") -> str:
    page = f", html: {json.dumps(html)}" if html else ""
    return f"{_VARIABLES}\nchannels: {{email: {{content: {{{locale}: {{subject: {json.dumps(subject)}, text: {json.dumps(text)}{page}}}}}}}}}"


BAD: tuple[Bad, ...] = (
    # RateLimitPolicy
    _limit("no-rules", "rules: []", "spec.rules", "at least 1"),
    _limit("missing-rules", "suspend: false", "spec.rules", "missing"),
    _limit(
        "requests-zero",
        "rules: [{name: a, limits: [{requests: 0, per: 1m}]}]",
        "spec.rules[0].limits[0].requests",
        "0",
        "minimum",
    ),
    _limit(
        "requests-text",
        "rules: [{name: a, limits: [{requests: '5', per: 1m}]}]",
        "spec.rules[0].limits[0].requests",
        "remove the quotes",
    ),
    _limit(
        "requests-fraction",
        "rules: [{name: a, limits: [{requests: 1.5, per: 1m}]}]",
        "spec.rules[0].limits[0].requests",
        "1.5",
        "whole number",
    ),
    _limit(
        "per-word", "rules: [{name: a, limits: [{requests: 5, per: minute}]}]", "spec.rules[0].limits[0].per", "minute"
    ),
    _limit(
        "per-zero",
        "rules: [{name: a, limits: [{requests: 5, per: 0s}]}]",
        "spec.rules[0].limits[0].per",
        "0s",
        by="meaning",
    ),
    _limit("no-limits", "rules: [{name: a, limits: []}]", "spec.rules[0].limits", "at least 1"),
    _limit(
        "negative-burst",
        "rules: [{name: a, limits: [{requests: 5, per: 1m, burst: -1}]}]",
        "spec.rules[0].limits[0].burst",
        "-1",
    ),
    _limit(
        "algorithm",
        "rules: [{name: a, limits: [{requests: 5, per: 1m, algorithm: gcraa}]}]",
        "spec.rules[0].limits[0].algorithm",
        'did you mean "gcra"',
    ),
    _limit(
        "two-matchers",
        "rules: [{name: a, match: [{attribute: r, exact: a, prefix: b}], limits: [{requests: 5, per: 1m}]}]",
        "spec.rules[0].match[0]",
        "exactly one",
    ),
    _limit(
        "no-matcher",
        "rules: [{name: a, match: [{attribute: r}], limits: [{requests: 5, per: 1m}]}]",
        "spec.rules[0].match[0]",
        "exactly one",
    ),
    _limit(
        "bad-cidr",
        "rules: [{name: a, match: [{attribute: ip, cidr: 10.0.0.0/33}], limits: [{requests: 5, per: 1m}]}]",
        "spec.rules[0].match[0].cidr",
        "10.0.0.0/33",
        by="meaning",
    ),
    _limit(
        "same-name",
        "rules: [{name: a, limits: [{requests: 5, per: 1m}]}, {name: a, limits: [{requests: 5, per: 1m}]}]",
        "spec.rules[1]",
        "twice",
    ),
    _limit(
        "unknown-field",
        "rules: [{name: a, limit: [{requests: 5, per: 1m}], limits: [{requests: 5, per: 1m}]}]",
        "spec.rules[0].limit",
        'did you mean "limits"',
    ),
    _limit(
        "ipv6-prefix",
        "rules: [{name: a, key: [{attribute: ip, ipv6Prefix: 129}], limits: [{requests: 5, per: 1m}]}]",
        "spec.rules[0].key[0]",
        "128",
        by="meaning",
    ),
    _limit(
        "deny-cidr",
        "deny: [{attribute: ip, cidr: nowhere}]\nrules: [{name: a, limits: [{requests: 5, per: 1m}]}]",
        "spec.deny[0].cidr",
        "nowhere",
        by="meaning",
    ),
    # WebhookEndpoint
    _hook("no-url", "url: ''", "spec.url", ""),
    _hook("ftp", "url: ftp://example.com/x", "spec.url", "ftp"),
    _hook("url-credentials", "url: https://user:pass@example.com/x", "spec.url", "user or password"),
    _hook("url-no-host", "url: https:///x", "spec.url", "host", by="meaning"),
    _hook("url-port", "url: https://example.com:99999/x", "spec.url", "port", by="meaning"),
    _hook("scheme", "signing: {scheme: hmac, secretRef: {name: hook, key: secret}}", "spec.signing.scheme", "standard"),
    _hook("no-key", "signing: {scheme: standard, secretRef: {name: hook}}", "spec.signing.secretRef.key", "missing"),
    _hook(
        "secret-inline",
        "signing: {scheme: standard, secret: whsec_abc, secretRef: {name: hook, key: secret}}",
        "spec.signing.secret",
        "no field",
    ),
    _hook("schedule-long", f"retry: {{schedule: [{', '.join(['5s'] * 99)}]}}", "spec.retry.schedule", "at most"),
    _hook("schedule-word", "retry: {schedule: [soon]}", "spec.retry.schedule[0]", "soon"),
    _hook("schedule-endless", "retry: {schedule: [400d]}", "spec.retry.schedule[0]", "400d", by="meaning"),
    _hook("jitter", "retry: {schedule: [5s], jitter: 150%}", "spec.retry.jitter", "150%"),
    _hook("timeout-long", "timeout: 1h", "spec.timeout", "1h", by="meaning"),
    _hook("timeout-number", "timeout: 15", "spec.timeout", "15", "quote"),
    _hook("concurrency-zero", "concurrency: {max: 0}", "spec.concurrency.max", "0"),
    _hook("events-empty", "events: []", "spec.events", "at least 1"),
    _hook("event-pattern", "events: ['order.*.*x']", "spec.events[0]", "order"),
    _hook("header-newline", 'headers: {X-A: "a\\r\\nX-B: b"}', 'spec.headers["X-A"]', "X-B"),
    _hook("header-reserved", "headers: {webhook-id: a}", "spec.headers", "webhook-id", by="meaning"),
    _hook(
        "egress-cidr",
        "egress: {allow: [{cidr: 10.0.0.0/33}]}",
        "spec.egress.allow[0].cidr",
        "10.0.0.0/33",
        by="meaning",
    ),
    _hook("retention", "retention: {succeeded: forever}", "spec.retention.succeeded", "forever"),
    # NotificationTemplate
    _mail("no-channels", f"{_VARIABLES}\nchannels: {{}}", "spec.channels", ""),
    _mail(
        "no-content",
        f"{_VARIABLES}\nchannels: {{email: {{content: {{}}}}}}",
        "spec.channels.email.content",
        "at least 1",
    ),
    _mail(
        "undeclared",
        _content(text="Hi {{ nam }}"),
        "spec.channels.email.content.en.text",
        'did you mean "name"',
        by="meaning",
    ),
    _mail(
        "undeclared-subject",
        _content(subject="Order {{ order.id }}"),
        "spec.channels.email.content.en.subject",
        "order",
        by="meaning",
    ),
    _mail("syntax", _content(text="Hi {{ name "), "spec.channels.email.content.en.text", "", by="meaning"),
    _mail(
        "unknown-filter",
        _content(text="Hi {{ name | shout }}"),
        "spec.channels.email.content.en.text",
        "shout",
        by="meaning",
    ),
    _mail(
        "include", _content(text="{% include 'x' %}"), "spec.channels.email.content.en.text", "include", by="meaning"
    ),
    _mail(
        "escape-sandbox",
        _content(text="{{ name.__class__.__mro__ }}"),
        "spec.channels.email.content.en.text",
        "__class__",
        by="meaning",
    ),
    _mail("subject-newline", _content(subject="a\nb"), "spec.channels.email.content.en.subject", "line", by="meaning"),
    _mail("no-default-locale", _content(locale="de"), "spec.defaultLocale", "en"),
    _mail(
        "locale",
        _content(locale="en").replace("defaultLocale: en", "defaultLocale: english_please"),
        "spec.defaultLocale",
        "english_please",
    ),
    _mail(
        "schema-type",
        "variables: {type: objet}\ndefaultLocale: en\nchannels: {email: {content: {en: {subject: a, text: b}}}}",
        "spec.variables",
        "objet",
        by="meaning",
    ),
    _mail(
        "no-subject",
        f"{_VARIABLES}\nchannels: {{email: {{content: {{en: {{text: b}}}}}}}}",
        "spec.channels.email.content.en.subject",
        "missing",
    ),
    _mail(
        "channel",
        f"{_VARIABLES}\nchannels: {{mail: {{content: {{en: {{subject: a, text: b}}}}}}}}",
        "spec.channels.mail",
        'did you mean "email"',
    ),
    # FeatureFlag
    _flag("no-variants", 'state: ENABLED\nvariants: {}\ndefaultVariant: "on"', "spec.variants", "at least 1"),
    _flag("state", 'state: ON\nvariants: {"on": true}\ndefaultVariant: "on"', "spec.state", ""),
    _flag(
        "state-word",
        'state: ENABLE\nvariants: {"on": true}\ndefaultVariant: "on"',
        "spec.state",
        "ENABLE",
        'did you mean "ENABLED"',
    ),
    _flag(
        "default-unknown",
        'state: ENABLED\nvariants: {"on": true, "off": false}\ndefaultVariant: "offf"',
        "spec.defaultVariant",
        'did you mean "off"',
        by="meaning",
    ),
    _flag(
        "unquoted",
        'state: ENABLED\nvariants: {on: true, off: false}\ndefaultVariant: "on"',
        "spec.variants",
        "quote",
        by="meaning",
    ),
    _flag(
        "unquoted-default", 'state: ENABLED\nvariants: {"on": true}\ndefaultVariant: on', "spec.defaultVariant", "quote"
    ),
    _flag(
        "mixed",
        'state: ENABLED\nvariants: {"on": true, "off": "no"}\ndefaultVariant: "on"',
        "spec.variants",
        "type",
        by="meaning",
    ),
    _flag(
        "branch",
        'state: ENABLED\nvariants: {"on": true}\ndefaultVariant: "on"\ntargeting: {if: [{"==": [{var: a}, 1]}, "onn", "on"]}',
        "spec.targeting.if[1]",
        'did you mean "on"',
        by="meaning",
    ),
    _flag(
        "operator",
        'state: ENABLED\nvariants: {"on": true}\ndefaultVariant: "on"\ntargeting: {end_with: [{var: a}, "x"]}',
        "spec.targeting",
        'did you mean "ends_with"',
        by="meaning",
    ),
    _flag(
        "weight",
        'state: ENABLED\nvariants: {"on": true}\ndefaultVariant: "on"\ntargeting: {fractional: [["on", 12.5]]}',
        "spec.targeting.fractional[0][1]",
        "12.5",
        by="meaning",
    ),
    _flag(
        "fraction-variant",
        'state: ENABLED\nvariants: {"on": true}\ndefaultVariant: "on"\ntargeting: {fractional: [["no", 50], ["on", 50]]}',
        "spec.targeting.fractional[0][0]",
        "no",
        by="meaning",
    ),
    _flag(
        "sem-ver",
        'state: ENABLED\nvariants: {"on": true}\ndefaultVariant: "on"\ntargeting: {if: [{sem_ver: [{var: v}, "=>", "1.0.0"]}, "on"]}',
        "spec.targeting.if[0].sem_ver[1]",
        "=>",
        by="meaning",
    ),
    _flag(
        "metadata",
        'state: ENABLED\nvariants: {"on": true}\ndefaultVariant: "on"\nmetadata: {team: [a]}',
        "spec.metadata",
        "team",
        by="meaning",
    ),
    # SidecarProfile
    _profile("block", "blocks: [ratelimits]", "spec.blocks[0]", 'did you mean "ratelimit"', by="meaning"),
    _profile("blocks-empty", "blocks: []", "spec.blocks", "at least 1"),
    _profile("check-none", "health: {checks: [{name: db}]}", "spec.health.checks[0]", "exactly one"),
    _profile(
        "check-two",
        "health: {checks: [{name: db, tcp: {address: 'db:1'}, http: {url: 'http://x/'}}]}",
        "spec.health.checks[0]",
        "exactly one",
    ),
    _profile(
        "check-address", "health: {checks: [{name: db, tcp: {address: db}}]}", "spec.health.checks[0].tcp.address", "db"
    ),
    _profile(
        "check-interval",
        "health: {checks: [{name: db, tcp: {address: 'db:1'}, interval: 1ms}]}",
        "spec.health.checks[0].interval",
        "1ms",
        by="meaning",
    ),
    _profile(
        "check-timeout",
        "health: {checks: [{name: db, tcp: {address: 'db:1'}, interval: 1s, timeout: 5s}]}",
        "spec.health.checks[0].timeout",
        "interval",
        by="meaning",
    ),
    _profile(
        "check-twice",
        "health: {checks: [{name: db, tcp: {address: 'db:1'}}, {name: db, tcp: {address: 'db:2'}}]}",
        "spec.health.checks[1]",
        "twice",
    ),
    _profile(
        "mask",
        "logs: {sources: [{name: a, files: [/var/log/a.log]}], mask: [emial], sinks: [{name: s, file: {path: /tmp/x}}]}",
        "spec.logs.mask[0]",
        'did you mean "email"',
        by="meaning",
    ),
    _profile(
        "mask-pattern",
        "logs: {sources: [{name: a, files: [/var/log/a.log]}], mask: [{name: b, pattern: '('}], sinks: [{name: s, file: {path: /tmp/x}}]}",
        "spec.logs.mask[0].pattern",
        "(",
        by="meaning",
    ),
    _profile(
        "sink-none",
        "logs: {sources: [{name: a, files: [/var/log/a.log]}], sinks: [{name: s}]}",
        "spec.logs.sinks[0]",
        "exactly one",
    ),
    _profile(
        "sink-url",
        "logs: {sources: [{name: a, files: [/var/log/a.log]}], sinks: [{name: s, http: {url: 'loki:3100'}}]}",
        "spec.logs.sinks[0].http.url",
        "loki:3100",
    ),
    _profile(
        "smtp-port",
        "notifications: {email: {smtp: {host: mail, port: 70000}, from: 'a@example.com'}}",
        "spec.notifications.email.smtp.port",
        "70000",
    ),
    _profile(
        "from",
        "notifications: {email: {smtp: {host: mail, port: 25}, from: nobody}}",
        "spec.notifications.email.from",
        "nobody",
        by="meaning",
    ),
    _profile(
        "selector",
        "selector: {matchExpressions: [{key: app, operator: In}]}",
        "spec.selector.matchExpressions[0].values",
        "values",
    ),
    _profile("auth", "auth: {token: abc}", "spec.auth.token", ""),
)
