"""Training data as scripts make it, and prompts as people write them: ``python benchmarks/templated.py``.

Six invented applications, one route each. A route's rows come from six templates whose places are filled at random,
so that every row has near twins: left-out rows of such data look easier than anything a person will ever write. The
45 prompts for testing were written by hand, without the templates in view: five for each route, and fifteen that
belong to none, of which every second one is about the same things as one of the routes.
"""

from __future__ import annotations

import random
import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from routing_data import BenchmarkData, training_rows

from domain.samples import RoutingSample

SLOTS: Mapping[str, tuple[str, ...]] = {
    "day": tuple(str(day) for day in range(1, 29)),
    "month": ("January", "March", "April", "June", "July", "September", "October", "December"),
    "weekday": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "hour": tuple(f"{hour}:{minute}" for hour in range(8, 20) for minute in ("00", "15", "30", "45")),
    "number": tuple(str(number) for number in range(2, 60)),
    "person": ("Amira", "Bogdan", "Chloe", "Davide", "Eun-ji", "Farid", "Greta", "Hamza", "Ines", "Jonas"),
    "crop": ("tomatoes", "cucumbers", "lettuce", "peppers", "basil", "strawberries", "orchids", "seedlings"),
    "code": tuple(f"{letters}-{number}" for letters in ("PX", "QT", "RW") for number in range(4100, 4160)),
    "city": ("Lyon", "Turin", "Porto", "Gdansk", "Malmo", "Ghent", "Graz", "Cork"),
    "title": ("The Salt Road", "Winter Harbour", "A Short History of Glass", "Seven Maps", "The Orchard Thief"),
    "meter": tuple(f"M{number}" for number in range(210, 260)),
    "reading": tuple(str(number) for number in range(10250, 19990, 37)),
    "room": ("north wing", "sculpture hall", "mineral room", "planetarium", "roof terrace", "print cabinet"),
    "shift": ("early", "late", "night", "weekend"),
}

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "greenhouse": (
        "Set the vents in bay {number} to {number} percent",
        "Water the {crop} in bay {number} for {number} minutes",
        "Set the night temperature of bay {number} to {number} degrees",
        "Switch the lamps above the {crop} on at {hour}",
        "Close the shade screens over bay {number} at {hour}",
        "Add {number} millilitres of feed to the tank of the {crop}",
    ),
    "parcel-desk": (
        "Mark parcel {code} as handed over to flat {number}",
        "Print a label for parcel {code} to {city}",
        "Put parcel {code} on shelf {number}",
        "Send parcel {code} back to {city}",
        "Log parcel {code} with a weight of {number} kilograms",
        "Send a pickup notice for parcel {code} to {person}",
    ),
    "shift-rota": (
        "Assign {person} to the {shift} shift on {weekday}",
        "Swap the {shift} shift of {person} on {weekday} with {person}",
        "Remove {person} from the {shift} shift on {day} {month}",
        "Add a {shift} shift from {hour} on {weekday}",
        "Mark {person} as sick from {day} {month}",
        "Publish the rota for the week of {day} {month}",
    ),
    "library-loans": (
        "Renew {title} for member {number}",
        "Return {title} from member {number}",
        "Reserve {title} for {person}",
        "Waive the fine of member {number} for {title}",
        "Register {person} as member {number}",
        "Lend {title} to member {number} until {day} {month}",
    ),
    "meter-readings": (
        "Enter {reading} for meter {meter}",
        "Enter {reading} as the reading of meter {meter} on {day} {month}",
        "Correct the reading of meter {meter} from {reading} to {reading}",
        "Show the readings of meter {meter} since {day} {month}",
        "Replace meter {meter} with meter {meter} at {reading}",
        "Estimate the reading of meter {meter} for {day} {month}",
    ),
    "museum-tickets": (
        "Click {day} {month} in the calendar",
        "Select the {hour} slot for the {room}",
        "Add {number} adult tickets for the {room} on {day} {month}",
        "Add {number} child tickets on {weekday} at {hour}",
        "Move booking {number} to {day} {month} at {hour}",
        "Cancel booking {number} for the {room}",
    ),
}

