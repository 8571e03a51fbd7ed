"""The store: the only SQL of this project. Studies, trials and measurements in SQLite or PostgreSQL.

`open_store` is for whoever holds a study, `open_queue` for workers. What it promises, and how:

- A waiting trial is handed to one worker: claiming is one statement (`claims`).
- Holding a trial is a row in `leases`; each write of a worker begins by renewing it and writes nothing without
  (`leases`, `reports`, `endings`).
- Trials of workers that are gone come back (`reaper`), by the rules of `limits`.
- A reader asks for what changed since a revision, and misses nothing (`journal`, `feed`).
- Whatever a lost connection makes a caller repeat has the effect of once.
"""

from nas.store.address import masked
from nas.store.queue import Queue
from nas.store.reaper import Reaper
from nas.store.rows import (
    AttemptRow,
    EventRow,
    FinishedTrial,
    MeasurementRow,
    News,
    NewTrial,
    Reaped,
    StudyRow,
    TrialRow,
    WorkerRow,
    trial_from_row,
)
from nas.store.store import ASKED, Store, open_queue, open_store
from nas.store.upgrade import upgrade

__all__ = [
    "ASKED",
    "AttemptRow",
    "EventRow",
    "FinishedTrial",
    "MeasurementRow",
    "NewTrial",
    "News",
    "Queue",
    "Reaped",
    "Reaper",
    "Store",
    "StudyRow",
    "TrialRow",
    "WorkerRow",
    "masked",
    "open_queue",
    "open_store",
    "trial_from_row",
    "upgrade",
]
