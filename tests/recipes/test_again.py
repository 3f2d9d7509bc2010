"""After a deploy that did not hold: what Litestream makes of it, and the next try."""

from __future__ import annotations

from tests.litestreams import until
from tests.recipes.frameworks import SQL
from tests.recipes.place import Place


def test_rolled_back_mended_and_deployed_again(shop: Place) -> None:
    """Bad migration, the way back, Litestream and the app started as before, the backup proved, the mended migration."""
    (shop.project / "migrations" / "0002_coupons.sql").unlink()
    SQL.lay("losing", shop)
    assert shop.sidecar("gate", "app", "--", "./migrate").code == 1
    receipt, _ = shop.receipt()
    assert shop.app is not None
    lost = shop.app.execute("select count(*) from items")
    shop.stop()
    assert shop.sidecar("rollback", "--receipt", receipt, "--execute").code == 0
    (shop.project / "migrations" / "0002_note.sql").unlink()
    SQL.lay("good", shop)
    shop.start()
    assert lost == [[20]]
    assert shop.app.execute("select count(*) from items") == [[360]]
    ran = shop.sidecar("gate", "app", "--", "./migrate")
    assert ran.code == 0, ran
    assert shop.version() == 2
    assert shop.app.execute("select count(*) from items") == [[360]]


def test_a_migration_that_drops_litestreams_own_tables_ends_the_backup_and_the_next_gate_says_so(shop: Place) -> None:
    """`prisma db push` drops every table that its schema does not name. Litestream then fails until it is started again."""
    yml = shop.litestream_yml
    yml.write_text(
        yml.read_text().replace(
            "    replica:", "    checkpoint-interval: 1s # that is when it needs them\n    replica:"
        )
    )
    shop.stop()
    shop.start()
    assert shop.app is not None
    for each in ("_litestream_seq", "_litestream_lock"):
        shop.app.execute(f"drop table {each}")
    until(lambda: "no such table: _litestream_lock" in shop.litestream_log, say="Litestream misses its table")
    ran = shop.sidecar("gate", "app", "--timeout", "3s", "--", "./migrate")
    assert ran.code != 0, ran
    assert "no such table: _litestream_lock" in ran.out
    assert shop.version() == 1
    shop.stop()
    shop.start()
    assert shop.sidecar("gate", "app").code == 0
