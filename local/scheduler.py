"""Cloud Scheduler: starts the jobs of a schedule with identity tokens, retries them, and runs one on demand (REST)."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from local import grants
from local.identity import Issuer
from local.layout import PROJECT, REGION, Layout, service_account
from local.scheduler_jobs import Job, JobStore, load, text
from local.serving import arguments, bearer, http, refusal, rpc_status, stopped

Handler = Callable[[web.Request, str], Awaitable[web.StreamResponse]]
SCHEDULE = Path(__file__).with_name("schedule.yaml")
PARENT = f"projects/{PROJECT}/locations/{REGION}/jobs"
ACCOUNT = service_account("scheduler")
LOOK_SECONDS = 1.0  # how often the wall clock is read, which may be set back or stand still in a suspended machine
NO_ANSWER = {"code": 14, "message": "UNAVAILABLE(14): no answer by the deadline"}


class Scheduler:
    """One execution of a job at a time; the next one waits for it. A forced run waits for nothing."""

    def __init__(self, layout: Layout, jobs: list[Job], session: aiohttp.ClientSession) -> None:
        self.layout = layout
        self.issuer = Issuer(layout.root)
        self.jobs = {job.name: job for job in jobs}
        self.store = JobStore(layout.root, jobs, time.time())
        self.session = session

    async def keep(self, job: Job) -> None:
        """Run a job whenever it is due, until cancelled. Its next start is written after the execution ended."""
        while True:
            due = self.store.state(job.name).due
            if (rest := due - time.time()) > 0:
                await asyncio.sleep(min(rest, LOOK_SECONDS))
                continue
            start = job.latest(due, time.time())
            await self.execute(job, start)
            self.store.set_due(job.name, job.after(start))

    async def execute(self, job: Job, scheduled: float) -> None:
        """One execution: attempts until one gets 2xx, the retries are used up, or the next start is due."""
        end = job.after(max(scheduled, time.time()))
        for failures in range(1, job.retry_count + 2):
            began = time.time()
            code = await self.attempt(job, scheduled)
            self.store.set_attempt(job.name, began, code)
            if code is not None and 200 <= code <= 299:
                return
            sys.stderr.write(f"job {job.name} attempt {failures} failed: {code}\n")
            wait = job.backoff.interval(failures)
            if failures > job.retry_count or time.time() + wait >= end:
                return
            await asyncio.sleep(wait)

    async def attempt(self, job: Job, scheduled: float) -> int | None:
        """The HTTP status of one request, or None without an answer by the deadline."""
        audience = self.layout.run_url(job.service)
        headers = {
            "Authorization": f"Bearer {self.issuer.identity_token(ACCOUNT, audience)}",
            "User-Agent": "Google-Cloud-Scheduler",
            "X-CloudScheduler": "true",
            "X-CloudScheduler-JobName": job.name,
            "X-CloudScheduler-ScheduleTime": text(scheduled),
        }
        deadline = aiohttp.ClientTimeout(total=job.attempt_deadline)
        call = self.session.post(audience + job.path, headers=headers, allow_redirects=False, timeout=deadline)
        try:
            async with call as response:
                await response.read()
                return response.status
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    def shown(self, job: Job) -> dict[str, Any]:
        """A job as the REST API shows it."""
        state = self.store.state(job.name)
        audience = self.layout.run_url(job.service)
        body: dict[str, Any] = {
            "name": f"{PARENT}/{job.name}",
            "schedule": job.schedule,
            "timeZone": "Etc/UTC",
            "state": "ENABLED",
            "scheduleTime": text(state.due),
            "attemptDeadline": f"{job.attempt_deadline:g}s",
            "retryConfig": {"retryCount": job.retry_count, "minBackoffDuration": f"{job.min_backoff:g}s"},
            "httpTarget": {
                "uri": audience + job.path,
                "httpMethod": "POST",
                "oidcToken": {"serviceAccountEmail": ACCOUNT, "audience": audience},
            },
        }
        if state.last_attempt is not None:
            good = state.last_code is not None and 200 <= state.last_code <= 299
            body["lastAttemptTime"] = text(state.last_attempt)
            body["status"] = {} if good else NO_ANSWER if state.last_code is None else rpc_status(state.last_code)
        return body


def application(scheduler: Scheduler, group: asyncio.TaskGroup) -> web.Application:
    """The REST methods list, get and run of projects.locations.jobs, for people: no account of the catalog has them."""

    async def list_jobs(request: web.Request, caller: str) -> web.StreamResponse:
        return web.json_response({"jobs": [scheduler.shown(job) for job in scheduler.jobs.values()]})

    async def get_job(request: web.Request, caller: str) -> web.StreamResponse:
        job = scheduler.jobs.get(request.match_info["name"])
        return refusal(404, "Job not found.") if job is None else web.json_response(scheduler.shown(job))

    async def run_job(request: web.Request, caller: str) -> web.StreamResponse:
        job = scheduler.jobs.get(request.match_info["name"])
        if job is None:
            return refusal(404, "Job not found.")
        group.create_task(scheduler.execute(job, time.time()))
        return web.json_response(scheduler.shown(job))

    def people(handler: Handler) -> Any:
        async def checked(request: web.Request, caller: str) -> web.StreamResponse:
            if caller in grants.known():
                grants.refuse(caller, "cloudscheduler.jobs.*", request.path)
                return refusal(403, f"The principal lacks IAM permission for {request.path}.")
            return await handler(request, caller)

        return bearer(scheduler.issuer, checked)

    made = web.Application()
    made.router.add_get(f"/v1/{PARENT}", people(list_jobs))
    made.router.add_get(f"/v1/{PARENT}/{{name:[^/:]+}}", people(get_job))
    made.router.add_post(f"/v1/{PARENT}/{{name:[^/:]+}}:run", people(run_job))
    return made


async def serve(layout: Layout, schedule: Path) -> None:
    """Run the jobs and answer until asked to stop."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        scheduler = Scheduler(layout, load(schedule), session)
        working = asyncio.create_task(_work(scheduler))
        ending = asyncio.create_task(stopped())
        await asyncio.wait((working, ending), return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working


async def _work(scheduler: Scheduler) -> None:
    async with asyncio.TaskGroup() as group, http(application(scheduler, group), scheduler.layout.ports["scheduler"]):
        await asyncio.gather(*(scheduler.keep(job) for job in scheduler.jobs.values()))


def main() -> None:
    """Read the arguments and serve."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--schedule", type=Path, default=SCHEDULE, help="YAML file of the jobs")
    given = parser.parse_args()
    asyncio.run(serve(given.layout, given.schedule))


if __name__ == "__main__":
    main()
