"""What leaves in its order while some of it must be asked for first: the lanes of a carrier. No I/O.

A job that is written ahead leaves when its cascade says so, some milliseconds after it was asked; one that need not
be asked for would overtake it. So within one tenant and category it waits behind. Whoever waits for an answer too long
is passed by: a cascade that ended without a word must not hold the others.
"""

from __future__ import annotations

from collections import deque

from actors.messages import Job

Lane = tuple[str, str]  # tenant, category


def lane_of(job: Job) -> Lane:
    """Name a job's lane."""
    return job.submission.tenant, job.submission.category


class Lanes:
    """Jobs that have left the queue and not yet for the carrier.

    Invariants:
        The first of a lane is not allowed yet: else it would have left.
    """

    __slots__ = ("_jobs", "_lanes")

    def __init__(self) -> None:
        self._jobs: set[Job] = set()
        self._lanes: dict[Lane, deque[Job]] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job: Job) -> bool:
        return job in self._jobs

    def holds(self, job: Job) -> bool:
        """Tell whether it must wait for one before it."""
        return lane_of(job) in self._lanes

    def add(self, job: Job) -> None:
        """Let it wait: for its cascade's word, or, when it is `allowed` already, for those before it."""
        self._jobs.add(job)
        self._lanes.setdefault(lane_of(job), deque()).append(job)

    def remove(self, job: Job) -> list[Job]:
        """Take one out that is not wanted any more; gives those that may leave now, in order."""
        self._jobs.discard(job)
        return self._leaving(lane_of(job))

    def allow(self, job: Job) -> list[Job]:
        """Its cascade has said so; gives those that may leave now, in order. Nothing for one that is not here."""
        if job not in self._jobs:
            return []
        job.allowed = True
        leaving = self._leaving(lane_of(job))
        if job in self._jobs and job not in self._lanes.get(lane_of(job), ()):  # it was passed by
            self._jobs.discard(job)
            leaving.append(job)
        return leaving

    def first(self, lane: Lane) -> Job | None:
        """Give the one that holds a lane; None when nothing waits behind it."""
        jobs = self._lanes.get(lane)
        return jobs[0] if jobs is not None and len(jobs) > 1 else None

    def pass_by(self, lane: Lane) -> list[Job]:
        """Wait no longer for the first of a lane, which leaves whenever it is allowed; gives those that may leave."""
        self._lanes[lane].popleft()
        return self._leaving(lane)

    def clear(self) -> list[Job]:
        """Give up all that wait."""
        jobs = [job for lane in self._lanes.values() for job in lane if job in self._jobs]
        jobs += self._jobs.difference(jobs)
        self._jobs.clear()
        self._lanes.clear()
        return jobs

    def _leaving(self, lane: Lane) -> list[Job]:
        jobs = self._lanes.get(lane)
        leaving: list[Job] = []
        while jobs and (jobs[0].allowed or jobs[0] not in self._jobs):
            job = jobs.popleft()
            if job in self._jobs:
                self._jobs.discard(job)
                leaving.append(job)
        if not jobs:
            self._lanes.pop(lane, None)
        return leaving
