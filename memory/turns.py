"""What is said in a conversation as records, in the form in which it is found best.

A turn is searched by its words with the day and the speaker before them: "When did Ada move?" then finds what
Ada said, and "in May" what was said in May. Its key is its place, so a conversation that is written twice is
there once. Pure: no store, no clock.

What is not covered: secrets, which the caller scrubs; what a turn means.
"""

from datetime import datetime

from memory.records import TURN, Record, Scope, Source, Trust


def turn_record(
    *,
    session: str,
    seq: int,
    speaker: str,
    text: str,
    said: datetime,
    scope: Scope,
    source: Source | None = None,
    trust: Trust = "own",
) -> Record:
    """What `speaker` said at place `seq` of the conversation `session`, at the time `said`."""
    return Record(
        kind=TURN,
        key=f"{session}/{seq}",
        text=f"[{spoken_time(said)}] {speaker}: {text}",
        data={"speaker": speaker, "text": text},
        scope=scope,
        session=session,
        seq=seq,
        created=said,
        source=source,
        trust=trust,
    )


def spoken_time(time: datetime) -> str:
    """As people write it, since their questions are compared with it: "3 May 2026 at 14:05"."""
    return f"{time.day} {time:%B %Y} at {time:%H:%M}"
