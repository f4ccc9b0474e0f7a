"""What a process does all the while it is up: says that it lives, takes over from dead ones,
finds work that was accepted and never queued, and removes what is too old.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from datetime import timedelta
from typing import Final

from app.errors import StoreError
from app.services.executions import RunContext
from app.tasks.model import utc_now
from app.tasks.nodes import NodeStore
from app.tasks.work_queue import WorkQueue

logger = logging.getLogger(__name__)

BEAT_SECONDS: Final = 2.0
DEAD_SECONDS: Final = 8.0
"""Without a heartbeat. With the next beat of a living node, a dead one's work is taken over
within 15 s.
"""

SWEEP_SECONDS: Final = 30.0
RETENTION_SECONDS: Final = 60.0
