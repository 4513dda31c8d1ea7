"""Prompts of a document with an instruction, one route per task: ``python benchmarks/documents.py``.

The instruction alone tells the route: all tasks come with the same documents. The documents (``documents.txt``, 22
subjects of nine sentences with two questions) are varied by the sentences that are kept and by names, dates and sums
that are filled in; 80 to 250 words each, and several of them on end where a prompt is to be long.

Training rows have the instruction first or last, every tenth a long document. Test prompts have documents of
subjects that are not trained on, and each task's last six wordings are never trained on either.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from attrs import frozen
from routing_data import training_rows

from domain.samples import RoutingSample

SLOTS: Mapping[str, tuple[str, ...]] = {
    "person": ("Ada Holm", "Bruno Keller", "Mrs Okafor", "Dr. Lindgren", "Pavel Novak", "Sofia Marin", "Mr Tanaka"),
    "city": ("Ulmen", "Sandvik", "Port Arlen", "Castelmare", "Brookhaven", "Lindau", "Tarnow", "Vila Serra"),
    "date": ("3 March", "14 April 2024", "2 June", "19 August 2025", "30 September", "11 November", "7 January 2026"),
    "amount": ("€1,240", "$86", "£3,500", "€412.50", "18,000 euros", "$2.3 million", "75 pounds", "€9.90"),
    "number": ("12", "23", "38", "47", "61", "85", "140", "212"),
    "language": ("French", "Spanish", "German", "Polish", "Japanese", "Dutch", "Arabic", "Swedish"),
}

UNSEEN = 6
"""The last wordings of each task, which only test prompts have."""

TASKS: Mapping[str, tuple[str, ...]] = {
    "summarise": (
        "Summarise this text in three sentences.",
        "Give me a short summary.",
        "Please sum up the following.",
        "What is this about, in a nutshell?",
        "I need the key points as a brief summary.",
        "Write a summary of at most fifty words.",
        "Shorten this to its essentials.",
        "tl;dr please",
        "Condense the text into one paragraph.",
        "Can you summarize the main ideas for me?",
        "Boil this down to a few lines.",
        "Just the gist, please, I have no time to read all of it.",
        "Provide an abstract of the text.",
        "Recap what it says, very briefly.",
        "Could you give me the short version of this?",
        "Which are the most important points? Keep it under 60 words.",
    ),
    "translate": (
        "Translate this into {language}.",
        "Please translate the following text to {language}.",
        "How does this read in {language}?",
        "I need a {language} translation of this.",
        "Put the text into {language}.",
        "Translate the whole thing, {language} please.",
        "Give me this in {language}.",
        "Can you translate it into {language}, keeping the paragraphs?",
        "A {language} version, please.",
        "Translate to natural {language}.",
        "My aunt reads only {language}. Could you turn this into her language?",
        "Say all of this in {language}.",
        "I would like to have the text below rendered into {language}.",
        "{language} translation needed, word for word where possible.",
        "What would this be in {language}?",
        "Convert from English to {language}.",
    ),
    "extract": (
        "List all dates and amounts of money in the text.",
        "Extract every date.",
        "Pull out the names, dates and sums as a table.",
        "Which dates are mentioned? Return them as JSON.",
        "Find all sums of money and what they are for.",
        "Extract the people and places that occur.",
        "Give me a list of all numbers with their units.",
        "Collect the dates in the format YYYY-MM-DD.",
        "Return the amounts and dates as CSV.",
        "Get all named persons out of this text.",
        "Write down each figure that occurs, one per line.",
        "Fill in: date, place, person, amount.",
        "Pick out whatever looks like a price.",
        "I need the dates from this for my calendar, nothing else.",
        "Turn the facts into fields: who, when, how much.",
        "Identify the entities (person, date, money) and output them with their type.",
    ),
    "answer": (
        "{question} Answer from the text.",
        "Using only this document, answer the question: {question}",
        "According to the text: {question}",
        "{question}",
        "Please answer: {question}",
        "Question about the passage: {question}",
        "Based on the information given, {question}",
        "Look it up in the text: {question}",
        "Read this and tell me: {question}",
        "I have a question on this. {question}",
        "{question} If the text does not say, tell me so.",
        "What does the author say about this: {question}",
        "Can you tell from the passage? {question}",
        "{question} Quote the sentence that you got it from.",
        "One thing I did not get: {question}",
        "Check the document. {question} Reply in a few words.",
    ),
    "rewrite": (
        "Rewrite this in a friendlier tone.",
        "Make it sound more formal.",
        "Rephrase the text so that a child can understand it.",
        "Please rewrite the following in plain language.",
        "Change the style to that of a news report.",
        "Reword this politely.",
        "Make the text less stiff.",
        "Rewrite it as if you were very excited.",
        "Polish the wording and keep the meaning.",
        "Can you put this in a more professional tone?",
        "Same content, but casual please.",
        "Let it sound like something that my grandfather would tell.",
        "Tone this down, it is too dramatic.",
        "Could you paraphrase it so that it reads more smoothly?",
        "I want this to sound warmer, as from one neighbour to another.",
        "Recast the passage in simple, lively English.",
    ),
    "title": (
        "Suggest a title for this text.",
        "Give it five tags.",
        "What would be a good headline?",
        "Write a headline and three keywords.",
        "Find a catchy title.",
        "Which tags fit this? Comma-separated, lower case.",
        "Name this document in at most six words.",
        "I need a subject line for it.",
        "Propose three possible titles.",
        "Tag the text with suitable categories.",
        "How should I call this piece?",
        "Hashtags for it, please.",
        "Come up with a heading.",
        "Label it with keywords for our archive.",
        "What could I put above this as a title?",
        "Give me some headline ideas, short ones.",
    ),
}

STRANGE_TASKS = (
    "Write a limerick inspired by this.",
    "How many words does the text have?",
    "Correct the spelling mistakes.",
    "Continue the story for another paragraph.",
    "Is the author in favour or against? Rate the mood from one to five.",
    "Draft a reply to the writer.",
    "Make a quiz of four questions with solutions out of it.",
    "Write SQL that creates a table for these facts.",
    "Which claims would you check, and where?",
    "Draw a timeline as ASCII art.",
    "Read it aloud with pauses marked.",
    "Argue the opposite of what is said here.",
)

Place = Callable[[str, str, random.Random], str]


def first(instruction: str, text: str, rng: random.Random) -> str:
    """Return the instruction before the document."""
    return rng.choice(("{0}\n\n{1}", "{0}\n{1}", '{0}\n\n"""\n{1}\n"""', "{0}\n---\n{1}\n---")).format(
        instruction, text
    )


def last(instruction: str, text: str, rng: random.Random) -> str:
    """Return the instruction after the document."""
    return rng.choice(
        ("{1}\n\n{0}", "{1}\n{0}", "<document>\n{1}\n</document>\n{0}", "Text:\n{1}\n\nTask: {0}")
    ).format(instruction, text)


def inside(instruction: str, text: str, rng: random.Random) -> str:
    """Return the instruction between two sentences of the document, in the same line."""
    sentences = re.split(r"(?<=[.!?]) ", text)
    place = rng.randrange(1, len(sentences))
    return " ".join([*sentences[:place], instruction, *sentences[place:]])


@frozen
class DocumentData:
    """One draw.

    Attributes:
        train: training rows.
        val: validation rows.
        test: test rows by case.
        out_of_scope: other instructions over the same kind of documents.
    """

    train: tuple[RoutingSample, ...]
    val: tuple[RoutingSample, ...]
    test: Mapping[str, tuple[RoutingSample, ...]]
    out_of_scope: tuple[str, ...]


@frozen
class Subject:
    """What documents are made of: sentences in order, and questions that they answer."""

    questions: tuple[str, ...]
    sentences: tuple[str, ...]

    def document(self, rng: random.Random) -> str:
        """Return six or more of the sentences in one to three paragraphs."""
        kept = sorted(rng.sample(range(len(self.sentences)), rng.randint(6, len(self.sentences))))
        breaks = rng.sample(range(1, len(kept)), rng.randrange(3))
        parts = [("\n\n" if i in breaks else " ") + self.sentences[place] for i, place in enumerate(kept)]
        return filled("".join(parts).strip(), rng)


@lru_cache
def subjects() -> tuple[Subject, ...]:
    """Read the documents' subjects."""
    blocks = (Path(__file__).parent / "documents.txt").read_text(encoding="utf-8").split("\n== ")
    lines = [block.strip().split("\n")[1:] for block in blocks]
    return tuple(
        Subject(
            tuple(line.removeprefix("? ") for line in each if line.startswith("? ")),
            tuple(line for line in each if not line.startswith("? ")),
        )
        for each in lines
    )


