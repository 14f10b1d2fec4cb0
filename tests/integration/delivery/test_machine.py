"""The delivery machine over a real SQLite file, its time set by hand."""

import asyncio

import pytest
from tests.support.deliveries import START, Bench, bench

from pillion.delivery import commit, dispatcher, intake, reader, recorder, upkeep
from pillion.delivery.failures import IdConflict, InFlight, Overloaded, StoreUnavailable, UnknownDelivery
from pillion.delivery.model import (
    DAY,
    SECOND,
    AttemptQuery,
    Delivered,
    DisableDestination,
    Policy,
    Query,
    Rejected,
    Retry,
)

DOWN = Retry(reason="503 Service Unavailable", status=503, excerpt=b"sorry")


async def test_what_is_accepted_is_sent_once_and_recorded(tmp_path):
    async with bench(tmp_path, {"a": Policy(), "b": Policy()}) as b:
        receipt = await b.accept("a", "b", body=b"\xff\x00raw", attributes={"k": "v"})
        await b.settled()
        sent = {d.destination: (m, n) for m, d, n in b.sender.sent}
        assert sorted(sent) == ["a", "b"]
        message, number = sent["a"]
        assert (message.id, message.body, message.attributes, number) == (receipt.id, b"\xff\x00raw", {"k": "v"}, 1)
        assert receipt.deliveries == 2
        assert await b.states() == {f"{receipt.id}~a": "succeeded", f"{receipt.id}~b": "succeeded"}
        (attempt,) = await b.machine.attempts(f"{receipt.id}~a")
        assert (attempt.number, attempt.outcome, attempt.status, attempt.started_ns) == (1, "delivered", 204, START)
        assert await b.machine.message(receipt.id) == message
        assert b.status("a").last_success_ns == START


async def test_a_failure_is_tried_again_by_schedule_with_the_same_id_and_bytes(tmp_path):
    async with bench(tmp_path, {"a": Policy(schedule_ns=(5 * SECOND, 60 * SECOND))}) as b:
        b.sender.script["a"] = [DOWN, DOWN]
        receipt = await b.accept("a", body=b"once")
        await b.settled()
        assert b.status("a").retries == 1
        await b.pass_time(5 * SECOND - 1)
        await b.settled()
        assert len(b.sender.sent) == 1
        await b.pass_time(1)
        await b.until(lambda: len(b.sender.sent) == 2)
        await b.settled()
        pending = await b.machine.delivery(f"{receipt.id}~a")
        assert (pending.state, pending.attempts, pending.reason) == ("pending", 2, "503 Service Unavailable")
        assert pending.due_ns == START + 65 * SECOND
        await b.pass_time(60 * SECOND)
        await b.until(lambda: len(b.sender.sent) == 3)
        await b.settled()
        assert [(m.id, m.body, n) for m, _, n in b.sender.sent] == [(receipt.id, b"once", n) for n in (1, 2, 3)]
        attempts = await b.machine.attempts(f"{receipt.id}~a")
        assert [(a.number, a.outcome, a.status, a.excerpt) for a in attempts] == [
            (3, "delivered", 204, b""),
            (2, "retry", 503, b"sorry"),
            (1, "retry", 503, b"sorry"),
        ]


async def test_an_exhausted_schedule_ends_as_a_dead_letter_that_can_be_retried_by_hand(tmp_path):
    async with bench(tmp_path, {"a": Policy(schedule_ns=(SECOND,))}) as b:
        b.sender.script["a"] = [DOWN, DOWN]
        receipt = await b.accept("a")
        await b.settled()
        await b.pass_time(SECOND)
        await b.until(lambda: b.status("a").failed == 1)
        dead = await b.machine.delivery(f"{receipt.id}~a")
        assert (dead.state, dead.reason) == ("failed", "503 Service Unavailable; gave up after 2 attempts")
        assert b.status("a").backlog == 0
        again = await b.machine.retry(dead.id)
        assert again.state == "pending"
        await b.until(lambda: len(b.sender.sent) == 3)
        await b.settled()
        assert (await b.machine.delivery(dead.id)).state == "succeeded"
        assert b.sender.sent[-1][2] == 3
        assert b.status("a").backlog == 0


