"""The picture of the data map: whose data are used for what, and who is given some; Mermaid, which GitHub draws."""

from common.register import Activity, Place, Register, Table

EVERYTHING = "hosting"  # is given everything: no arrows, they would hide the others
BOXES = {"platform": "The operator decides", "tenant": "The organization decides"}


def picture(known: Register) -> list[str]:
    """Lines of a flow chart: people → activities → recipients."""
    return [
        "```mermaid",
        "flowchart LR",
        *_people(known),
        *(line for controller in BOXES for line in _activities(known, controller)),
        *_recipients(known),
        *(
            f"  people_{name} --> {activity.name}"
            for activity in known.activities.values()
            for name in known.people
            if any(name in each.people for each in _of(known, activity))
        ),
        *(
            f"  {activity.name} --> to_{name}"
            for activity in known.activities.values()
            for name in known.parties
            if name != EVERYTHING and any(name in each.recipients for each in _of(known, activity))
        ),
        "```",
        "",
    ]


def _of(known: Register, activity: Activity) -> list[Table | Place]:
    """What serves an activity, but for the places that hold a bit of everything."""
    places = [place for place in known.places.values() if set(place.people) != set(known.people)]
    holders: list[Table | Place] = [*known.tables.values(), *places]
    return [each for each in holders if each.activity == activity]


def _people(known: Register) -> list[str]:
    return ["  subgraph people", *(f'    people_{name}(["{name}"])' for name in known.people), "  end"]


def _activities(known: Register, controller: str) -> list[str]:
    found = [each for each in known.activities.values() if each.controller == controller]
    return [
        f'  subgraph {controller}["{BOXES[controller]}"]',
        *(f'    {each.name}["{each.title}"]' for each in found),
        "  end",
    ]


def _recipients(known: Register) -> list[str]:
    found = [party for party in known.parties.values() if party.name != EVERYTHING]
    return ["  subgraph recipients", *(f'    to_{party.name}["{party.title}"]' for party in found), "  end"]
