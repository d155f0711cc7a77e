"""What handlers take from the application: typed keys, filled once in `__main__`."""

from __future__ import annotations

from aiohttp import web

from gateway.endless import Endless
from gateway.operations.appends import Appends
from gateway.operations.jobs import Jobs
from gateway.operations.library import Library
from gateway.operations.playback import Playback
from gateway.operations.transcripts import Transcripts
from gateway.readiness import Readiness
from gateway.settings import GatewaySettings
from gateway.upload_backend import UploadBackend

SETTINGS = web.AppKey("settings", GatewaySettings)
UPLOADS = web.AppKey("uploads", UploadBackend)
APPENDS = web.AppKey("appends", Appends)
PLAYBACK = web.AppKey("playback", Playback)
TRANSCRIPTS = web.AppKey("transcripts", Transcripts)
JOBS = web.AppKey("jobs", Jobs)
LIBRARY = web.AppKey("library", Library)
ENDLESS = web.AppKey("endless", Endless)
READINESS = web.AppKey("readiness", Readiness)