async def test_a_retry_by_hand_replaces_the_scheduled_one(tmp_path):
    async with bench(tmp_path, {"a": Policy(schedule_ns=(3600 * SECOND,))}) as b:
        b.sender.script["a"] = [DOWN]
        receipt = await b.accept("a")
        await b.settled()
        await b.machine.retry(f"{receipt.id}~a")
        await b.until(lambda: len(b.sender.sent) == 2)
        await b.settled()
        await b.pass_time(3600 * SECOND)
        await b.settled()
        assert len(b.sender.sent) == 2


async def test_retry_after_pauses_the_whole_destination_and_nobody_else_even_over_a_restart(tmp_path):
    policies = {"a": Policy(schedule_ns=(SECOND,)), "b": Policy()}
    async with bench(tmp_path, policies) as b:
        b.sender.script["a"] = [Retry(reason="429", retry_after_ns=100 * SECOND)]
        await b.accept("a")
        await b.settled()
        assert b.status("a").paused_until_ns == START + 100 * SECOND
        await b.accept("a", "b")
        await b.until(lambda: b.sender.ids("b") != [])
        await b.pass_time(50 * SECOND)
        await b.restart()
        await b.accept("a")
        assert b.sender.ids("a") == []
        await b.pass_time(50 * SECOND)
        await b.until(lambda: len(b.sender.ids("a")) == 3)


async def test_a_destination_that_wants_no_more_is_disabled_until_enabled_or_changed(tmp_path):
    async with bench(tmp_path, {"a": Policy(identity="https://one")}) as b:
        b.sender.script["a"] = [DisableDestination(reason="410 Gone", status=410)]
        first = await b.accept("a")
        await b.settled()
        assert b.status("a").disabled == "410 Gone"
        assert (await b.machine.delivery(f"{first.id}~a")).state == "failed"
        second = await b.accept("a")
        await b.restart()
        assert b.status("a").disabled == "410 Gone"
        assert await b.machine.enable("a")
        assert not await b.machine.enable("a")
        await b.until(lambda: b.sender.ids() == [second.id])

        b.sender.script["a"] = [DisableDestination(reason="410 Gone")]
        await b.accept("a")
        await b.until(lambda: b.status("a").disabled != "")
        third = await b.accept("a")
        b.machine.configure({"a": Policy(identity="https://two")})
        await b.until(lambda: b.sender.ids()[-1] == third.id)
        await b.restart({"a": Policy(identity="https://two")})
        assert b.status("a").disabled == ""


async def test_a_rejection_is_final(tmp_path):
    async with bench(tmp_path, {"a": Policy()}) as b:
        b.sender.script["a"] = [Rejected(reason="415 Unsupported Media Type", status=415)]
        receipt = await b.accept("a")
        await b.settled()
        assert (await b.machine.delivery(f"{receipt.id}~a")).reason == "415 Unsupported Media Type"


async def test_the_same_id_is_accepted_once(tmp_path):
    async with bench(tmp_path, {"a": Policy()}) as b:
        one = await b.accept("a", id="order-1", fingerprint=b"x")
        two = await b.accept("a", id="order-1", fingerprint=b"x")
        gone = await b.accept(id="order-1", fingerprint=b"x")
        await b.settled()
        assert (one.deliveries, one.repeated) == (1, False)
        assert two.repeated
        assert (gone.repeated, gone.deliveries) == (True, 1)
        assert b.sender.ids() == ["order-1"]
        with pytest.raises(IdConflict, match="order-1"):
            await b.accept("a", id="order-1", fingerprint=b"other")
        await b.restart()
        assert (await b.accept("a", id="order-1", fingerprint=b"x")).repeated
        assert (b.machine.statistics().repeated, b.machine.statistics().accepted) == (1, 0)


