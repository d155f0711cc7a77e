"""`python -m deploy.local`: what `make run` runs."""

import signal
import sys

if __name__ == "__main__":
    # Ctrl-C while the imports are under way ends this without a traceback; nothing has been started yet.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from deploy.local.command import main

    sys.exit(main())
