"""Documents of three kinds, and questions of which each is answered by one known piece.

    api         reference pages: a page for each thing, a section for each function on it
    handbook    rules of a company: a chapter for each matter, a section for who, when, how much and what else
    tickets     messages to a support desk: one trouble each, with what was tried and what helped

Sections of one kind share most of their words, as real ones do. A question picks the section by two or three
ideas, and words each idea as the section does or in another way, by chance. All of it is made here, from a
seed; nothing is taken from anywhere.

What is not covered: long documents, and questions that several pieces answer together.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from memory.knowledge.chunks import Document, DocumentPart

QUESTIONS = 180
"""Of each kind."""

SAME_WORDS = 0.5

Words = tuple[str, ...]
"""Ways to say one thing."""


@dataclass(frozen=True)
class KnownItem:
    question: str
    ref: str
    heading: str
    """The section that answers it."""


@dataclass(frozen=True)
class Corpus:
    name: str
    documents: dict[str, Document]
    items: tuple[KnownItem, ...]


# --- reference pages

THINGS: dict[str, Words] = {
    "archive": ("archive", "compressed bundle", "zip file"),
    "queue": ("queue", "waiting line of jobs", "backlog"),
    "calendar": ("calendar", "diary", "schedule of dates"),
    "ledger": ("ledger", "account book", "bookkeeping record"),
    "mailbox": ("mailbox", "inbox", "store of e-mail"),
    "picture": ("picture", "image", "photo"),
    "route": ("route", "path between places", "itinerary"),
    "sensor": ("sensor", "measuring probe", "thermometer or gauge"),
    "cache": ("cache", "store of recent results", "buffer of answers"),
    "table": ("table", "spreadsheet grid", "rows and columns"),
    "certificate": ("certificate", "signed credential", "TLS identity"),
    "playlist": ("playlist", "list of songs", "sequence of tracks"),
    "invoice": ("invoice", "bill", "demand for payment"),
    "glossary": ("glossary", "dictionary of terms", "word list"),
    "snapshot": ("snapshot", "saved state", "point-in-time copy"),
    "printer": ("printer", "printing device", "machine that puts ink on paper"),
    "session": ("session", "login period", "signed-in visit"),
    "recipe": ("recipe", "cooking instructions", "way to make a dish"),
    "vehicle": ("vehicle", "car or truck", "automobile"),
    "patient": ("patient", "person under treatment", "someone who is ill"),
}
ACTS: dict[str, Words] = {
    "create": ("creates", "makes a new", "sets up"),
    "remove": ("removes", "deletes", "gets rid of"),
    "rename": ("renames", "gives another name to", "changes the title of"),
    "copy": ("copies", "duplicates", "clones"),
    "compare": ("compares", "finds differences in", "tells what is unlike in"),
    "list": ("lists the parts of", "enumerates", "shows what is in"),
    "watch": ("watches", "notifies of changes to", "observes"),
    "restore": ("restores", "recovers", "brings back"),
    "lock": ("locks", "prevents others from changing", "reserves"),
    "export": ("exports", "writes out", "saves elsewhere"),
    "check": ("checks", "validates", "makes sure of the integrity of"),
    "merge": ("merges", "combines", "joins into one"),
}
CASES: dict[str, Words] = {
    "missing": ("if it does not exist", "when there is none", "in case it cannot be found"),
    "busy": ("if another process uses it", "while someone else has it open", "when it is in use"),
    "full": ("if the disk is full", "when no space is left", "once storage runs out"),
    "broken": ("if it is damaged", "when its content is corrupt", "in case it cannot be parsed"),
    "denied": ("if permission is lacking", "when access is refused", "without the right to do so"),
    "slow": ("if it takes too long", "after the timeout", "when no reply comes in time"),
    "large": ("if it is larger than the limit", "when it is too big", "above the maximum size"),
    "empty": ("if nothing is in it", "when it is empty", "for one without content"),
}
RESULTS = (
    "raises an error",
    "returns None",
    "tries again twice",
    "logs a warning and goes on",
    "returns False",
)
SMALL_PRINT = (
    "It is safe to call it from several threads.",
    "The options are passed on to the backend unchanged.",
    "It was added in the second version of the library and has been stable since.",
    "See the overview for how calls are grouped into transactions.",
    "The default of `strict` is taken from the configuration of the process.",
    "Names are compared without regard to case unless `exact` is set.",
    "With `dry_run`, it says what would be done and changes nothing.",
    "The return value can be passed to any other function of this page.",
)


def _api(rng: random.Random) -> tuple[dict[str, Document], list[KnownItem]]:
    documents, items = {}, []
    for thing, names in THINGS.items():
        sections = []
        for act, says in rng.sample(sorted(ACTS.items()), 9):
            heading = f"{act}_{thing}"
            case, when = rng.choice(sorted(CASES.items()))
            other = rng.choice([one for one in CASES if one != case])
            used = [_worded(rng, one) for one in (says, names, when)]
            sections.append(
                f"## `{heading}(source, *, strict=None, dry_run=False)`\n\n"
                f"{used[0][0].capitalize()} the {used[1][0]}. {used[2][0].capitalize()}, it "
                f"{rng.choice(RESULTS)}; {rng.choice(CASES[other])}, it {rng.choice(RESULTS)}.\n\n"
                f"{_filler(rng, SMALL_PRINT, 4)}\n"
            )
            again = [_reworded(rng, one) for one in used]
            question = f"What {again[0]} the {again[1]}, and what happens {again[2]}?"
            items.append(KnownItem(question, f"/api/{thing}.md", heading))
        intro = f"# Working with the {names[0]}\n\nThe functions of this page are about the {names[1]}.\n"
        documents[f"/api/{thing}.md"] = _markdown(f"The {names[0]} module", [intro, *sections])
    return documents, items


# --- a handbook

MATTERS: dict[str, Words] = {
    "holidays": ("annual leave", "holidays", "vacation days"),
    "sickness": ("sick leave", "absence through illness", "days off when unwell"),
    "travel": ("business trips", "travel for the company", "journeys to customers"),
    "laptops": ("laptops", "portable computers", "notebooks handed out by IT"),
    "parking": ("parking spaces", "places for cars", "the garage"),
    "visitors": ("visitors", "guests in the building", "people from outside"),
    "training": ("courses", "further training", "professional education"),
    "overtime": ("overtime", "extra hours", "work beyond the usual day"),
    "meals": ("meals with clients", "restaurant bills", "lunches on the company"),
    "parents": ("parental leave", "time off for a new baby", "absence after a birth"),
    "homework": ("remote work", "working from home", "telecommuting"),
    "badges": ("access badges", "key cards", "door passes"),
    "phones": ("mobile phones", "company handsets", "cell phones"),
    "gifts": ("gifts from suppliers", "presents by vendors", "favours from partners"),
    "moving": ("relocation", "moving to another city", "change of residence"),
    "bikes": ("leased bicycles", "company bikes", "cycling to the office"),
    "releases": ("software releases", "deployments", "shipping a new version"),
    "incidents": ("security incidents", "data leaks", "suspected break-ins"),
}
ASPECTS: dict[str, tuple[str, Words, Words]] = {
    "who": (
        "Who decides",
        ("is approved by", "needs the consent of", "must be signed off by"),
        ("Who has to approve", "Whose consent is needed for", "Who signs off on"),
    ),
    "when": (
        "Deadlines",
        ("has to be announced", "is requested", "must be reported"),
        ("How long before must I announce", "What is the deadline for", "By when should I report"),
    ),
    "much": (
        "Limits",
        ("is limited to", "may cost at most", "is capped at"),
        ("What is the maximum for", "How much is allowed for", "What is the cap on"),
    ),
    "proof": (
        "Papers",
        ("is documented with", "requires", "has to be proved with"),
        ("Which paper do I need for", "What proof is required for", "What must I hand in for"),
    ),
    "lost": (
        "When something goes wrong",
        ("in case of loss or abuse is a matter for", "if misused is taken up with", "when it fails goes to"),
        (
            "Whom do I tell about trouble with",
            "Who handles abuse of",
            "Whom to call if something is wrong with",
        ),
    ),
}
PEOPLE = (
    "the team lead",
    "the head of department",
    "human resources",
    "facility management",
    "the board",
    "IT",
)
TIMES = (
    "two weeks ahead",
    "on the same day",
    "by the end of the month",
    "three working days before",
    "a quarter ahead",
)
SUMS = ("80 euros", "twelve days a year", "500 euros", "two per person", "a tenth of the salary", "30 hours")
PAPERS = ("a receipt", "a doctor's note", "form B7", "a signed list", "a written quote", "a photograph")
ANSWERS = {"who": PEOPLE, "when": TIMES, "much": SUMS, "proof": PAPERS, "lost": PEOPLE}
HABITS = (
    "The rule holds for all sites and for people on probation as well.",
    "Exceptions are possible, are granted in writing, and end with the calendar year.",
    "If two rules contradict each other, the one that is kinder to the employee is applied.",
    "Questions are answered in the open hour on Thursdays.",
    "The works council has agreed to this section.",
    "What was granted before this edition of the handbook remains valid.",
)


def _handbook(rng: random.Random) -> tuple[dict[str, Document], list[KnownItem]]:
    documents, items = {}, []
    for matter, names in MATTERS.items():
        sections, ref = [], f"/handbook/{matter}.md"
        for aspect, (title, says, asks) in ASPECTS.items():
            for group in rng.sample(("permanent staff", "interns", "contractors"), 2):
                heading, called = f"{title}: {group}", _worded(rng, names)
                sections.append(
                    f"## {heading}\n\nFor {group}, {called[0]} {rng.choice(says)} "
                    f"{rng.choice(ANSWERS[aspect])}. {_filler(rng, HABITS, 4)}\n"
                )
                question = f"{rng.choice(asks)} {_reworded(rng, called)}? I ask for {group}."
                items.append(KnownItem(question, ref, heading))
        documents[ref] = _markdown(names[0].capitalize(), [f"# {names[0].capitalize()}\n", *sections])
    return documents, items


# --- tickets

DEVICES: dict[str, Words] = {
    "coffee": ("coffee machine", "espresso maker"),
    "washer": ("washing machine", "laundry appliance"),
    "router": ("router", "wifi box"),
    "scale": ("kitchen scale", "weighing device"),
    "heater": ("radiator valve", "heating thermostat"),
    "lamp": ("desk lamp", "reading light"),
    "speaker": ("loudspeaker", "music box"),
    "camera": ("door camera", "video doorbell"),
    "vacuum": ("robot vacuum", "automatic floor cleaner"),
    "tv": ("television", "TV set"),
    "oven": ("oven", "stove"),
    "watch": ("smart watch", "fitness wristband"),
    "fridge": ("refrigerator", "fridge"),
    "blinds": ("roller blinds", "window shutter"),
    "drill": ("cordless drill", "power screwdriver"),
    "toothbrush": ("electric toothbrush", "device for my teeth"),
    "monitor": ("computer monitor", "desktop screen"),
    "scooter": ("electric scooter", "kick scooter with a motor"),
    "alarm": ("smoke alarm", "fire detector"),
    "projector": ("projector", "beamer for the wall"),
}
FAULTS: dict[str, Words] = {
    "noise": ("makes a grinding noise", "is very loud", "rattles terribly"),
    "leak": ("leaks water", "drips on the floor", "leaves a puddle"),
    "dead": ("does not switch on", "stays dark", "shows no sign of life"),
    "hot": ("gets too hot", "overheats", "almost burned my hand"),
    "net": ("loses the connection", "drops off the network", "is offline every evening"),
    "display": ("has a cracked display", "shows a broken screen", "has glass that is splintered"),
    "battery": (
        "empties its battery within an hour",
        "has to be charged all the time",
        "runs out of power fast",
    ),
    "smell": ("smells of burning", "stinks like melted plastic", "gives off smoke"),
    "update": ("hangs since the update", "freezes after the new firmware", "is stuck after upgrading"),
    "missing": (
        "came without its cable",
        "was delivered incomplete",
        "lacks a part that should be in the box",
    ),
}
WISHES: dict[str, Words] = {
    "refund": (
        "I want my money back.",
        "Please refund the price.",
        "I would like to return it for a repayment.",
    ),
    "swap": ("Please send a replacement.", "I would like to swap it.", "Exchange it for a new one, please."),
    "repair": ("Can somebody fix it?", "I need it repaired.", "Please mend it under warranty."),
    "help": ("What can I try myself?", "Is there a trick?", "Tell me how to deal with it."),
}
GREETINGS = (
    "Hello, thank you for the quick delivery, which came on Tuesday.",
    "Good morning, I have been a customer for nine years and was always content.",
    "Hi there, my order number is at the bottom of this message.",
    "Dear team, I have read the manual twice and found nothing.",
)
REPLIES = (
    "We are sorry for the trouble. Please hold the button for ten seconds and let us know.",
    "Thank you for writing. A label for the parcel is attached.",
    "We have passed this on to the workshop, which is going to call you.",
    "Our apologies. The amount will be on your account within five days.",
)
CLOSINGS = (
    "That did it, thank you. The case can be closed.",
    "It took a second call, but now all is well.",
    "No change so far, I am waiting to hear from you.",
    "Best regards from the seaside, and give my regards to your colleague.",
)


def _tickets(rng: random.Random) -> tuple[dict[str, Document], list[KnownItem]]:
    documents, items, number = {}, [], 1000
    for names in DEVICES.values():
        for says in FAULTS.values():
            number += 1
            heading, ref = f"Ticket {number}", f"/tickets/{number}.txt"
            used = [_worded(rng, one) for one in (names, says, rng.choice(list(WISHES.values())))]
            text = (
                f"{heading}\n\n{rng.choice(GREETINGS)} My {used[0][0]} {used[1][0]}. {used[2][0]}\n\n"
                f"{rng.choice(REPLIES)}\n\n{rng.choice(CLOSINGS)}\n"
            )
            documents[ref] = Document(heading, "text", (DocumentPart(text),))
            again = [_reworded(rng, one) for one in used]
            question = f"the customer whose {again[0]} {again[1]}: {again[2]}"
            items.append(KnownItem(question, ref, heading))
    return documents, items


def _worded(rng: random.Random, words: Words) -> Words:
    """The ways to say it, with the one that a section uses first."""
    return tuple(rng.sample(words, len(words)))


def _reworded(rng: random.Random, words: Words) -> str:
    """How a question says it: as often as not as the section does."""
    return words[0] if rng.random() < SAME_WORDS else rng.choice(words[1:])


def _filler(rng: random.Random, sentences: Words, count: int) -> str:
    return " ".join(rng.sample(sentences, count))


def _markdown(title: str, sections: list[str]) -> Document:
    return Document(title, "markdown", (DocumentPart("\n".join(sections)),))


MAKERS: dict[str, Callable[[random.Random], tuple[dict[str, Document], list[KnownItem]]]] = {
    "api": _api,
    "handbook": _handbook,
    "tickets": _tickets,
}


def corpora(seed: int = 1) -> Iterator[Corpus]:
    """The kinds, each with `QUESTIONS` questions; another seed makes others of the same form."""
    for name, make in MAKERS.items():
        rng = random.Random(f"{name} {seed}")
        documents, items = make(rng)
        yield Corpus(name, documents, tuple(rng.sample(items, min(QUESTIONS, len(items)))))