async def test_a_batch_is_taken_whole_or_not_at_all(tmp_path):
    async with bench(tmp_path, {"a": Policy()}) as b:
        await b.accept("a", id="one", fingerprint=b"1")
        batch = [b.submission("a", id="two", fingerprint=b"2"), b.submission("a", id="one", fingerprint=b"X")]
        with pytest.raises(IdConflict):
            await b.machine.accept(batch)
        within = [b.submission("a", id="two", fingerprint=b"2"), b.submission("a", id="two", fingerprint=b"3")]
        with pytest.raises(IdConflict):
            await b.machine.accept(within)
        assert await b.machine.message("two") is None
        receipts = await b.machine.accept([batch[0], batch[0], b.submission("a")])
        assert [r.repeated for r in receipts] == [False, True, False]


async def test_concurrent_acceptances_of_one_id_make_one_message(tmp_path):
    async with bench(tmp_path, {"a": Policy()}) as b:
        receipts = await asyncio.gather(*(b.accept("a", id="one", fingerprint=b"1") for _ in range(20)))
        await b.settled()
        assert sum(not r.repeated for r in receipts) == 1
        assert b.sender.ids() == ["one"]


async def test_a_generated_id_that_was_used_hurts_only_its_own_caller(tmp_path):
    async with bench(tmp_path, {"a": Policy()}) as b:
        await b.accept("a", id="one")
        results = await asyncio.gather(
            b.accept("a", id="one"), *(b.accept("a") for _ in range(10)), return_exceptions=True
        )
        assert isinstance(results[0], StoreUnavailable)
        assert all(not isinstance(r, Exception) for r in results[1:])


async def test_what_comes_in_one_turn_of_the_event_loop_is_one_commit(tmp_path):
    async with bench(tmp_path, {"a": Policy(hold="SecretMissing")}) as b:
        await b.accept("a")
        before = b.machine.statistics().commits
        await asyncio.gather(*(b.accept("a") for _ in range(100)))
        assert b.machine.statistics().commits == before + 1


async def test_a_caller_that_fails_when_it_is_told_hurts_nobody_else(tmp_path):
    async with bench(tmp_path, {"a": Policy(hold="SecretMissing")}) as b:
        told = []

        def failing(outcome):
            told.append(outcome)
            raise RuntimeError("no")

        b.machine.submit([b.submission("a")], failing)
        assert not told
        await b.accept("a")
        b.machine.submit([b.submission("a"), b.submission("a")], told.append)
        await b.until(lambda: len(told) == 2)
        assert [len(receipts) for receipts in told] == [1, 2]
        status = b.machine.statistics()
        assert (status.accepted, status.waiting) == (4, 0)


async def test_a_message_for_nobody_is_not_stored(tmp_path):
    async with bench(tmp_path, {}) as b:
        receipt = await b.accept()
        assert (receipt.deliveries, receipt.repeated) == (0, False)
        assert await b.machine.message(receipt.id) is None


async def test_nothing_is_attempted_before_its_time(tmp_path):
    async with bench(tmp_path, {"a": Policy()}) as b:
        await b.accept("a", not_before_ns=START + 10 * SECOND)
        await b.accept("a")
        await b.settled()
        assert len(b.sender.sent) == 1
        await b.pass_time(10 * SECOND)
        await b.until(lambda: len(b.sender.sent) == 2)


