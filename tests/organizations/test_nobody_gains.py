"""Whatever people do with roles, members, invitations and keys: nobody gets, or takes, what the doer lacks.

The machine knows nothing of the rules. It looks at what everybody may do before and after each step, as the database
says it to every request, and judges by the one who did it alone. Steps that are refused are steps too.
"""

import hashlib
import itertools
import uuid
from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from functions.organizations.permissions import BUILT_IN
from tests.conftest import Person
from tests.organizations.support import PASSWORD, accept

CODES = (
    *("organizations.view", "users.invite", "users.remove", "user.manage", "role.manage", "apikey.manage"),
    *("project.view", "billing.edit", "organizations.delete"),
)
MANAGER = {"organizations.view", "users.invite", "users.remove", "user.manage", "role.manage", "apikey.manage"}
# Half of the steps are of those who may do much and lack something; half of the roles are the highest or the newest.
WHO = st.one_of(st.integers(1, 2), st.integers(0, 11))
WHAT = st.one_of(st.sampled_from([0, 1, -1]), st.integers(0, 9))
SOME = st.sets(st.sampled_from(CODES), max_size=5)
CORE = {"make role", "change role", "change member", "remove member", "invite", "make key"}
numbers = itertools.count()


class Organization(RuleBasedStateMachine):
    """One organization and everything that happens in it."""

    def __init__(self, api, admin, people, seen):
        super().__init__()
        self.api, self.admin, self.people, self.seen = api, admin, people, seen
        self.roles, self.invitations, self.keys = [], [], []

    @initialize()
    def begin(self):
        """An owner, an admin, a manager and a treasurer, each with what another lacks, a viewer, and a stranger."""
        owner = self.people.create("owner")
        self.tenant = owner.tenant_id
        self.persons = [owner, *(self.people.create(name, self.tenant) for name in ("admin", *["viewer"] * 3))]
        for number, name, permissions in ((2, "Manager", MANAGER), (3, "Treasurer", {"project.view", "billing.edit"})):
            body = {"name": name, "permissions": sorted(permissions)}
            self.roles.append((self.api.post("/v1/roles", json=body, headers=owner).json["id"], name))
            path = f"/v1/members/{self.persons[number].user_id}"
            assert self.api.patch(path, json={"role": name}, headers=owner).status_code == 200
        self.persons.append(self.people.create("owner"))  # of another organization
        self.before = self.look()
        if not self.seen:
            self.each_once(0)
            self.each_once(4)

    def each_once(self, who):
        """What must have worked once, and been refused once, before chance takes over: by the owner, by the viewer."""
        self.make_role(who, {"project.view"})
        self.change_role(who, 0, MANAGER - {"users.invite"})
        self.invite(who, -1, known=False)
        self.accept(-1)
        self.make_key(who, {"project.view"})
        self.change_member(who, 3, -1)
        self.remove_member(who, 3)

    def look(self):
        """Who may do what: members by id, keys by hash."""
        members = self.admin.run(
            "SELECT user_id::text, app.credential('u', tenant_id, user_id, NULL, true)::json -> 'permissions'"
            " FROM app.members WHERE tenant_id = :t",
            t=self.tenant,
        )
        keys = self.admin.run(
            "SELECT key_hash::text, app.credential('k', NULL, NULL, key_hash, false)::json -> 'permissions'"
            " FROM app.api_keys WHERE tenant_id = :t",
            t=self.tenant,
        )
        return {who: frozenset(permissions) for who, permissions in members + keys}

    def somebody(self, who):
        return self.persons[who % len(self.persons)]

    def credential(self, who):
        """Headers of a person or, for the higher numbers, of a key; and what it may do."""
        if who >= 9 and self.keys:
            headers, hashed = self.keys[who % len(self.keys)]
            return headers, self.before.get(hashed, frozenset())
        person = self.somebody(who)
        return person, self.before.get(person.user_id, frozenset())

    def judge(self, kind, answer, held, *, own=()):
        """What changed is within what the doer held; of those who lost something too. `own` may lose all."""
        assert answer.status_code < 500, (kind, answer.text)
        self.seen[kind, answer.status_code < 400] += 1
        after = self.look()
        for who in {*self.before, *after}:
            had, has = self.before.get(who, frozenset()), after.get(who, frozenset())
            assert has - had <= held, (kind, who, has - had, held)
            if had - has and who not in own and len(who) == 36 and who not in self.hashes():
                assert had <= held, (kind, who, had, held)
            if answer.status_code >= 400:
                assert has == had, (kind, who)
        self.before = after

    def hashes(self):
        """Keys lose what their makers lose."""
        return {hashed for _, hashed in self.keys}

    @rule(who=WHO, permissions=SOME)
    def make_role(self, who, permissions):
        headers, held = self.credential(who)
        name = f"Role {next(numbers)}"
        answer = self.api.post("/v1/roles", json={"name": name, "permissions": sorted(permissions)}, headers=headers)
        if answer.status_code == 201:
            self.roles.append((answer.json["id"], name))
        self.judge("make role", answer, held)

    @rule(who=WHO, what=WHAT, permissions=SOME)
    def change_role(self, who, what, permissions):
        headers, held = self.credential(who)
        path = f"/v1/roles/{self.roles[what % len(self.roles)][0]}"
        self.judge(
            "change role", self.api.patch(path, json={"permissions": sorted(permissions)}, headers=headers), held
        )

    @rule(who=WHO, what=WHAT)
    def delete_role(self, who, what):
        headers, held = self.credential(who)
        path = f"/v1/roles/{self.roles[what % len(self.roles)][0]}"
        self.judge("delete role", self.api.delete(path, headers=headers), held)

    def role_name(self, what):
        """A built-in role or one that was made."""
        names = [*BUILT_IN, *(name for _, name in self.roles)]
        return names[what % len(names)]

    @rule(who=WHO, whom=WHO, what=WHAT)
    def change_member(self, who, whom, what):
        headers, held = self.credential(who)
        path = f"/v1/members/{self.somebody(whom).user_id}"
        answer = self.api.patch(path, json={"role": self.role_name(what)}, headers=headers)
        self.judge("change member", answer, held)

    @rule(who=st.integers(0, 2), whom=st.integers(0, 4), what=WHAT)
    def change_colleague(self, who, whom, what):
        """The same among those who begin: what is refused here matters most."""
        self.change_member(who, whom, what)

    @rule(who=WHO, whom=WHO)
    def remove_member(self, who, whom):
        headers, held = self.credential(who)
        gone = self.somebody(whom).user_id
        own = (gone,) if isinstance(headers, Person) and headers.user_id == gone else ()
        self.judge("remove member", self.api.delete(f"/v1/members/{gone}", headers=headers), held, own=own)

    @rule(who=WHO, what=WHAT, known=st.booleans())
    def invite(self, who, what, known):
        headers, held = self.credential(who)
        strangers = [person for person in self.persons if person.user_id not in self.before]
        email = strangers[0].email if known and strangers else f"{uuid.uuid4().hex}@example.org"
        body = {"email": email, "role": self.role_name(what)}
        answer = self.api.post("/v1/invitations", json=body, headers=headers)
        if answer.status_code == 201:
            self.invitations.append((answer.json["id"], email))
        self.judge("invite", answer, held)

    @rule(who=WHO, what=WHAT)
    def resend(self, who, what):
        if self.invitations:
            headers, held = self.credential(who)
            path = f"/v1/invitations/{self.invitations[what % len(self.invitations)][0]}/resend"
            self.judge("resend", self.api.post(path, headers=headers), held)

    @rule(what=WHAT)
    def accept(self, what):
        """What the invited person gets, whoever invites her holds at that moment. The mail is ours to read."""
        if not self.invitations:
            return
        invitation, email = self.invitations[what % len(self.invitations)]
        token = uuid.uuid4().hex
        inviter = self.admin.run(
            "UPDATE app.invitations SET token_hash = :hash, armed = generation WHERE id = :id"
            " RETURNING invited_by::text",
            hash=hashlib.sha256(token.encode()).digest(),
            id=invitation,
        )[0][0]
        held = self.before.get(inviter, frozenset())
        known = next((person for person in self.persons if person.email == email), None)
        if known:
            answer = accept(self.api, token, self.people.log_in(known, tenant_id=self.home(known)))
        else:
            answer = accept(self.api, token, password=PASSWORD, display_name="Somebody New")
        if answer.status_code == 200:
            user, new = answer.json["user"]["id"], answer.json["access_token"]
            self.persons = [person for person in self.persons if person.user_id != user]
            self.persons.append(Person(user, self.tenant, email, "Somebody New", "", new))
        self.judge("accept", answer, held)

    def home(self, person):
        """An organization of hers."""
        found = self.admin.run("SELECT tenant_id::text FROM app.members WHERE user_id = :u", u=person.user_id)
        return found[0][0] if found else self.tenant

    @rule(what=WHAT)
    def the_last_inviter_loses(self, what):
        """Between an invitation and its acceptance: what seldom happens by chance."""
        if self.invitations:
            last = "SELECT invited_by::text FROM app.invitations WHERE id = :id"
            inviter = self.admin.run(last, id=self.invitations[-1][0])[0][0]
            owner = self.persons[0]
            path = f"/v1/members/{inviter}"
            if what % 2:
                answer = self.api.delete(path, headers=owner)
            else:
                answer = self.api.patch(path, json={"role": "viewer"}, headers=owner)
            self.judge("demote inviter", answer, self.before.get(owner.user_id, frozenset()), own=(owner.user_id,))
            self.accept(-1)

    @rule(who=WHO, permissions=SOME)
    def make_key(self, who, permissions):
        person, held = self.credential(who)
        body = {"name": "robot", "permissions": sorted(permissions) or ["project.view"]}
        answer = self.api.post("/v1/api-keys", json=body, headers=person)
        if answer.status_code == 201:
            (hashed,) = self.admin.run("SELECT key_hash::text FROM app.api_keys WHERE id = :id", id=answer.json["id"])[
                0
            ]
            self.keys.append(({"Authorization": f"Bearer {answer.json['key']}"}, hashed))
        self.judge("make key", answer, held)

    @invariant()
    def somebody_owns(self):
        """Always."""
        if hasattr(self, "tenant"):
            owners = "SELECT count(*) FROM app.members WHERE tenant_id = :t AND role = 'owner'"
            assert self.admin.run(owners, t=self.tenant)[0][0] >= 1


def test_nobody_gains_what_the_doer_lacks(api, admin, people):
    seen = Counter()

    run_state_machine_as_test(
        lambda: Organization(api, admin, people, seen),
        settings=settings(
            max_examples=60, stateful_step_count=30, deadline=None, database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip

    done = {kind for kind, worked in seen if worked}
    refused = {kind for kind, worked in seen if not worked}
    assert done >= {*CORE, "accept"}, seen
    assert refused >= CORE, seen
