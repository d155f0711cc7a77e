"""What a burst took of memory is given back; in a process of its own, as an allocator is set up for good."""

import subprocess
import sys

BURST = """
import time
from services.common import allocator

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

allocator._LOOKS, allocator._PAUSE_SECONDS = 2, 0.01
allocator.keep_large_buffers()
before, buffers, between = resident(), [], []
for _ in range(300):
    buffers.append(bytes(2**20))
    between.append(bytearray(3000))  # stays, and so keeps what is freed from being the heap's end
assert resident() - before > 290 * 2**20
buffers.clear()
deadline = time.monotonic() + 10
while resident() - before > 64 * 2**20:
    assert time.monotonic() < deadline, resident() - before
    time.sleep(0.01)
"""


def test_memory_that_is_free_between_what_is_kept_is_given_back() -> None:
    subprocess.run([sys.executable, "-c", BURST], check=True)
