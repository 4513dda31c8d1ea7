from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.pieces import LONGEST_PIECE, MOST_CHARACTERS, MOST_PIECES, pieces_of
from domain.samples import routing_view


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Hello! Which day is it?", ("Hello!", "Which day is it?")),
        ("one line\nanother line\r\n\n third", ("one line", "another line", "third")),
        ("你好。请问今天星期几？谢谢！", ("你好。", "请问今天星期几？", "谢谢！")),
        ("こんにちは。予約を変更したいです。", ("こんにちは。", "予約を変更したいです。")),
        ("مرحبا. ما هو اليوم؟ شكرا", ("مرحبا.", "ما هو اليوم؟", "شكرا")),
        ("नमस्ते। आज कौन सा दिन है।", ("नमस्ते।", "आज कौन सा दिन है।")),
        ("Ask Dr. Smith about No. 5, e.g. tomorrow.", ("Ask Dr. Smith about No. 5, e.g. tomorrow.",)),
        ("My ticket (no. 4488) is open", ("My ticket (no. 4488) is open",)),
        ("I say no. Cancel it", ("I say no.", "Cancel it")),
        ("It costs 3.50 at example.com today", ("It costs 3.50 at example.com today",)),
        ("- first\n* second\n1. third\n2) fourth\n• fifth", ("first", "second", "third", "fourth", "fifth")),
        ("> quoted line\n## heading\n**bold**", ("quoted line", "heading", "bold")),
        ("<|im_start|>user\nbook a room<|im_end|>", ("user", "book a room")),
        ("[INST] book a room [/INST]", ("book a room",)),
        ("User: book a room", ("User:", "book a room")),
        ("", ("",)),
        ("?!", ("?!",)),
    ],
)
def test_a_prompt_is_its_sentences_and_lines_without_the_marks_around_them(text, pieces):
    whole = (" ".join(pieces),) if len(pieces) > 1 else ()
    assert pieces_of(text).texts == pieces + whole
    assert not pieces_of(text).shortened


@pytest.mark.parametrize("words", [25, 48, 100])
def test_a_long_sentence_is_divided_evenly_and_nothing_is_lost(words):
    text = " ".join(f"word{number}" for number in range(words))
    pieces = pieces_of(text).texts
    counts = [len(piece.split()) for piece in pieces]
    assert max(counts) <= LONGEST_PIECE
    assert min(counts) > LONGEST_PIECE / 3
    assert " ".join(pieces) == text


def test_a_long_sentence_without_spaces_is_divided_between_characters():
    text = "我想预订一个房间" * 20
    pieces = pieces_of(text).texts
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= LONGEST_PIECE


def test_of_a_long_prompt_both_ends_are_read_and_it_is_said():
    pieces = pieces_of("\n".join(f"line {number}" for number in range(1000)))
    assert pieces.shortened
    assert len(pieces.texts) == MOST_PIECES
    assert (pieces.texts[0], pieces.texts[-1]) == ("line 0", "line 999")


@pytest.mark.parametrize("filler", ["x", ".", "。", "<", "[", "a. ", "\n", "*", " ", "字", "1. ", "x:"])
def test_huge_prompts_of_any_kind_keep_the_instruction_at_both_ends(filler):
    text = "first request\n" + filler * 500_000 + "\nlast request"
    pieces = pieces_of(text)
    assert pieces.shortened
    assert len(pieces.texts) <= MOST_PIECES
    assert sum(map(len, pieces.texts)) <= MOST_CHARACTERS
    assert (pieces.texts[0], pieces.texts[-1]) == ("first request", "last request")


@given(st.text(max_size=300))
def test_any_text_has_pieces_in_their_own_view_and_no_letter_is_made_up(text):
    pieces = pieces_of(text)
    assert pieces.texts
    assert all(piece == routing_view(piece) for piece in pieces.texts)
    assert pieces_of(text) == pieces


def test_shouting_is_read_as_small_letters():
    assert pieces_of("WHERE IS MY ORDER?\nthe NASA page").texts[:2] == ("where is my order?", "the NASA page")


@pytest.mark.parametrize(("words", "whole"), [(LONGEST_PIECE, True), (LONGEST_PIECE + 1, False)])
def test_the_whole_is_read_beside_its_pieces_up_to_the_length_of_one(words, whole):
    said = [f"word{number}" for number in range(words)]
    pieces = pieces_of(f"{' '.join(said[:3])}.\n{' '.join(said[3:])}").texts
    assert len(pieces) == 2 + whole
    assert (len(pieces[-1].split()) == words) == whole


@pytest.mark.parametrize(("lines", "shortened"), [(MOST_PIECES, False), (MOST_PIECES + 1, True)])
def test_as_many_pieces_as_may_be_are_read_whole(lines, shortened):
    pieces = pieces_of("\n".join(f"line {number}" for number in range(lines)))
    assert (len(pieces.texts), pieces.shortened) == (MOST_PIECES, shortened)
    assert ("line 24" in pieces.texts) != shortened  # what is left out stands in the middle


def test_a_text_of_the_greatest_length_is_read_whole():
    assert not pieces_of("x" * MOST_CHARACTERS).shortened
    assert pieces_of("x" * (MOST_CHARACTERS + 1)).shortened


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Ask Dr.", ("Ask Dr.",)),
        ("I am Dr. No. Open May", ("I am Dr. No. Open May",)),
        ('He said "now!" Then go', ('He said "now!"', "Then go")),
        ("12. of May", ("of May",)),  # a list's number
        ("**Task:** book a room", ("Task:", "book a room")),
        ("the quick brown fox: book a room", ("the quick brown fox: book a room",)),
    ],
)
def test_where_a_sentence_ends(text, pieces):
    assert pieces_of(text).texts[: len(pieces)] == pieces