async def test_a_backlog_far_beyond_the_window_is_worked_off_in_bounded_memory(tmp_path):
    async with bench(tmp_path, {"a": Policy(concurrency=8), "b": Policy(hold="SecretMissing")}) as b:
        b.sender.gate.clear()
        for _ in range(30):
            await b.machine.accept([b.submission("a", "b", body=b"x" * 1000) for _ in range(100)])
        assert b.machine.statistics().in_memory <= 256 + 8
        assert b.sender.most_flying == 8
        b.sender.gate.set()
        most = 0

        def done():
            nonlocal most
            most = max(most, b.machine.statistics().in_memory)
            return b.status("a").succeeded == 3000

        await b.until(done)
        assert most <= 256 + 8 + recorder.UNRECORDED
        assert len(set(b.sender.ids())) == len(b.sender.ids()) == 3000
        assert b.status("b").backlog == 3000
        b.machine.configure({"a": Policy(), "b": Policy()})
        await b.until(lambda: b.status("b").succeeded == 3000)
        await b.settled()
        assert len(b.sender.ids("b")) == 3000


async def test_one_destination_that_hangs_holds_up_no_other(tmp_path):
    policies = {f"hang-{n}": Policy(concurrency=16) for n in range(5)} | {"good": Policy(concurrency=2)}
    async with bench(tmp_path, policies) as b:
        b.sender.gate.clear()
        for _ in range(20):
            await b.accept(*(f"hang-{n}" for n in range(5)))
        await b.until(lambda: b.sender.flying == 80)
        b.sender.open.add("good")
        for _ in range(50):
            await b.accept("good")
        await b.until(lambda: b.status("good").succeeded == 50)
        b.sender.gate.set()


async def test_a_restart_attempts_again_what_was_in_flight_and_nothing_that_was_recorded(tmp_path):
    async with bench(tmp_path, {"a": Policy(concurrency=2)}) as b:
        done = await b.accept("a")
        await b.settled()
        b.sender.gate.clear()
        ids = [(await b.accept("a")).id for _ in range(5)]
        await b.until(lambda: b.sender.flying == 2)
        page = await b.machine.deliveries(Query(state="in-flight"))
        assert {d.message for d in page.deliveries} == set(ids[:2])
        await b.close()
        b.sender.gate.set()
        assert b.sender.flying == 0
        await b.restart()
        await b.until(lambda: b.status("a").succeeded == 5)
        assert sorted(b.sender.ids()) == sorted(ids)
        assert done.id not in b.sender.ids()


async def test_draining_delivers_what_is_due_and_starts_nothing_afterwards(tmp_path):
    """The disk goes with the pod: what can be delivered before that is."""
    async with bench(tmp_path, {"a": Policy(concurrency=1)}) as b:
        b.sender.gate.clear()
        early = [(await b.accept("a")).id for _ in range(300)]  # more than fits into memory
        await b.until(lambda: b.sender.flying == 1)
        drain = asyncio.create_task(b.machine.drain(20))
        await asyncio.sleep(0)
        early.append((await b.accept("a")).id)
        b.sender.gate.set()
        await drain
        assert sorted(b.sender.ids()) == sorted(early)
        late = await b.accept("a")
        await b.restart()
        await b.until(lambda: b.status("a").succeeded == 1)
        assert b.sender.ids() == [late.id]


async def test_draining_waits_for_no_retry_that_is_far_away(tmp_path):
    async with bench(tmp_path, {"a": Policy(schedule_ns=(60 * SECOND,))}) as b:
        b.sender.script["a"] = [Retry(reason="not now")]
        await b.accept("a")
        await b.until(lambda: b.status("a").retries == 1)
        async with asyncio.timeout(5):
            await b.machine.drain(20)
        assert len(b.sender.sent) == 1


async def test_draining_sits_out_a_short_pause(tmp_path):
    async with bench(tmp_path, {"a": Policy(schedule_ns=(5 * SECOND,))}) as b:
        b.sender.script["a"] = [Retry(reason="not now")]
        await b.accept("a")
        await b.until(lambda: b.status("a").retries == 1)
        drain = asyncio.create_task(b.machine.drain(20))
        await asyncio.sleep(0)
        assert not drain.done()
        await b.pass_time(5 * SECOND)
        await drain
        assert len(b.sender.sent) == 2


