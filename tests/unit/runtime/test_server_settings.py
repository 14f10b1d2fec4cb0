"""Settings out of range are refused with name, value and range."""

import pytest

from pillion.runtime.server_settings import ServerSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"port": -1}, "port: -1 is not allowed (from 0 to 65535)"),
        ({"admin_port": 65536}, "admin_port: 65536 is not allowed (from 0 to 65535)"),
        ({"max_header_bytes": 100}, "max_header_bytes: 100 is not allowed (from 1024 to 65536)"),
        ({"max_headers": 1}, "max_headers: 1 is not allowed (from 8 to 1000)"),
        ({"backlog": 0}, "backlog: 0 is not allowed (from 1 to 65535)"),
        ({"keepalive_timeout": 0}, "keepalive_timeout: 0 is not allowed (more than 0 seconds)"),
        ({"body_timeout": float("nan")}, "body_timeout: nan is not allowed (more than 0 seconds)"),
        ({"split_timeout": -1}, "split_timeout: -1 is not allowed (more than 0 seconds)"),
        ({"socket_mode": 0o1777}, "socket_mode: 0o1777 is not allowed (permission bits, from 0o0 to 0o777)"),
        ({"grace_period": -1}, "grace_period: -1 is not allowed (at least 0 seconds)"),
        (
            {"socket_path": "/" + "x" * 107},
            f"socket_path: {'/' + 'x' * 107!r} is longer than 107 bytes, which is all a unix socket allows",
        ),
        (
            {"allowed_hosts": ("http://x",)},
            "allowed_hosts: 'http://x' is no host name; write it without scheme, port and path",
        ),
    ],
)
def test_a_setting_out_of_range_is_refused(settings, message):
    with pytest.raises(ValueError) as refusal:
        ServerSettings(**settings)
    assert str(refusal.value) == message


def test_the_defaults_are_those_of_the_design():
    settings = ServerSettings()
    assert (settings.host, settings.port, settings.admin_host, settings.admin_port) == (
        "127.0.0.1",
        3700,
        "::",
        3790,
    )
