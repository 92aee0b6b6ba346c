"""The page for people: what waits for whose signature, what is changed by it, what expires when, releases, keys and the log.

Pages are made on the server, without a line of JavaScript. Nothing is signed or decided here: the page shows the command to run.

- `data`, `data_lines`, `data_log`: read, for one reader, what their grants let them see
- `views`, `views_lines`, `views_log`: turn that into texts, without any I/O
- `render`: templates, headers, errors; `router`: the routes; `sessions`: who is signed in
"""

from hillhold_signer.service.page.data import Unit
from hillhold_signer.service.page.render import problem_page, wants_page
from hillhold_signer.service.page.router import Surroundings, page_router
from hillhold_signer.service.page.sessions import SESSION_SECONDS, begin_session, end_session, session_reader, sweep

__all__ = [
    "SESSION_SECONDS",
    "Surroundings",
    "Unit",
    "begin_session",
    "end_session",
    "page_router",
    "problem_page",
    "session_reader",
    "sweep",
    "wants_page",
]
