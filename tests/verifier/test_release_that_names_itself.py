"""Only *another* release's `downgrade_from` passes a version over (DESIGN §4, "Which release")."""

from test_select import judge, runs, winner

from forge import Repo


def test_a_release_that_names_its_own_version_stays_installable() -> None:
    repo = Repo()
    repo.add_release("2.0.0", b"two", downgrade_from=["2.0.0"])
    assert winner(judge(repo, runs("1.0.0"))) == "2.0.0"
