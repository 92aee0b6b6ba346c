"""Provisioning a device again takes effect, whatever sequence numbers its records have."""

from test_state import Areas, empty

from forge import Repo
from hillhold_verifier.installer import provision
from hillhold_verifier.select import Device
from hillhold_verifier.state import StateStore
from holder import PUMP


def test_provisioning_again_takes_effect() -> None:
    repo = Repo()
    repo.publish()
    areas = Areas()
    store = StateStore(areas)
    for _ in range(8):
        store.save(empty(repo))
    other = Device("valve", "nrf-a", "serial-2")
    provision(StateStore(areas), other, repo.files["root"])
    assert StateStore(areas).load().device == other
    assert other != PUMP
