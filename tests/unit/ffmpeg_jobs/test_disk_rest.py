"""How long a worker with a full disk lets others take the jobs."""

import pytest

from services.ffmpeg.worker.disk_rest import DiskRest


class Rig:
    """A rest by a clock that stands unless it is turned."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.rest = DiskRest(lambda: self.now)

    def sit_out(self) -> float:
        """Seconds until it is over."""
        began = self.now
        while self.rest.lasts:
            self.now += 1
        return self.now - began


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_worker_that_never_met_a_full_disk_takes_jobs(rig: Rig) -> None:
    assert not rig.rest.lasts


def test_rests_double_up_to_a_minute_while_the_disk_stays_full(rig: Rig) -> None:
    rests = []
    for _ in range(8):
        # All of its slots at once: that is one rest.
        for _ in range(4):
            rig.rest.met_full_disk()
        rests.append(rig.sit_out())
    assert rests == [5, 5, 10, 20, 40, 60, 60, 60]


def test_who_had_room_begins_anew_but_sits_out_a_rest(rig: Rig) -> None:
    for _ in range(5):
        rig.rest.met_full_disk()
        rig.sit_out()
    rig.rest.met_full_disk()
    rig.rest.had_room()
    assert rig.sit_out() == 60
    rig.rest.met_full_disk()
    assert rig.sit_out() == 5
