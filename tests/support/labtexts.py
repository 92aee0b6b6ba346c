"""Texts that try to be more than text: in a page, in XML, in a PDF, in a terminal."""

from __future__ import annotations

HOSTILE = {
    "script": "<script>fetch('http://example.org/')</script>",
    "attribute": '"\' onmouseover=alert(1) x="><img src=http://example.org/x onerror=alert(1)>',
    "closing": "</pre></td></table></style></svg></main><base href=//example.org>",
    "link": '<a href="javascript:alert(1)">x</a><a href="http://example.org/">y</a>',
    "cdata": "]]><!-- --><![CDATA[ &lt; &#0; &bogus; <?php ?>",
    "paragraph": '<para fontSize=900><font color="[].__class__"><img src="/etc/passwd"/><br/></para>',
    "pdf": "(\\) Tj ET endstream endobj 1 0 obj << /S /JavaScript /JS (app.alert\\(1\\)) >> %PDF-1.7",
    "controls": "\x00\x07\x1b[2J\x1b]8;;http://example.org\x07\x7f\x85\u2028\r\n\t\x0c",
    "direction": "\u202epass\u202c \u2066fail\u2069 \u200f\u05d0\u05d1\u05d2 \u0627\u0644",
    "surrogate": "\ud800 \udfff \ufffe \U0010ffff",
    "letters": "Łódź ě ő Ω Ж 試験 🛑 →",
    "one long word": "x" * 6_000,
    "long": "a few words " * 1_000,
    "many lines": "line\n" * 1_000,
    "empty": "",
    "spaces": "   \u00a0 \u3000 ",
}
