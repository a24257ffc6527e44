"""A caption and the rounds about it on one line of text, as people type them: tabs divide, `question? answer`."""

import re

from pipeline.corpora import json_files
from store.errors import ChatPainterError, short

# Latin, full-width (Chinese, Japanese) and Arabic.
QUESTION_MARKS = "?？؟"
_MARK = re.compile(f"[{QUESTION_MARKS}]")


def parse(line: str, where: str) -> tuple[str, list[tuple[str, str]]]:
    """(caption, rounds) of a line; the mark that ends a question is not part of it.

    >>> parse("a dog\\tis it black? yes", "")
    ('a dog', [('is it black', 'yes')])

    Raises:
        ChatPainterError: what stands after a tab has no question mark; begins with `where`.
    """
    caption, *turns = line.split("\t")
    rounds = []
    for turn in turns:
        question, *answer = _MARK.split(turn, maxsplit=1)
        if not answer:
            raise ChatPainterError(f"{where}: expected `question? answer` after the tab, found {short(turn)}")
        rounds.append((json_files.fold(question), json_files.fold(answer[0])))
    return json_files.fold(caption), rounds