def filled(text: str, rng: random.Random) -> str:
    """Return the text with its places filled at random."""
    return re.sub(r"\{(\w+)\}", lambda place: rng.choice(SLOTS[place[1]]), text)


def prompt(wording: str, place: Place, known: Sequence[Subject], rng: random.Random, long: bool = False) -> str:
    """Return one prompt; a long one has documents of several subjects and at least 600 words."""
    subject = rng.choice(known)
    text = subject.document(rng)
    while long and len(text.split()) < 600:
        text += "\n\n" + rng.choice(known).document(rng)
    return place(filled(wording.replace("{question}", rng.choice(subject.questions)), rng), text, rng)


CASES: Mapping[str, tuple[Place, slice, bool]] = {
    "first": (first, slice(None, -UNSEEN), False),
    "last": (last, slice(None, -UNSEEN), False),
    "inside a line": (inside, slice(None, -UNSEEN), False),
    "first, unseen wording": (first, slice(-UNSEEN, None), False),
    "last, unseen wording": (last, slice(-UNSEEN, None), False),
    "inside a line, unseen wording": (inside, slice(-UNSEEN, None), False),
    "first, beyond 512 tokens": (first, slice(None, -UNSEEN), True),
    "last, beyond 512 tokens": (last, slice(None, -UNSEEN), True),
}


