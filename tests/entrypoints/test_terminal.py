"""What others wrote is shown on a terminal, never obeyed by it."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from adapters.router.router_model_card import model_card
from domain.printable import code, inline, shown
from entrypoints.cli import main
from entrypoints.terminal import PlainStream, own_drawing, plain_streams
from tests.router_world import router_card

HOSTILE = "a\x1b[2J\x1b]0;title\x07b\x9b31m\rc\u202ed\udce9"


def test_control_characters_are_shown():
    assert shown(HOSTILE) == r"a\u001b[2J\u001b]0;title\u0007b\u009b31m\u000dc\u202ed\udce9"
    assert shown("tab\tline\nÄ 你好 العربية 👩‍👧") == "tab\tline\nÄ 你好 العربية 👩‍👧"


def test_whatever_is_printed_goes_through(capsys):
    with plain_streams():
        click.echo(HOSTILE)
        click.echo(HOSTILE, err=True)
        print(HOSTILE)
        print(HOSTILE, file=sys.stderr)
        own_drawing(sys.stdout).write("\x1b[1mheading")
    found = capsys.readouterr()
    echoed = shown(click.unstyle(HOSTILE))  # click leaves colours out where it writes to no terminal
    assert found.out == f"{echoed}\n{shown(HOSTILE)}\n\x1b[1mheading"
    assert found.err == f"{echoed}\n{shown(HOSTILE)}\n"


def test_json_stays_json(capsys):
    value = {"prompt": HOSTILE.removesuffix("\udce9")}
    with plain_streams():
        print(json.dumps(value, ensure_ascii=False))
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert out.strip().isprintable()


def test_a_stream_that_cannot_take_a_character_shows_its_number():
    raw = io.BytesIO()
    stream = PlainStream(io.TextIOWrapper(raw, "ascii", errors="backslashreplace"))
    assert not hasattr(stream, "buffer")
    stream.write("é\r")
    stream.flush()
    assert raw.getvalue() == b"\\xe9\\u000d"


def test_bars_of_other_libraries_still_work(capsys):
    with plain_streams():
        sys.stderr.write("\r 50%\x1b[2J")
    assert capsys.readouterr().err == "\r 50%" + r"\u001b[2J"


def test_errors_and_bad_options_show_what_they_were_given(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in (["route", "--prompt", "x", "--router", HOSTILE], ["route", f"--{HOSTILE}"], [HOSTILE]):
        with pytest.raises(SystemExit):
            main(arguments)
        err = capsys.readouterr().err
        assert "]0;title" in err
        assert "\x1b" not in err
        assert err.count("\n") == 1


def test_a_word_that_is_not_utf8_is_one_line(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for command in (["route"], ["infer", "--route-only"], ["verify"]):
        words = [sys.executable.encode(), b"-m", b"entrypoints", *map(str.encode, command)]
        words += [b"caf\xe9"] if command == ["verify"] else [b"--prompt", b"caf\xe9"]
        done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr.count(b"\n")) in ((2, b"", 1), (3, b"", 1)), done.stderr


def test_markup_in_names_is_text_in_cards():
    assert inline("<b>*x*</b> [a](b)") == r"&lt;b&gt;\*x\*&lt;/b&gt; \[a\](b)"
    assert code("a`b|c\n\x1b") == r"`a'b\|c \u001b`"
    card = model_card(router_card(dataset="a`b\n# c", created_at="![x](http://y) <script>"), "0" * 64)
    for markup in ("<script>", "\n# c", "![x]("):
        assert markup not in card