async def test_draining_ends_with_its_grace_whatever_is_left(tmp_path):
    async with bench(tmp_path, {"a": Policy()}) as b:
        b.sender.gate.clear()
        await b.accept("a")
        await b.until(lambda: b.sender.flying == 1)
        await b.machine.drain(0.05)
        b.sender.gate.set()


async def test_a_closed_machine_accepts_nothing(tmp_path):
    b = Bench(tmp_path, {"a": Policy()})
    with pytest.raises(StoreUnavailable, match="not open"):
        await b.accept("a")
    await b.open()
    await b.close()
    with pytest.raises(StoreUnavailable, match="not open"):
        await b.accept("a")


async def test_what_is_in_flight_can_be_neither_retried_nor_cancelled(tmp_path):
    async with bench(tmp_path, {"a": Policy(concurrency=1)}) as b:
        b.sender.gate.clear()
        first = await b.accept("a")
        second = await b.accept("a")
        await b.until(lambda: b.sender.flying == 1)
        with pytest.raises(InFlight):
            await b.machine.retry(f"{first.id}~a")
        with pytest.raises(InFlight):
            await b.machine.cancel(f"{first.id}~a", "no")
        cancelled = await b.machine.cancel(f"{second.id}~a", "no longer wanted")
        assert (cancelled.state, cancelled.reason) == ("cancelled", "no longer wanted")
        b.sender.gate.set()
        await b.settled()
        assert b.sender.ids() == [first.id]
        assert await b.states() == {f"{first.id}~a": "succeeded", f"{second.id}~a": "cancelled"}
        assert (await b.machine.cancel(f"{first.id}~a", "late")).state == "succeeded"
        assert b.status("a").backlog == 0
        for wanted in ("nothing", "msg_1~a", f"{first.id}~b", "~"):
            with pytest.raises(UnknownDelivery):
                await b.machine.retry(wanted)


async def test_a_cancelled_retry_never_comes_back(tmp_path):
    async with bench(tmp_path, {"a": Policy(schedule_ns=(SECOND,))}) as b:
        b.sender.script["a"] = [DOWN]
        receipt = await b.accept("a")
        await b.settled()
        await b.machine.cancel(f"{receipt.id}~a", "stop")
        await b.pass_time(DAY)
        await b.settled()
        assert len(b.sender.sent) == 1


async def test_settled_deliveries_are_forgotten_after_their_retention_with_message_and_attempts(tmp_path):
    policies = {
        "a": Policy(retain_succeeded_ns=10 * SECOND),
        "b": Policy(schedule_ns=(), retain_failed_ns=100 * SECOND),
    }
    async with bench(tmp_path, policies) as b:
        b.sender.script["b"] = [DOWN]
        receipt = await b.accept("a", "b", id="x", fingerprint=b"1")
        await b.settled()
        await b.pass_time(10 * SECOND)
        await b.machine.tidy()
        assert await b.states() == {"x~b": "failed"}
        assert await b.machine.attempts(f"{receipt.id}~a") == ()
        assert await b.machine.message("x") is not None
        await b.pass_time(90 * SECOND)
        await b.machine.tidy()
        assert await b.states() == {}
        assert await b.machine.message("x") is None
        assert not (await b.accept("a", id="x", fingerprint=b"2")).repeated


async def test_deliveries_of_a_destination_that_is_gone_wait_for_its_return_then_are_cancelled(tmp_path):
    async with bench(tmp_path, {"a": Policy(hold="SecretMissing")}) as b:
        waits = await b.accept("a")
        b.machine.configure({})
        await b.pass_time(6 * DAY)
        await b.machine.tidy()
        assert await b.states() == {f"{waits.id}~a": "pending"}
        await b.restart({})
        assert b.status("a").backlog == 1
        b.machine.configure({"a": Policy()})
        await b.until(lambda: b.status("a").succeeded == 1)

        b.machine.configure({"a": Policy(hold="SecretMissing")})
        lost = await b.accept("a")
        b.machine.configure({})
        await b.pass_time(7 * DAY + 1)
        await b.machine.tidy()
        gone = await b.machine.delivery(f"{lost.id}~a")
        assert gone.state == "cancelled"
        assert gone.reason == "waited 7 days for its destination: it is not configured any more"


