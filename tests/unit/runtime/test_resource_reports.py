"""What a sidecar says of its resources: conditions of the sidecar become reports about those that suffer, a block's own word goes first."""

from hypothesis import given
from hypothesis import strategies as st

from pillion.kinds.exchange import ConditionReport
from pillion.runtime.conditions import Condition
from pillion.runtime.resource_reports import reason_of, together

RESOURCES = {"webhooks": {"WebhookEndpoint": ["billing", "crm"]}, "logs": {}}


def wrong(name, message="make room"):
    return Condition(name, "fail", message, 0.0)


def about(reports):
    return [(one.kind, one.name, one.reason) for one in reports]


def test_a_full_store_concerns_the_blocks_resources_and_the_profile():
    assert about(together([], [wrong("webhooks: store full")], RESOURCES, "default")) == [
        ("SidecarProfile", "default", "StoreFull"),
        ("WebhookEndpoint", "", "StoreFull"),
    ]


def test_what_is_no_blocks_matter_concerns_the_profile():
    wrongs = [wrong("last-known-good"), wrong("logs:archive:lag")]

    assert about(together([], wrongs, RESOURCES, "default")) == [
        ("SidecarProfile", "default", "ArchiveLag"), ("SidecarProfile", "default", "LastKnownGood"),
    ]  # fmt: skip
    assert together([], wrongs, RESOURCES, "") == ()


def test_a_blocks_own_word_about_all_of_a_kind_goes_before_a_general_one():
    one = ConditionReport(kind="WebhookEndpoint", name="crm", reason="NothingDelivered", degrades=True)
    every = ConditionReport(kind="WebhookEndpoint", name="", reason="NoRoute", degrades=True)
    full = [wrong("webhooks: store full")]

    assert about(together([one], full, RESOURCES, "")) == [
        ("WebhookEndpoint", "", "StoreFull"), ("WebhookEndpoint", "crm", "NothingDelivered"),
    ]  # fmt: skip
    assert about(together([every], full, RESOURCES, "")) == [("WebhookEndpoint", "", "NoRoute")]


def test_a_block_without_resources_of_a_kind_tells_nothing_of_it():
    assert together([], [wrong("webhooks: store full")], {"webhooks": {"WebhookEndpoint": []}}, "") == ()


reports = st.builds(
    ConditionReport,
    kind=st.sampled_from(["A", "B"]),
    name=st.sampled_from(["x", "y"]),
    type=st.sampled_from(["", "T", "U"]),
    reason=st.sampled_from(["R", "S"]),
    degrades=st.booleans(),
)


@given(st.lists(reports), st.randoms())
def test_the_order_in_which_things_are_found_does_not_matter(own, chance):
    unique = list({(one.kind, one.name, one.type, one.reason): one for one in own}.values())
    shuffled = chance.sample(unique, len(unique))

    assert together(unique, [], {}, "") == together(shuffled, [], {}, "")


@given(st.text())
def test_every_name_gives_a_reason_that_the_api_takes(name):
    reason = reason_of(name)

    assert reason.isascii()
    assert reason.isalnum()
    assert reason[0].isalpha()
    assert len(reason) <= 128