BY_HAND: Mapping[str, tuple[str, ...]] = {
    "greenhouse": (
        "It's getting really stuffy in the third bay, can you let some air in?",
        "the basil looks a bit droopy, give it a drink",
        "frost warning tonight so keep things at 12 or above in the back bays please",
        "Could we have the grow lights come on an hour earlier for the peppers from tomorrow?",
        "too much sun on the orchids, pull the shades",
    ),
    "parcel-desk": (
        "The lady from number 14 just came down and took her package, it was PX-4123.",
        "hey there's a box here for Jonas that's been sitting around for a week, can you remind him to come get it",
        "This one was refused at the door, so it has to go back to the sender in Ghent.",
        "i need a shipping label for QT-4107, it's going to porto",
        "New delivery came in, about 6 kilos, code RW-4155. Where should I put it?",
    ),
    "shift-rota": (
        "Greta can't make it on Thursday night, Farid said he'd take it instead",
        "who's got a fever again... Hamza. take him off until the 12th please",
        "We're short on Saturday. Could you squeeze in somebody else for the late one?",
        "I think next week's schedule is final now, everybody should be able to see it",
        "put me down for earlies on monday and tuesday, this is Ines",
    ),
    "library-loans": (
        "I haven't finished Winter Harbour yet, could I keep it for two more weeks?",
        "Somebody dropped Seven Maps in the book box, it was out to member 31, so check it in",
        "Mrs Novak wants to be told as soon as the Salt Road is back, put her on the list",
        "he was in hospital when it was due, so forget about the late fee",
        "new reader at the counter, her name's Chloe, she'd like a card",
    ),
    "meter-readings": (
        "I've just been down in the cellar and it says 11873 on M223",
        "typo on my side!! M240 should have been 15210 and not 12510",
        "Nobody was home at the flat, so just put in a guess for the one with M217 for the end of June",
        "What did the electricity counter M231 show over the last few months?",
        "they fitted a new counter this morning, M255 came out at 17344 and M256 went in",
    ),
    "museum-tickets": (
        "There'll be four of us and two kids, sometime on Sunday afternoon, for the planetarium",
        "we can't come after all, please drop our booking, it's number 37",
        "Is quarter past ten still free for the mineral room? If so we'll have that.",
        "the school trip is now on 9 June instead of the 2nd, same time, can you change it",
        "pick the seventeenth of October for me",
    ),
}

OUT_OF_SCOPE: tuple[str, ...] = (
    "How do I keep tomatoes on my balcony from getting blossom end rot?",
    "Write me a limerick about a lighthouse keeper.",
    "which is the best courier for sending a guitar overseas, and roughly what would it cost",
    "What's the difference between a virus and a bacterium?",
    "Draft a letter of resignation for a night nurse who has had enough.",
    "translate 'where is the nearest pharmacy' into polish",
    "Who wrote The Master and Margarita, and is it worth reading?",
    "my python script says list index out of range, what does that mean",
    "How can I bring down the electricity bill of a three-room flat?",
    "what should i cook tonight with leeks and half a pack of bacon",
    "Which museums in Vienna are worth a visit with teenagers?",
    "Give me a training plan for my first half marathon.",
    "Is it legal to make staff work two weekends in a row in Germany?",
    "hi",
    "Explain compound interest to a ten-year-old.",
)


def draw(samples: int, seed: int) -> BenchmarkData:
    """Return `samples` script-made rows per route, four fifths to train on, and the hand-written prompts."""
    routes = tuple(TEMPLATES)
    train: list[RoutingSample] = []
    val: list[RoutingSample] = []
    for label, route in enumerate(routes):
        texts = generate(route, samples, seed)
        rows = [RoutingSample(text, label, route, f"{route}-{i}") for i, text in enumerate(texts)]
        train += rows[: training_rows(samples)]
        val += rows[training_rows(samples) :]
    test = [
        RoutingSample(text, label, route, f"{route}-by-hand-{i}")
        for label, route in enumerate(routes)
        for i, text in enumerate(BY_HAND[route])
    ]
    random.Random(f"{seed} order").shuffle(train)
    return BenchmarkData(routes, tuple(train), tuple(val), tuple(test), OUT_OF_SCOPE)


def generate(route: str, count: int, seed: int) -> list[str]:
    """Return that many different prompts of a route, as a script would write them."""
    rng = random.Random(f"{seed} {route}")
    made: dict[str, None] = {}
    while len(made) < count:
        made[re.sub(r"\{(\w+)\}", lambda place: rng.choice(SLOTS[place[1]]), rng.choice(TEMPLATES[route]))] = None
    return list(made)


if __name__ == "__main__":
    data = draw(50, seed=42)
    print(Counter(row.adapter for row in data.train), *(row.text for row in data.train[:12]), sep="\n")