async def test_a_mistake_of_the_sender_is_a_retry_and_loses_nothing(tmp_path):
    async with bench(tmp_path, {"a": Policy(schedule_ns=(0, 0))}) as b:
        b.sender.script["a"] = [RuntimeError("bug"), "no outcome"]
        receipt = await b.accept("a")
        await b.until(lambda: b.status("a").succeeded == 1)
        attempts = await b.machine.attempts(f"{receipt.id}~a")
        assert [a.reason for a in attempts] == ["", "internal error (TypeError)", "internal error (RuntimeError)"]


async def test_a_sender_that_ignores_its_deadline_is_cancelled(tmp_path, monkeypatch):
    monkeypatch.setattr(dispatcher, "OVERRUN", -1)
    async with bench(tmp_path, {"a": Policy(timeout_ns=1, schedule_ns=(SECOND,))}) as b:
        b.sender.gate.clear()
        receipt = await b.accept("a")
        await b.until(lambda: b.sender.flying == 1)
        b.machine._parts.dispatcher.watch()
        await b.until(lambda: b.status("a").retries == 1)
        (attempt,) = await b.machine.attempts(f"{receipt.id}~a")
        assert attempt.reason == "no outcome within the deadline"
        b.sender.gate.set()


async def test_reasons_and_excerpts_are_cut_and_cleaned(tmp_path):
    async with bench(tmp_path, {"a": Policy()}) as b:
        b.sender.script["a"] = [Rejected(reason="\ud800" + "x" * 1000, excerpt=b"y" * 100_000)]
        receipt = await b.accept("a")
        await b.settled()
        (attempt,) = await b.machine.attempts(f"{receipt.id}~a")
        assert (len(attempt.reason), attempt.reason[:2], len(attempt.excerpt)) == (500, "?x", 65_536)


async def test_too_many_waiting_acceptances_are_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(intake, "WAITING", 3)
    async with bench(tmp_path, {"a": Policy()}) as b:
        results = await asyncio.gather(*(b.accept("a") for _ in range(10)), return_exceptions=True)
        assert sum(isinstance(r, Overloaded) for r in results) == 7
        assert b.machine.statistics().refused == 7


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"id": "a.b"}, '"a.b" is no message id'),
        ({"id": ""}, "is no message id"),
        ({"fingerprint": b""}, "a fingerprint has 1-64 bytes"),
        ({"attributes": {"k": "x" * 9000}}, "attributes hold more than 8192"),
    ],
)
async def test_misuse_is_refused(tmp_path, wrong, message):
    async with bench(tmp_path, {"a": Policy()}) as b:
        with pytest.raises(ValueError, match=message):
            await b.accept("a", **wrong)


async def test_unknown_destinations_are_refused(tmp_path):
    async with bench(tmp_path, {"a": Policy()}) as b:
        with pytest.raises(ValueError, match='destination "b" is not configured'):
            await b.accept("b")
        with pytest.raises(ValueError, match='"a" is named twice'):
            await b.accept("a", "a")


