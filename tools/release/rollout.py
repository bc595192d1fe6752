"""A release, step by step: keys, schema, functions without traffic, their health, the traffic, and back on failure.

Code N-1 runs on schema N, so the old revisions go on until the end, and whatever fails leaves them in charge.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tools.release.cloud import READY, Cloud, Failed, Resource, Target

CANDIDATE, LIVE, PREVIOUS = "candidate", "live", "previous"
FIRST_JOBS = ("first-keys", "migrate", "provision")
STEPS = (5, 25, 50, 100)  # percent of the traffic
NOBODY = Target("", 0)

Say = Callable[[str], object]


@dataclass(frozen=True)
class Service:
    """One service in the middle of a release: what had the traffic before, and what is to have it."""

    name: str
    before: tuple[Target, ...]
    revision: str
    address: str
    audience: str
    public: bool


Traffic = frozenset[Target]


@dataclass(frozen=True)
class Release:
    """An image by digest for these services and jobs. `pause(percent)` waits after each step of the traffic.

    `ours`: the traffic of each service as this release found it, and as it wrote it. Whoever finds another one has met
    somebody else at work, and touches nothing.
    """

    cloud: Cloud
    image: str
    services: Sequence[str]
    jobs: Sequence[str]
    say: Say
    pause: Callable[[int], object]
    ours: dict[str, set[Traffic]] = field(default_factory=dict)

    def __call__(self) -> None:
        """Raises Failed, or whatever interrupts, after the traffic is back where it was."""
        for name in self.services:
            _refuse_halves(self.cloud.service(name))
        prepare(self.cloud, self.image, self.say)
        begun: list[Service] = []
        try:
            for name in self.services:
                self._deploy(name, begun)
            self._check(begun)
            for percent in STEPS:
                self._shift(begun, percent)
                self.pause(percent)
                self._check(begun)
            for name in self.jobs:
                self.cloud.set_job_image(name, self.image)
            for each in begun:
                self._move(each.name, Target(each.revision, 100, LIVE), Target(_main(each.before), 0, PREVIOUS))
        except BaseException:
            self._back(begun)
            raise
        self.say("released")

    def _deploy(self, name: str, begun: list[Service]) -> None:
        """A revision that has an address and no traffic. It is ready when its start-up probe has answered."""
        service = self.cloud.service(name)
        _refuse_halves(service)
        before = _pinned(service)
        self.ours[name] = {_traffic(service), frozenset(before)}
        (container,) = service["template"]["containers"]
        container["image"] = self.image
        service["template"].pop("revision", None)  # Cloud Run names it: Terraform knows no names of revisions
        service["traffic"] = [each.body() for each in before]
        # `begun` before the act: an update may fail halfway.
        begun.append(Service(name, before, "", "", "", public=False))
        made = self.cloud.update(service, "template,traffic")
        revision = made["latestCreatedRevision"].rsplit("/", 1)[-1]
        if _state(made) != READY or made.get("latestReadyRevision") != made["latestCreatedRevision"]:
            raise Failed(f"{name}: revision {revision} did not become ready")
        if revision == _main(before):
            begun.pop()
            self.say(f"{name}: {revision} runs already")
            return
        tagged = self._move(name, *before, Target(revision, 0, CANDIDATE))
        begun[-1] = _serving(name, before, revision, tagged)
        self.say(f"{name}: {revision} is there, without traffic")

    def _move(self, name: str, *targets: Target) -> Resource:
        """Give a service this traffic, unless somebody else has moved it since this release did."""
        service = self.cloud.service(name)
        if _traffic(service) not in self.ours[name]:
            raise Failed(f"{name}: somebody else has moved its traffic")
        self.ours[name].add(frozenset(targets))
        return self.cloud.update(service | {"traffic": [each.body() for each in targets]}, "traffic")

    def _check(self, services: Sequence[Service]) -> None:
        """The candidates say that they reach what they need. What only our network may call is asked by its probe."""
        for each in services:
            if each.public and (status := self.cloud.health(each.address, each.audience)) != 200:
                raise Failed(f"{each.name}: {each.revision} answers {status or 'nothing'} to /health/ready")

    def _shift(self, services: Sequence[Service], percent: int) -> None:
        for each in services:
            old = Target(_main(each.before), 100 - percent, PREVIOUS)
            self._move(each.name, old, Target(each.revision, percent, CANDIDATE))
        self.say(f"{percent} % of the traffic goes to the new revisions")

    def _back(self, services: Sequence[Service]) -> None:
        """Everything as it was, the last one first; one that cannot be put back stops no other one."""
        stuck = []
        for each in reversed(services):
            try:
                self._move(each.name, *each.before)
            except Failed as error:
                stuck.append(each.name)
                self.say(f"{each.name}: NOT put back: {error}")
        self.say("rolled back" if not stuck else f"rolled back, but for {', '.join(stuck)}")


def prepare(cloud: Cloud, image: str, say: Say) -> None:
    """Keys, schema and logins as an image wants them, which the functions before can live with. Raises Failed."""
    for name in FIRST_JOBS:
        cloud.set_job_image(name, image)
        say(f"{name}: runs")
        cloud.run_job(name)
        say(f"{name}: done")


def roll_back(cloud: Cloud, services: Sequence[str], say: Say) -> None:
    """The revisions before the last release have the traffic again, at once. Done twice, it is as done once.

    A release that was killed has left its candidates. Where one of them has traffic, that release is gone back from;
    where none has, there is nothing to go back from, and the release before it is not what is meant.
    """
    found = {name: [_target(each) for each in cloud.service(name).get("traffic", [])] for name in services}
    candidates = [each for traffic in found.values() for each in traffic if each.tag == CANDIDATE]
    idle = bool(candidates) and not any(each.percent for each in candidates)
    failed = []
    for name, traffic in found.items():
        tags = {each.tag: each for each in traffic}
        new = tags.get(CANDIDATE) or tags.get(LIVE)
        old = (
            _main(traffic) if new and new.tag == CANDIDATE and not new.percent else tags.get(PREVIOUS, NOBODY).revision
        )
        if idle or not new or not old:
            why = "the release under way has moved no traffic" if idle else "no earlier revision is kept"
            say(f"{name}: {why}; it stays as it is")
            continue
        try:
            cloud.set_traffic(name, [Target(old, 100, PREVIOUS), Target(new.revision, 0, LIVE)])
            say(f"{name}: {old} has the traffic")
        except Failed as error:
            failed.append(f"{name}: {error}")
    if failed:
        raise Failed("; ".join(failed))


def _refuse_halves(service: Resource) -> None:
    """Stop where a candidate has traffic: what was before this release would be half of another one."""
    if any(each.percent and each.tag == CANDIDATE for each in map(_target, service.get("traffic", []))):
        raise Failed(f"{service['name']}: another release is under way, or was killed: wait for it, or --back")


def _traffic(service: Resource) -> Traffic:
    return frozenset(map(_target, service.get("traffic", [])))


def _pinned(service: Resource) -> tuple[Target, ...]:
    """Its traffic by names, without what a killed release has left. The first one of a service has it as the latest,
    which a new one would take.
    """
    latest = service.get("latestReadyRevision", "").rsplit("/", 1)[-1]
    targets = tuple(_target(each, latest) for each in service.get("traffic", []))
    targets = tuple(each for each in targets if each.revision and each.tag != CANDIDATE) or (Target(latest, 100),)
    if not _main(targets):
        raise Failed(f"{service['name']}: no revision of it is ready; Terraform or the first release comes first")
    return targets


def _target(body: Resource, latest: str = "") -> Target:
    return Target(body.get("revision") or latest, body.get("percent", 0), body.get("tag", ""))


def _main(targets: Sequence[Target]) -> str:
    return max(targets, key=lambda each: each.percent).revision


def _state(service: Resource) -> str:
    return str(service.get("terminalCondition", {}).get("state"))


def _serving(name: str, before: tuple[Target, ...], revision: str, service: Resource) -> Service:
    addresses = [each["uri"] for each in service["trafficStatuses"] if each.get("tag") == CANDIDATE]
    audience = [*service.get("customAudiences", []), service["uri"]][0]
    public = service["ingress"] == "INGRESS_TRAFFIC_ALL"
    return Service(name, before, revision, addresses[0], audience, public)
