"""Teams: members of the organization in groups. They give no permission."""

from common.http import Call, Json, Table
from functions.organizations import team_queries as queries
from functions.organizations.people_schemas import (
    NewTeam,
    Team,
    TeamChange,
    TeamFilter,
    TeamMemberFilter,
    TeamMemberPage,
    TeamPage,
)

part = Table()
TEAM = "/v1/teams/<uuid:team_id>"
TAKEN = ("team_name_taken",)


@part.on("GET", "/v1/teams", needs="organizations.view", query=TeamFilter, body=None, answers=TeamPage, single=True)
def list_teams(call: Call) -> Json:
    """List the organization's teams, newest first."""
    items, last = queries.list_teams(call.tx, limit=call.query["limit"], after=call.after())
    return call.page(items, last)


@part.on("POST", "/v1/teams", needs="team.manage", body=NewTeam, answers=Team, status=201, errors=TAKEN)
def create_team(call: Call) -> Json:
    """Make a team."""
    team = queries.insert_team(call.tx, **call.body)
    call.audit("team.created", team.id)
    call.headers["Location"] = f"/v1/teams/{team.id}"
    return team


@part.on("GET", TEAM, needs="organizations.view", body=None, answers=Team, single=True)
def get_team(call: Call) -> Json:
    """Read a team."""
    return queries.select_team(call.tx, call.path["team_id"])


@part.on("PATCH", TEAM, needs="team.manage", body=TeamChange, answers=Team, errors=TAKEN)
def change_team(call: Call) -> Json:
    """Change some fields of a team."""
    team = queries.update_team(call.tx, call.path["team_id"], call.if_match, call.body)
    call.audit("team.updated", team.id, fields=sorted(call.body))
    return team


@part.on("DELETE", TEAM, needs="team.manage", body=None, answers=None, status=204)
def delete_team(call: Call) -> None:
    """Delete a team; its members stay in the organization."""
    queries.delete_team(call.tx, call.path["team_id"], call.if_match)
    call.audit("team.deleted", call.path["team_id"])


@part.on(
    "GET", f"{TEAM}/members", needs="organizations.view", query=TeamMemberFilter, body=None, answers=TeamMemberPage,
    records=True,
)  # fmt: skip
def list_team_members(call: Call) -> Json:
    """List a team's members, those who joined last first."""
    items, last = queries.list_team_members(
        call.tx, call.path["team_id"], limit=call.query["limit"], after=call.after()
    )
    call.audit("member.read", team_id=call.path["team_id"])
    return call.page(items, last)


@part.on("PUT", f"{TEAM}/members/<uuid:user_id>", needs="team.manage", body=None, answers=None, status=204)
def add_team_member(call: Call) -> None:
    """Put a member of the organization into a team; one who is there already stays."""
    if queries.insert_team_member(call.tx, call.path["team_id"], call.path["user_id"]):
        call.audit("team.member_added", call.path["team_id"], user_id=call.path["user_id"])


@part.on("DELETE", f"{TEAM}/members/<uuid:user_id>", needs="team.manage", body=None, answers=None, status=204)
def remove_team_member(call: Call) -> None:
    """Take a member out of a team."""
    queries.delete_team_member(call.tx, call.path["team_id"], call.path["user_id"])
    call.audit("team.member_removed", call.path["team_id"], user_id=call.path["user_id"])