async def test_lists_page_and_filter_without_gaps_or_repeats(tmp_path):
    async with bench(tmp_path, {"a": Policy(), "b": Policy(schedule_ns=())}) as b:
        b.sender.script["b"] = [DOWN] * 30
        accepted = [(await b.accept("a", "b", type=f"type-{n % 3}")).id for n in range(30)]
        await b.settled()

        async def walk(**filters):
            found, cursor = [], ""
            while True:
                page = await b.machine.deliveries(Query(limit=7, cursor=cursor, **filters))
                assert len(page.deliveries) <= 7
                found += page.deliveries
                cursor = page.cursor
                if not cursor:
                    return found

        everything = await walk()
        assert len({d.id for d in everything}) == len(everything) == 60
        assert [d.message for d in everything][::2] == accepted[::-1]
        assert {d.destination for d in await walk(state="failed")} == {"b"}
        assert len(await walk(destination="a", type="type-1")) == 10
        assert len(await walk(message=everything[0].message)) == 2
        assert await walk(destination="nobody") == []
        with pytest.raises(ValueError, match="is no cursor"):
            await b.machine.deliveries(Query(cursor="x"))

        attempts, cursor = [], ""
        while True:
            page = await b.machine.list_attempts(AttemptQuery(destination="b", limit=7, cursor=cursor))
            attempts += page.attempts
            cursor = page.cursor
            if not cursor:
                break
        assert len({a.message for a in attempts}) == len(attempts) == 30
        assert (await b.machine.list_attempts(AttemptQuery(destination="nobody"))).attempts == ()


async def test_a_page_looks_at_a_bounded_number_of_rows_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "SCAN", 10)
    async with bench(tmp_path, {"a": Policy(schedule_ns=())}) as b:
        b.sender.script["a"] = [Rejected(reason="no")]
        await b.accept("a")
        await b.settled()
        for _ in range(25):
            await b.accept("a")
        await b.settled()
        pages, cursor = [], ""
        while True:
            page = await b.machine.deliveries(Query(state="failed", cursor=cursor))
            pages.append(len(page.deliveries))
            cursor = page.cursor
            if not cursor:
                break
        assert pages == [0, 0, 1]


async def test_the_age_of_the_oldest_pending_message_is_told(tmp_path):
    async with bench(tmp_path, {"a": Policy(hold="SecretMissing")}) as b:
        await b.accept("a")
        b.clock.pass_time(SECOND)
        await b.accept("a")
        await b.machine.tidy()
        assert b.status("a").oldest_ns == START
        assert b.status("a").hold == "SecretMissing"


async def test_forgetting_goes_in_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(upkeep, "BATCH", 4)
    async with bench(tmp_path, {"a": Policy(retain_succeeded_ns=SECOND)}) as b:
        await b.machine.accept([b.submission("a") for _ in range(10)])
        await b.settled()
        await b.pass_time(SECOND)
        await b.machine.tidy()
        assert await b.states() == {}


async def test_a_clock_that_is_set_back_holds_up_no_retry(tmp_path):
    async with bench(tmp_path, {"a": Policy(schedule_ns=(5 * SECOND,))}) as b:
        b.sender.script["a"] = [DOWN]
        await b.accept("a")
        await b.settled()
        b.clock.wall -= 3600 * SECOND
        await b.pass_time(5 * SECOND)
        await b.until(lambda: len(b.sender.sent) == 2)


async def test_a_disk_that_hangs_is_told_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(commit, "COMMIT_TIMEOUT", 0.0)
    async with bench(tmp_path, {"a": Policy()}) as b:
        parts = b.machine._parts
        monkeypatch.setattr(parts.intake._commits, "_submit", lambda _unit: None)
        waiting = asyncio.create_task(b.accept("a"))
        await b.until(lambda: b.machine.statistics().waiting == 1)
        parts.intake._commits.expire()
        with pytest.raises(StoreUnavailable, match="the disk did not confirm"):
            await waiting
        assert b.machine.statistics().waiting == 0


async def test_a_destination_may_take_one_and_want_no_more(tmp_path):
    async with bench(tmp_path, {"a": Policy()}) as b:
        b.sender.script["a"] = [Delivered(status=200, disable="enough")]
        receipt = await b.accept("a")
        await b.settled()
        assert (await b.machine.delivery(f"{receipt.id}~a")).state == "succeeded"
        assert b.status("a").disabled == "enough"
