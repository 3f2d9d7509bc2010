"""Ansible's own `uri`, `until` and `command`, run by ansible-core against a real daemon."""

from __future__ import annotations

from tests.e2e.stage import Sidecar
from tests.faces.commands import Ran
from tests.recipes.place import Place
from tests.recipes.snippets import settled, snippets

(PLAYBOOK,) = snippets("Ansible", "yaml")


def play(place: Place, url: str) -> Ran:
    """Run the playbook against this machine, with less patience than in a deploy."""
    playbook = place.folder / "deploy.yml"
    playbook.write_text(settled(PLAYBOOK, place, url).replace("delay: 5", "delay: 1"))
    inventory = place.folder / "inventory"
    python = "ansible_python_interpreter='{{ ansible_playbook_python }}'"
    inventory.write_text(f"[app]\nlocalhost ansible_connection=local {python}\n")
    env = place.environment | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "false", "HOME": str(place.folder)}
    return place.run("ansible-playbook", "-i", inventory, "-e", "tries=20", playbook, env=env)


def outcome(ran: Ran) -> dict[str, str]:
    """What the recap says of the host: ok=3 changed=1 and so on."""
    recap = next(line for line in ran.out.splitlines() if line.startswith("localhost") and "ok=" in line)
    return dict(each.split("=") for each in recap.split() if "=" in each)


def test_ansible_waits_for_the_proof_and_migrates(shop: Place, daemon: Sidecar) -> None:
    daemon.start()
    ran = play(shop, daemon.url)
    assert ran.code == 0, ran
    assert (outcome(ran)["failed"], shop.version()) == ("0", 2)


def test_ansible_stops_where_waiting_cannot_help(shop: Place, daemon: Sidecar) -> None:
    shop.break_backup()
    daemon.start()
    ran = play(shop, daemon.url)
    assert ran.code == 2, ran
    assert (outcome(ran)["failed"], shop.version()) == ("1", 1)
    assert "Stop where waiting cannot help" in ran.out
    assert daemon.ready().json()["reason"] in ran.out
