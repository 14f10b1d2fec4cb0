"""Message ids: sortable by time, impossible to guess, safe in a signature and in a URL."""

from typing import Final

from pillion.delivery.model import MessageId

RANDOM_BYTES: Final = 10
"""80 bits: at a million messages in the same millisecond a collision has odds of one in a trillion."""


def make_message_id(wall_ns: int, entropy: bytes) -> MessageId:
    """Write `msg_`, 12 hexadecimal digits of the time in milliseconds, and 20 of *entropy* (exactly 10 bytes).

    Ascending ids keep the store's index growing at its end, which is what makes inserting them cheap.
    """
    return MessageId(f"msg_{wall_ns // 1_000_000 & 0xFFFF_FFFF_FFFF:012x}{entropy.hex()}")
