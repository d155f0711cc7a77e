"""Limits of requests that both ends must know: the gateway refuses in a dialect's words what a service would refuse."""

TITLE_LENGTH = 255
DESCRIPTION_LENGTH = 10_000
FILE_NAME_LENGTH = 255
IDEMPOTENCY_KEY_LENGTH = 200
"""Characters of a client's own name for a request, as the ones above."""
LONGEST_WINDOW = 256 * 2**20
"""Bytes of one StreamService.Read."""
STAT_SECONDS = 2.0
"""Within so long StreamService.Stat answers, be it that the clips are being joined; who got no answer asks again."""
