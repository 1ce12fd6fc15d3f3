"""What comes from users, files and errors is printed as it is."""

from __future__ import annotations

import io

from rich.table import Table

from pipeline.show.console import plain_console, styled, visible


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


def test_control_characters_are_written_out_and_not_obeyed() -> None:
    text = "\x1b]0;title\x07\x9b31m red\u202e dlrow\r\x00\tnext\nline"
    shown = "\\x1b]0;title\\x07\\x9b31m red\\u202e dlrow\\r\\x00\tnext\nline"
    assert visible(text) == shown
    assert printed(styled("{}", text.replace("\t", " "))) == shown.replace("\t", " ") + "\n"
