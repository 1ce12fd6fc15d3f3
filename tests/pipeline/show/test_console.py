"""What comes from users, files and errors is printed as it is."""

from __future__ import annotations

import io
import pickle

from rich.table import Table

from pipeline.show.console import plain_console, styled
from stages.words import visible
from storage.errors import UserError
from storage.media.images import ImageError


def printed(*what: object) -> str:
    stream = io.StringIO()
    console = plain_console(stream)
    for one in what:
        console.print(one)
    return stream.getvalue()


def test_brackets_and_colons_of_a_message_are_printed_as_they_are() -> None:
    line = "pip install -e '.[s3]' for [bold]/data[/]/:smile:/a.png \\[x]"
    assert printed(line) == f"{line}\n"
    assert printed(styled("[red]error:[/] {}", line)) == f"error: {line}\n"


def test_a_value_that_ends_in_a_backslash_does_not_open_the_markup_after_it() -> None:
    assert printed(styled("[bold]{}[/] of {}", "C:\\", "[a]")) == "C:\\ of [a]\n"


def test_cells_and_headings_of_a_table_are_printed_as_they_are() -> None:
    table = Table("[label]", box=None, pad_edge=False)
    table.add_row("[red]star[/]")
    assert printed(table).split() == ["[label]", "[red]star[/]"]


TEXT = "\x1b]0;title\x07\x9b31m red\u202e dlrow\r\x00\tnext\nline\u2028\ud800"
SHOWN = "\\x1b]0;title\\x07\\x9b31m red\\u202e dlrow\\r\\x00\\tnext\\nline\\u2028\\ud800"


def test_control_characters_are_written_out_and_not_obeyed() -> None:
    assert printed(styled("{}", TEXT)) == SHOWN + "\n"
    assert printed(f"\nsample {TEXT}") == f"\nsample {SHOWN}\n"  # an empty line before what is said is ours
    assert visible(TEXT) == SHOWN.replace("\\t", "\t").replace("\\n", "\n")  # of an answer, whose cells have lines


def test_control_characters_of_a_cell_or_a_heading_are_written_out() -> None:
    table = Table(TEXT.strip(), box=None, pad_edge=False)
    table.add_row(TEXT)
    heading, cell = printed(table).splitlines()
    assert heading.rstrip() == SHOWN
    assert cell.rstrip() == SHOWN


def test_spaces_of_other_scripts_and_their_letters_are_printed_as_they_are() -> None:
    name = "\u732b\u3000\u72ac/d\xe9j\xe0\xa0vu/\U0001f44d.png"
    assert printed(name) == f"{name}\n"


def test_each_argument_of_an_error_is_one_line_whatever_stands_in_it() -> None:
    error = UserError(f"{TEXT} is missing", "give another")
    assert str(error) == f"{SHOWN} is missing\ngive another"
    assert printed(styled("[red]error:[/] {}", error)) == f"error: {SHOWN} is missing\ngive another\n"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # as Dask sends it
    assert str(ImageError("unreadable", TEXT)) == SHOWN