def draw(samples: int, seed: int, test_per_task: int = 18) -> DocumentData:
    """Return `samples` rows per task, four fifths to train on, and test prompts over other subjects."""
    rng = random.Random(f"{seed} documents")
    everything = rng.sample(subjects(), len(subjects()))
    known, others = everything[:14], everything[14:]
    train: list[RoutingSample] = []
    val: list[RoutingSample] = []
    for label, (task, wordings) in enumerate(TASKS.items()):
        texts = [
            prompt(rng.choice(wordings[:-UNSEEN]), (first, last)[i % 2], known, rng, long=i % 10 == 9)
            for i in range(samples)
        ]
        rows = [RoutingSample(text, label, task, f"{task}-{i}") for i, text in enumerate(texts)]
        train += rows[: training_rows(samples)]
        val += rows[training_rows(samples) :]
    rng.shuffle(train)
    test = {
        case: tuple(
            RoutingSample(prompt(rng.choice(wordings[kept]), place, others, rng, long), label, task, f"{case}-{i}")
            for label, (task, wordings) in enumerate(TASKS.items())
            for i in range(test_per_task)
        )
        for case, (place, kept, long) in CASES.items()
    }
    out_of_scope = [prompt(wording, place, others, rng) for wording in STRANGE_TASKS for place in (first, last) * 3]
    return DocumentData(tuple(train), tuple(val), test, tuple(out_of_scope))


if __name__ == "__main__":
    shown = draw(50, seed=42)
    for case, rows in shown.test.items():
        print(f"--- {case}, {rows[0].adapter}\n{rows[0].text}\n")
    lengths = sorted(len(row.text.split()) for row in shown.train)
    print(f"{len(lengths)} training rows of {lengths[0]} to {lengths[-1]} words, median {lengths[len(lengths) // 2]}")
