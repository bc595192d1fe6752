"""`make demo`: two organizations, a live session, one erasure, told step by step with what each step proves.

A stack of its own is started and thrown away; `--stack` takes a running one. The exit code is 0 when everything held.
"""

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from requests import RequestException

from local.demo import erasure, live, proof, story
from local.demo.client import TooLate
from local.demo.console import Broken, Console
from local.demo.people import Person, person
from local.demo.throwaway import read, throwaway


def together(*acts: Callable[[], Any]) -> list[Any]:
    """Let people act at the same time; the first exception of any of them is raised when all have ended."""
    with ThreadPoolExecutor(len(acts)) as pool:
        return [future.result() for future in [pool.submit(act) for act in acts]]


def play(console: Console, stack: dict[str, Any], name: str | None) -> None:
    """The whole story. Raises Broken or TooLate when it cannot go on."""
    ada = person(stack, "Zelda", "Quøstvåry", name)
    otto = person(stack, "Wilmar", "Brœntløkk")

    def both(act: Callable[[Console, Person], None]) -> None:
        together(lambda: act(console, ada), lambda: act(console, otto))

    console.title("1  Two people register, each with an organization")
    both(story.register)
    console.title("2  They work")
    both(story.work)
    console.title("3  Neither sees the other")
    together(lambda: story.trespass(console, ada, otto), lambda: story.trespass(console, otto, ada))
    console.title("4  They log in again")
    both(story.log_in_again)
    console.title("5  Both export their data")
    both(story.export)
    links = together(lambda: story.download(console, ada, otto), lambda: story.download(console, otto, ada))
    story.forge(console, ada, links[0])
    console.title(f"6  {otto.nick} opens a session, two watch it, a replica dies")
    together(lambda: live.show(console, stack, otto), lambda: story.expire(console, ada, links[0]))
    leave(console, stack, ada, otto)


def leave(console: Console, stack: dict[str, Any], leaving: Person, staying: Person) -> None:
    """One of the two is erased."""
    console.title(f"7  {leaving.nick} leaves")
    erasure.present(console, stack, leaving, staying)
    before = proof.fingerprint(staying)
    events = proof.chain(staying)
    erasure.step_up(console, leaving)
    erasure.rehearse(console, leaving)
    id = erasure.erase(console, leaving)
    erasure.follow(console, leaving, id)
    console.title(f"8  {staying.nick} has lost nothing")
    erasure.unharmed(console, staying, before, events)
    console.title(f"9  Nothing of {leaving.nick} is left")
    erasure.gone(console, stack, leaving, staying)


def main() -> int:
    """Play, and say whether everything held."""
    parser = argparse.ArgumentParser(prog="python -m local.demo", description=__doc__)
    parser.add_argument("--stack", type=Path, help="stack.json of a running stack; without it one is started")
    parser.add_argument("--name", help="display name of the person who is erased (default: a new one)")
    arguments = parser.parse_args()
    console = Console()
    console.title("Dev Context: two organizations, a live session, one erasure")
    console.say("the whole cloud starts on this machine" if arguments.stack is None else f"on {arguments.stack}")
    try:
        with nullcontext(read(arguments.stack)) if arguments.stack else throwaway() as stack:
            console.say(f"ready after {console.seconds:.1f} s: {stack['api']}, mails at {stack['mail']}")
            play(console, stack, arguments.name)
    except (Broken, TooLate, RequestException, CalledProcessError) as error:
        console.check(False, "demo", "goes on", error)
    except KeyboardInterrupt:
        console.check(False, "demo", "was stopped")
    return console.verdict()


if __name__ == "__main__":
    sys.exit(main())
