"""A `set` is installed together or not at all (DESIGN §3): a device of one component passes its members over."""

from test_select import judge, runs, winner

from forge import Repo


def test_a_release_of_a_set_is_not_installed_alone() -> None:
    repo = Repo()
    repo.add_release("2.0.0", b"two", set="big-bang")
    assert winner(judge(repo, runs("1.0.0"))) is None
