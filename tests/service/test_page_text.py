"""What the page makes of texts from elsewhere."""

from __future__ import annotations

import pytest

from hillhold_signer.service.page.render import NOBODY, render
from hillhold_signer.service.page.text import harmless, moment, pieces, size
from pagehouse import HOSTILE
from workshop import NOW

DAY = 86_400


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_is_put_out_is_escaped_visible_and_on_one_line(text: str) -> None:
    html = render("problem.html", NOBODY, title=text, text=text, detail=text)
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "49" not in html
    assert not set(html) & set("\u202e\u202c\u2066\u200b\ufeff\x1b\x00\x7f\r")
    assert "\u0301" * 3 not in html
    assert all(char == "\n" or char.isprintable() for char in html)


def test_letters_of_other_scripts_and_accents_stay_as_they_are() -> None:
    for name in ("Zoë", "Ngọc", "שלום", "Łukasz", "李"):
        assert harmless(name) == name
    assert harmless("e" + "\u0301" * 3) == "e\u0301\u0301\\u0301"


def test_a_hash_may_break_and_is_copied_whole() -> None:
    assert pieces("0123456789abcdef01") == ["01234567", "89abcdef", "01"]
    assert "".join(pieces("a\u202eb\n")) == "a\\u202eb\\n"


def test_times_say_when_and_how_far_away() -> None:
    assert (moment(NOW, NOW).text, moment(NOW, NOW).ago) == ("2026-01-01 00:00 UTC", "now")
    assert moment(NOW + 3 * DAY, NOW).ago == "in 3 days"
    assert moment(NOW - 7200, NOW).ago == "2 hours ago"
    assert moment(NOW + 61, NOW).iso == "2026-01-01T00:01:01Z"
    assert moment(10**15, NOW).text == "1000000000000000 s"


def test_sizes_are_in_units_of_1024() -> None:
    assert [size(count) for count in (1, 1023, 1024, 5 << 20)] == ["1 byte", "1023 bytes", "1.0 KiB", "5.0 MiB"]
