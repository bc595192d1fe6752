"""One secret's turn: what its ring needs today, written in an order in which a crash between two steps harms nobody.

Who verifies learns of a key before anyone signs with it, and forgets it after the last one has stopped: the database's
table comes first and goes last for context keys, the ring of public halves comes before the ring of access tokens.
"""

import base64
from dataclasses import dataclass

from common import kms
from common.settings import settings
from common.tokens import SIGNING_RING, VERIFYING_RING
from functions.keys import policies, queries, rings, wrapping
from functions.keys.rings import Policy, Ring
from functions.keys.vault import Vault


@dataclass(frozen=True)
class Turn:
    """One secret at one moment."""

    vault: Vault
    id: str
    policy: Policy
    now: int

    def take(self) -> list[str]:
        """Do what is due, and say it. Raises GoogleAPIError, Overtaken, or Problem of the database."""
        number, ring = self.vault.newest(self.id)
        if self.id == SIGNING_RING:
            ring_after, done = self._access_tokens(ring)
        elif self.id.startswith(policies.CONTEXT):
            ring_after, done = self._context(ring)
        else:
            ring_after, done = rings.advance(ring, self.now, self.policy)
        if self.id in policies.WRAPPED:
            ring_after, wrapped = wrapping.wrapped(self.id, ring_after, kms.wrap)
            done += wrapped
        if ring_after != ring:
            self.vault.add(self.id, ring_after, number)
        if self.id.startswith(policies.CONTEXT):
            done += self._forget_context(ring_after)
        return done + self.vault.tidy(self.id, ring_after, self.now, settings().key_version_seconds)

    def _access_tokens(self, ring: Ring) -> tuple[Ring, list[str]]:
        number, known = self.vault.newest(VERIFYING_RING)
        ring_again = rings.publish_again(ring, set(known["keys"]), self.now)
        ring_after, done = rings.advance(ring_again, self.now, self.policy)
        wanted = rings.verifying(ring_after)
        if wanted != known:
            self.vault.add(VERIFYING_RING, wanted, number)
        self.vault.tidy(VERIFYING_RING, wanted, self.now, settings().key_version_seconds)
        return ring_after, done

    def _context(self, ring: Ring) -> tuple[Ring, list[str]]:
        """The database knows every key of the ring, also one that was lost there, before the ring goes on."""
        self._introduce(ring, ring)
        ring_after, done = rings.advance(ring, self.now, self.policy)
        self._introduce(ring, ring_after)
        return ring_after, done

    @staticmethod
    def _introduce(ring: Ring, wanted: Ring) -> None:
        known = queries.select_context_kids(list(ring["keys"]))
        for kid, each in wanted["keys"].items():
            if kid not in known:
                key = base64.urlsafe_b64decode(each["key"] + "=" * (-len(each["key"]) % 4))
                queries.add_context_key(list(ring["keys"]), kid, key)

    @staticmethod
    def _forget_context(ring: Ring) -> list[str]:
        """Keys that are in no ring: retired ones, and what a run that died left behind."""
        kept = list(ring["keys"])
        gone = [kid for kid in queries.select_context_kids(kept) if kid not in kept]
        for kid in gone:
            queries.retire_context_key(kid, kept)
        return [f"forgot {kid}" for kid in gone]
