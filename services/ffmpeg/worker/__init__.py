"""The processes that run jobs: claim, renew, run, commit."""
