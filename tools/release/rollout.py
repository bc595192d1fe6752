"""A release, step by step: keys, schema, functions without traffic, their health, the traffic, what comes behind them,
and back where one fails.

Code N-1 runs on schema N, so the old revisions go on until the end, and whatever fails leaves them in charge.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from tools.release.api import Failed, Resource
from tools.release.cloud import READY, Cloud, Target
from tools.release.parts import Part, Served

CANDIDATE, LIVE, PREVIOUS = "candidate", "live", "previous"
FIRST_JOBS = ("first-keys", "migrate", "provision")
STEPS = (5, 25, 50, 100)  # percent of the traffic
INSISTS = 3  # so often one tries to put something back
NOBODY = Target("", 0)

Say = Callable[[str], object]


class Busy(Failed):
    """Another release moves traffic, or has left it so."""


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
    """An image by digest for these services, parts behind them, and jobs. `pause(percent)` waits after each step of
    the traffic.

    `ours`: the traffic of each service as this release found it, and as it wrote it. Whoever finds another one has met
    somebody else at work, and touches nothing. `addresses`: of each service, by its name. `patience`: seconds to wait
    for another release that moves traffic.
    """

    cloud: Cloud
    image: str
    services: Sequence[str]
    jobs: Sequence[str]
    say: Say
    pause: Callable[[int], object]
    parts: Sequence[Part] = ()
    patience: float = 0
    ours: dict[str, set[Traffic]] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    def __call__(self) -> None:
        """Raises Failed, or whatever interrupts, after the traffic is back where it was."""
        self._wait()
        prepare(self.cloud, self.image, self.say)
        begun: list[Service] = []
        noted: list[tuple[Part, Served]] = []
        moved: list[tuple[Part, str]] = []
        try:
            for name in self.services:
                self._deploy(name, begun)
            self._check(begun)
            self._note(noted)
            for percent in STEPS:
                self._shift(begun, percent)
                self.pause(percent)
                self._check(begun)
            self._publish(noted, moved)
            for name in self.jobs:
                self.cloud.set_job_image(name, self.image)
            for each in begun:
                self._move(each.name, Target(each.revision, 100, LIVE), Target(_main(each.before), 0, PREVIOUS))
        except BaseException:
            self._back(begun, moved, noted)
            raise
        self.say("released")

    def _wait(self) -> None:
        """For another release to end. Raises Busy when that takes too long, or it was killed: nobody can tell."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                for name in self.services:
                    _refuse_halves(self.cloud.service(name))
                return
            except Busy as busy:
                if time.monotonic() >= deadline:
                    raise
                self.say(f"waits: {busy}")
            time.sleep(15 * self.cloud.poll)

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
        self.addresses[name] = _audience(made)
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

    def _note(self, noted: list[tuple[Part, Served]]) -> None:
        """Before any traffic moves: what serves behind the functions is what the way back leads to."""
        for part in self.parts:
            found = part.serving()
            noted.append((part, found))
            part.note(found.now)

    def _publish(self, noted: Sequence[tuple[Part, Served]], moved: list[tuple[Part, str]]) -> None:
        for part, found in noted:
            moved.append((part, found.now))
            part.publish(self.image, self.addresses)

    def _back(
        self, services: Sequence[Service], moved: Sequence[tuple[Part, str]], noted: Sequence[tuple[Part, Served]]
    ) -> None:
        """Everything as it was, the last one first; one that cannot be put back stops no other one."""
        acts: list[tuple[str, Callable[[], object]]] = [
            (_name(part), partial(part.restore, before)) for part, before in reversed(moved)
        ]
        acts += [(each.name, partial(self._move, each.name, *each.before)) for each in reversed(services)]
        acts += [(f"note of {_name(part)}", partial(part.note, found.before)) for part, found in reversed(noted)]
        stuck = [name for name, act in acts if not self._insist(name, act)]
        self.say("rolled back" if not stuck else f"rolled back, but for {', '.join(stuck)}")

    def _insist(self, name: str, act: Callable[[], object]) -> bool:
        """Try to put one back: what Google refuses for a moment must not leave half a release."""
        for number in range(1, INSISTS + 1):
            try:
                act()
                return True
            except Failed as error:
                self.say(f"{name}: NOT put back: {error}")
            time.sleep(self.cloud.poll * number)
        return False


def prepare(cloud: Cloud, image: str, say: Say) -> None:
    """Keys, schema and logins as an image wants them, which the functions before can live with. Raises Failed."""
    for name in FIRST_JOBS:
        cloud.set_job_image(name, image)
        say(f"{name}: runs")
        cloud.run_job(name)
        say(f"{name}: done")


def roll_back(cloud: Cloud, services: Sequence[str], parts: Sequence[Part], say: Say) -> None:
    """What served before the last release serves again, at once: parts first. Done twice, it is as done once.

    A release that was killed has left its candidates. Where one of them has traffic, that release is gone back from;
    where none has, there is nothing to go back from, and the release before it is not what is meant.
    """
    found = {name: [_target(each) for each in cloud.service(name).get("traffic", [])] for name in services}
    candidates = [each for traffic in found.values() for each in traffic if each.tag == CANDIDATE]
    idle = bool(candidates) and not any(each.percent for each in candidates)
    failed = []
    for part in () if idle else parts:
        try:
            part.back()
        except Failed as error:
            failed.append(f"{_name(part)}: {error}")
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
        raise Busy(f"{service['name']}: another release is under way, or was killed: wait for it, or --back")


def _name(part: Part) -> str:
    return type(part).__name__.lower()


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
    public = service["ingress"] == "INGRESS_TRAFFIC_ALL"
    return Service(name, before, revision, addresses[0], _audience(service), public)


def _audience(service: Resource) -> str:
    return str([*service.get("customAudiences", []), service["uri"]][0])
