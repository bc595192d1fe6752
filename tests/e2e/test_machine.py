"""Requests, crashes, duplicates, holds, cancels, approvals and clocks in any order: none lost, doubled or half done."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.conftest import People
from tests.e2e.jobs import Stage, queue_path
from tests.e2e.world import World

EXAMPLES, STEPS = 20, 22


class Machine(RuleBasedStateMachine):
    """What may happen, in any order; `stage` and `people` are set by the test. Draws depend on nothing else."""

    stage: Stage
    people: People
    world: World

    @initialize(policy=st.sampled_from(["keep_pseudonymous", "erase", "approve"]))
    def begin(self, policy: str) -> None:
        self.world = World(self.stage, self.people, policy)

    @rule(scope=st.sampled_from(["me", "me", "user", "organization"]))
    def request(self, scope: str) -> None:
        self.world.request(scope, self.world.dan)

    @rule()
    def request_another(self) -> None:
        self.world.request("user", self.world.vera)

    @rule()
    def letter(self) -> None:
        self.world.letter(self.world.dan)

    @rule(whole=st.booleans())
    def hold(self, whole: bool) -> None:
        self.world.hold(whole=whole)

    @rule()
    def release(self) -> None:
        self.world.release()

    @rule(number=st.integers(0, 3))
    def cancel(self, number: int) -> None:
        if jobs := self.world.asked:
            self.world.cancel(jobs[number % len(jobs)])

    @rule(policy=st.sampled_from([None, "erase", "keep_pseudonymous"]))
    def approve(self, policy: str | None) -> None:
        for job, (_, _, _, waits) in self.world.jobs().items():
            if waits:
                self.world.approve(job, policy)

    @rule(hours=st.sampled_from([1, 24 * 8, 24 * 40]))
    def later(self, hours: int) -> None:
        self.world.move_clock(hours)

    @rule(number=st.integers(0, 5), calls=st.integers(1, 20), lost=st.booleans())
    def deliver(self, number: int, calls: int, lost: bool) -> None:
        """A message arrives, for the first time or once more; its execution stops after some calls."""
        if messages := self.world.messages():
            self.world.advance(self.world.deliver(messages[number % len(messages)]), calls, lost=lost)

    @rule(number=st.integers(0, 3), calls=st.integers(1, 20), lost=st.booleans())
    def go_on(self, number: int, calls: int, lost: bool) -> None:
        if running := [each for each in self.world.executions if not each.over]:
            self.world.advance(running[number % len(running)], calls, lost=lost)

    @rule()
    def requeue(self) -> None:
        self.world.requeue()

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.settle()


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
def test_any_order(stage: Stage, people: People) -> None:
    stage._tasks().pause_queue(name=queue_path("jobs"), timeout=10)

    class Bound(Machine):
        pass

    Bound.stage, Bound.people = stage, people
    run_state_machine_as_test(
        Bound,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=True,
            database=None,
            phases=[Phase.generate],  # a failure tells its steps; to shorten them would take minutes
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
