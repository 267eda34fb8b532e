"""The page "ASGI servers": it says what the suite is told."""

from __future__ import annotations

import pytest
from tests.support.asgi_setups import GRANIAN, GUNICORN, HYPERCORN, LOWEST, UVICORN
from tests.support.setups import OurSetup

from .markdown import ROOT

TEXT = (ROOT / "docs" / "asgi.md").read_text()
#: How the rows of the table begin, in its order.
ROWS = {
    "A refusal has": "denials",
    "An accepted handshake has": "accept_headers",
    "permessage-deflate": "compression",
    "A handler learns the code": "close_codes",
    "and its reason": "close_reasons",
    "A close without a code": "empty_closes",
    "Messages that are sent along": "early_frames",
    "The server gives a client time": "awaits_answers",
    "Each handshake": "access_log",
}
COLUMNS = {"Uvicorn": UVICORN, "Hypercorn": HYPERCORN, "Granian": GRANIAN, "Gunicorn": GUNICORN}


@pytest.mark.parametrize(("number", "setup"), [*enumerate(COLUMNS.values(), 1)], ids=COLUMNS)
def test_the_table_says_what_the_suite_is_told(number: int, setup: OurSetup) -> None:
    lines = TEXT.partition(f"| | {' | '.join(COLUMNS)} |\n")[2].partition("\n\n")[0].splitlines()
    told = [line.strip("| ").split(" | ") for line in lines[1:]]
    said = {cells[0]: cells[number] for cells in told}
    assert len(said) == len(ROWS)
    for (text, word), (start, capability) in zip(said.items(), ROWS.items(), strict=True):
        assert text.startswith(start)
        assert word == ("yes" if getattr(setup.capabilities, capability) else "no"), text


def test_the_lowest_versions_are_those_that_are_tested() -> None:
    sentence = TEXT.partition("that are supported are ")[2].partition(".\n")[0].lower()
    for setup in LOWEST:
        name, _, version = str(setup.environment).partition("==")
        # Whose last number is zero, and not written.
        assert f"{name} {version.removesuffix('.0')}" in sentence
