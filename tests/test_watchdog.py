"""The watchdog at its real thresholds, in virtual time: what it says, whom it fails, and what it takes back."""

import asyncio
import re

import pytest
from msgspec import convert, structs

from sha_daemon.config import HubSettings
from sha_daemon.ingest_queue import NotStored
from sha_daemon.records import Job
from tests.support.watchdog_scene import Scene


@pytest.fixture
def scene(caplog: pytest.LogCaptureFixture) -> Scene:
    return Scene(caplog)


def test_a_dead_job_is_failed_after_300_s_and_at_most_one_sweep(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        async with scene.hub() as hub:
            await scene.say("dead")
            await asyncio.sleep(299)
            assert scene.status() == "running"
            await asyncio.sleep(32)
            job = scene.job("dead")
            assert job.status == "failed"
            assert job.error_message == job.watchdog_message
            assert re.fullmatch(
                r"Job stalled - no telemetry for 5m\d+s \(SBC may have crashed\)", str(job.error_message)
            )
            assert 0 <= scene.clock.wall() - (job.completed_at or 0) < 31
            assert hub.parts["backup"].watchdog.failed == 1
            assert scene.failed == ["dead"]

    scene.play(story)


def test_one_warning_per_silence_and_one_line_when_it_ends(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        async with scene.hub() as hub:
            for status in ("running", "running", "completed"):
                await scene.say("j1", status)
                await asyncio.sleep(200)
            assert hub.parts["backup"].watchdog.silent == 0

    scene.play(story, ["j1"])
    said = [message for message in scene.messages if "silent" in message]
    assert [re.sub(r"\d\d\d?$", "N", message) for message in said] == [
        "job is silent job=j1 silent_seconds=N",
        "job is silent no longer job=j1 status=running silent_seconds=N",
        "job is silent job=j1 silent_seconds=N",
        "job is silent no longer job=j1 status=completed silent_seconds=N",
    ]
    assert [message.rpartition("=")[2] for message in said[1::2]] == ["200", "200"]


@pytest.mark.parametrize("status", ["cancelled", "deleted"])
def test_a_silence_that_another_program_ends_is_told_with_what_became_of_the_job(scene: Scene, status: str) -> None:
    async def story(scene: Scene) -> None:
        async with scene.hub():
            await scene.say("j1")
            await asyncio.sleep(100)
            view = scene.database.tables.jobs.pop("j1")
            if status != "deleted":
                scene.database.add_job(structs.replace(view.job, status="cancelled"))
            await asyncio.sleep(31)

    scene.play(story, ["j1"])
    assert f"job is silent no longer job=j1 status={status} silent_seconds=1" in scene.messages[-1]


def test_a_crowd_that_falls_silent_and_comes_back_is_warned_of_one_by_one(scene: Scene) -> None:
    crowd = [f"j{n}" for n in range(1000)]

    async def story(scene: Scene) -> None:
        async with scene.hub() as hub:
            for _ in range(2):
                await asyncio.gather(*(scene.say(job_id) for job_id in crowd))
                await asyncio.sleep(100)
            assert hub.parts["backup"].watchdog.silent == 1000

    scene.play(story, crowd)
    for what, count in (("job is silent job=", 2000), ("job is silent no longer job=", 1000)):
        assert sum(message.startswith(what) for message in scene.messages) == count


def test_a_job_heard_again_is_revived_and_can_complete(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        async with scene.hub():
            await scene.say("j1")
            await asyncio.sleep(340)
            assert scene.status("j1") == "failed"
            await scene.say("j1")
            job = scene.job("j1")
            assert (job.status, job.error_message, job.watchdog_failed_at) == ("running", None, None)
            await scene.say("j1", "completed")
            assert scene.status("j1") == "completed"

    scene.play(story, ["j1"])


@pytest.mark.parametrize(("never_heard", "status"), [("report", "running"), ("fail", "failed")])
def test_a_job_that_never_sent_telemetry_is_failed_only_if_configured(
    caplog: pytest.LogCaptureFixture, never_heard: str, status: str
) -> None:
    async def story(scene: Scene) -> None:
        await scene.up(150)
        async with scene.hub() as hub:
            await asyncio.sleep(140)
            assert (scene.status("old"), hub.parts["backup"].watchdog.never_heard) == ("running", 1)
            await asyncio.sleep(60)
            assert scene.status("old") == status

    scene = Scene(caplog, convert({"watchdog": {"never_heard": never_heard}}, HubSettings))
    scene.play(story, [Job(job_id="old", status="running", started_at=scene.clock.wall())])
    assert scene.messages.count("running job has never sent telemetry job=old") == 2, "once for each hub"


def test_a_job_never_heard_whose_start_nobody_knows_is_not_failed(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(caplog, convert({"watchdog": {"never_heard": "fail"}}, HubSettings))
    scene.play(lambda scene: scene.up(3600), ["old"])
    assert (scene.status("old"), scene.failed) == ("running", [])


def test_a_job_of_an_attached_producer_that_moves_nothing_is_never_warned_of_nor_failed(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        async with scene.hub():
            for idle_seconds in range(0, 8 * 3600, 30):
                await scene.say("quiet", idle_seconds=idle_seconds)
                await asyncio.sleep(30)
            assert scene.job("quiet").idle_seconds == 8 * 3600 - 30

    scene.play(story, ["quiet"])
    assert (scene.status("quiet"), scene.failed) == ("running", [])
    assert not [message for message in scene.messages if "silent" in message]


@pytest.mark.parametrize("never_heard", [False, True])
def test_a_rule_that_throws_on_one_row_does_not_stop_the_sweep(
    caplog: pytest.LogCaptureFixture, never_heard: bool
) -> None:
    """No number: no duration can be told from it."""

    async def story(scene: Scene) -> None:
        async with scene.hub():
            if not never_heard:
                for job_id in ("broken", "dead"):
                    await scene.say(job_id)
            view = scene.database.tables.jobs["broken"]
            broken = {"started_at": float("nan")} if never_heard else {"last_telemetry_at": float("nan")}
            scene.database.tables.put_job(structs.replace(view, job=structs.replace(view.job, **broken)))
            await asyncio.sleep(500)
            assert (scene.status("broken"), scene.status("dead")) == ("running", "failed")

    scene = Scene(caplog, convert({"watchdog": {"never_heard": "fail"}}, HubSettings))
    started = scene.clock.wall()
    scene.play(story, [Job(job_id=name, status="running", started_at=started) for name in ("broken", "dead")])
    complaint = "cannot judge the silence of a job; the sweep goes on job=broken"
    assert scene.messages.count(complaint) == 1, "once, not in each sweep"


def test_a_row_that_another_program_holds_does_not_save_the_other_dead(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        async with scene.hub():
            for job_id in ("held", "dead"):
                await scene.say(job_id)
                await asyncio.sleep(2)
            scene.database.hold("held")
            await asyncio.sleep(400)
            assert (scene.status("dead"), scene.status("held")) == ("failed", "running")
            scene.database.hold(None)
            await asyncio.sleep(31)
            assert scene.status("held") == "failed"

    scene.play(story, ["held", "dead"])
    assert sum(message.startswith("verdict put off") for message in scene.messages) == 1, "once, not in each sweep"


def test_a_row_that_the_server_refuses_does_not_save_the_other_dead(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        async with scene.hub():
            for job_id in ("refused", "dead"):
                await scene.say(job_id)
                await asyncio.sleep(2)
            scene.database.refuse("refused")
            await asyncio.sleep(400)
            assert (scene.status("dead"), scene.status("refused")) == ("failed", "running")
            scene.database.refuse(None)
            await asyncio.sleep(31)
            assert scene.status("refused") == "failed"

    scene.play(story, ["refused", "dead"])
    assert sum(message.startswith("verdict refused") for message in scene.messages) == 1, "once, not in each sweep"


@pytest.mark.parametrize("why", ["another program holds its row", "the server refuses it"])
def test_a_job_whose_messages_could_not_be_stored_was_heard_all_the_same(scene: Scene, why: str) -> None:
    """Its row comes free, and the sweep may be there before the job's next message."""

    async def story(scene: Scene) -> None:
        async with scene.hub() as hub:
            await scene.say("heard")
            mistreat = scene.database.hold if why.startswith("another") else scene.database.refuse
            mistreat("heard")
            for _ in range(100):
                with pytest.raises(NotStored):
                    await scene.say("heard")
                await asyncio.sleep(5)
            mistreat(None)
            await asyncio.sleep(40)
            assert (hub.parts["backup"].watchdog.silent, scene.failed) == (0, [])
            await asyncio.sleep(300)

    scene.play(story, ["heard"])
    assert scene.failed == ["heard"], "when it really fell silent"
    warnings = [message for message in scene.messages if message.startswith("job is silent job")]
    assert len(warnings) == 1


def test_a_completed_job_is_never_touched(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        async with scene.hub() as hub:
            await scene.say("j1", "completed")
            await asyncio.sleep(3600)
            assert (scene.status("j1"), hub.parts["backup"].watchdog.failed) == ("completed", 0)

    scene.play(story, ["j1"])
