"""A file has expired at the very second of `expires`, so grace is used, and reported, from then on."""

from forge import DAY, T0, Repo
from hillhold_verifier.trust import current
from holder import fresh, take


def test_grace_used_at_the_second_of_expiry_is_reported() -> None:
    repo = Repo()
    repo.offline_grace = DAY
    repo.expires["timestamp"] = T0 + DAY
    repo.publish()
    trust = take(fresh(repo), repo.files, clock=T0)
    assert current(trust, "pump", T0 + DAY).grace_used > 0
