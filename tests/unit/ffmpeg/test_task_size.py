"""A task is kept for weeks, and by the thousand: what its client wrote is bounded as a whole."""

import pytest

from services.common.error_catalog import ErrorReason
from services.ffmpeg.command_policy import plan
from services.ffmpeg.refusal import CommandRefused

ONE = {"in_1": "https://example.com/a.mp4"}
OUT = {"out_1": "o.mp4"}
ADDRESSES = 32
OF_MANY = " ".join(f"-i in_{number}" for number in range(ADDRESSES)) + " out_1"


def addresses(text: str) -> dict[str, str]:
    return {f"in_{number}": "https://example.com/" + text for number in range(ADDRESSES)}


def long_command(letter: str) -> str:
    return f"-i in_1 {f'-metadata comment={letter * 80} ' * 160}out_1"


def test_signed_addresses_fit_in_any_number() -> None:
    assert len(plan(OF_MANY, addresses("x" * 900), OUT).inputs) == ADDRESSES


def test_the_longest_command_fits() -> None:
    assert plan(long_command("x"), ONE, OUT)


@pytest.mark.parametrize(
    ("command", "inputs", "outputs"),
    [
        # Each as long as an address may be: a record of 128 KiB.
        (OF_MANY, addresses("x" * 4000), OUT),
        # JSON, which is what is kept, writes these as six characters each: 78 KiB.
        (long_command("ü"), ONE, OUT),
        ("-i in_1 out_1", ONE, {f"out_{number}": f"{number}.mp4" for number in range(40_000)}),
    ],
    ids=["addresses", "command", "outputs"],
)
def test_what_takes_more_than_a_record_holds_is_refused(
    command: str, inputs: dict[str, str], outputs: dict[str, str]
) -> None:
    with pytest.raises(CommandRefused, match="more than 32768 bytes") as refused:
        plan(command, inputs, outputs)
    assert (refused.value.reason, refused.value.kind.http_status) == (ErrorReason.COMMAND_REFUSED, 400)
