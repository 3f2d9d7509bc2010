"""The Grafana dashboard, written as a table of panels: the fleet on top, one database below it, the sidecar itself last.

`generate.py` makes dashboard.json of it. Every panel needs a unit and a sentence; a runbook where an alert watches the same.
"""

from __future__ import annotations

from typing import Any

RUNBOOKS = "https://litestream-sidecar.example/"
WIDTH = 24  # Grafana's grid
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
FLEET, ONE = 'job=~"$job"', 'job=~"$job", db=~"$db"'  # matchers: all databases, the chosen ones
GREEN, YELLOW, ORANGE, RED, BLUE = "green", "yellow", "orange", "red", "blue"
STATUS = {0: ("pass", GREEN), 1: ("warn", YELLOW), 2: ("unknown", ORANGE), 3: ("fail", RED)}
NO_YES = {0: ("no", RED), 1: ("yes", GREEN)}

Json = dict[str, Any]


def metric(name: str, matchers: str = FLEET, **labels: str) -> str:
    """One of our series."""
    more = "".join(f', {key}="{value}"' for key, value in labels.items())
    return f"litestream_sidecar_{name}{{{matchers}{more}}}"


def fleet(name: str) -> str:
    """One recorded series of rules.yml."""
    return f"job:litestream_sidecar_{name}{{{FLEET}}}"


def age(stamp: str) -> str:
    """Seconds since a time."""
    return f"time() - {stamp}"


def link(title: str, anchor: str) -> Json:
    """A link into the runbooks, in a window of its own."""
    return {
        "type": "link", "title": title, "url": f"{RUNBOOKS}#{anchor}", "icon": "doc", "tooltip": "What it means and what to do", "targetBlank": True,
        "asDropdown": False, "includeVars": False, "keepTime": False, "tags": [],
    }  # fmt: skip


def steps(*colours: tuple[float | None, str]) -> Json:
    """Colours by value: the first from below everything."""
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in colours]}


def panel(  # noqa: PLR0913 - a row of a table, its columns named
    kind: str, width: int, title: str, unit: str, description: str, *queries: tuple[str, str],
    alert: str = "", height: int = 7, limits: Json | None = None, words: dict[int, tuple[str, str]] | None = None, **options: Any,
) -> Json:  # fmt: skip
    """One panel.

    Args:
        kind: Grafana's panel type.
        width: of the 24 columns.
        title: a few words.
        unit: Grafana's name of the unit.
        description: what it shows and what is good.
        queries: (PromQL, legend); a legend in brackets names a column of a table.
        alert: the anchor of the runbook, where an alert watches the same.
        height: in rows of the grid.
        limits: colours by value.
        words: what to write in place of a value, with its colour.
        options: of the panel's type.
    """
    instant = kind in {"stat", "table"}
    defaults: Json = {"unit": unit, "thresholds": limits or steps((None, GREEN))}
    if kind == "timeseries":
        # `or` of a threshold and no line: a limit is drawn where there is one
        style = "line" if limits else "off"
        defaults["custom"] = {"fillOpacity": 8, "lineWidth": 1, "spanNulls": False, "thresholdsStyle": {"mode": style}}
        options = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}, **options}
        options["tooltip"] = {"mode": "multi", "sort": "desc"}
    if kind == "stat":
        options = {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "background",
            **options,
        }
    if words:
        texts = {str(value): {"text": text, "color": colour, "index": value} for value, (text, colour) in words.items()}
        defaults["mappings"] = [{"type": "value", "options": texts}]
        defaults["thresholds"] = steps(*((value or None, colour) for value, (_, colour) in words.items()))
    targets = [
        {"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": expr, "legendFormat": legend, "instant": instant,
         "range": not instant, **({"format": "table"} if kind == "table" else {})}
        for at, (expr, legend) in enumerate(queries)
    ]  # fmt: skip
    made: Json = {
        "type": kind, "title": title, "description": description, "datasource": SOURCE, "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options, "gridPos": {"w": width, "h": height},
    }  # fmt: skip
    if alert:
        made["links"] = [link(f"Runbook: {alert}", f"alert-{alert}")]
    return made


def to_the_page(made: Json) -> Json:
    """The same with decimals: 99.95 % is not 100 %."""
    made["fieldConfig"]["defaults"]["decimals"] = 2
    return made


def table(made: Json, columns: dict[str, tuple[str, str]]) -> Json:
    """A table with one row a database: query letter to (heading, unit)."""
    made["transformations"] = [
        {"id": "joinByField", "options": {"byField": "db", "mode": "outer"}},
        {"id": "filterFieldsByName", "options": {"include": {"pattern": "^(db|Value.*)$"}}},
    ]
    made["fieldConfig"]["overrides"] = [
        {"matcher": {"id": "byName", "options": f"Value #{letter}"},
         "properties": [{"id": "displayName", "value": heading}, {"id": "unit", "value": unit}]}
        for letter, (heading, unit) in columns.items()
    ]  # fmt: skip
    return made


CODES = " or ".join(
    f"{metric('check_status', ONE, status=word)} * {code}" for code, (word, _) in STATUS.items()
)  # one-hot, so the sum is the code of the one that is
PROVED, FINISHED = metric("proof_timestamp_seconds"), metric("drill_finished_timestamp_seconds", ONE)
BY_DB = "{{db}}"
COLUMNS = {
    "A": ("ready", "bool_yes_no"), "B": ("lag", "s"), "C": ("proved", "s"), "D": ("time to restore", "s"),
    "E": ("database", "bytes"), "F": ("replica", "bytes"), "G": ("snapshot", "s"), "H": ("proven", "percentunit"),
}  # fmt: skip
TABLE = (
    metric("ready"), metric("lag_seconds"), age(PROVED), metric("rto_seconds"),
    metric("database_bytes"), metric("replica_bytes"), age(metric("snapshot_timestamp_seconds")),
    metric("pages_proven_ratio"),
)  # fmt: skip

ROWS: dict[str, list[Json]] = {
    "The fleet": [
        panel("stat", 3, "Databases ready", "percentunit", "Share of databases that /ready says yes to.",
              (fleet("ready:ratio"), "{{job}}"), alert="backup-not-ready", height=4,
              limits=steps((None, RED), (0.95, ORANGE), (1, GREEN))),
        panel("stat", 3, "Proved within 24 h", "percentunit", "Share of databases restored and checked within a day; one never restored counts as not proved.",
              (fleet("proven_24h:ratio"), "{{job}}"), alert="backup-not-verified", height=4,
              limits=steps((None, RED), (0.95, ORANGE), (1, GREEN))),
        panel("stat", 3, "Oldest proof", "s", "Of the database whose proof is oldest: time since a drill passed, or would have restored what the last one did.",
              (age(fleet("proof_timestamp_seconds:min")), "{{job}}"), alert="backup-not-verified", height=4,
              limits=steps((None, GREEN), (43200, ORANGE), (86400, RED))),
        to_the_page(panel("stat", 4, "Least proven", "percentunit", "Of the database of whose pages the fewest were proven to be what production held, at its last comparison.",
                          (fleet("pages_proven_ratio:min"), "{{job}}"), alert="proof-weak", height=4,
                          limits=steps((None, ORANGE), (0.999, GREEN)))),
        panel("stat", 4, "Worst lag", "s", "Age of the oldest commit that any replica may lack: what would be lost now.",
              (fleet("lag_seconds:max"), "{{job}}"), alert="replica-lagging", height=4,
              limits=steps((None, GREEN), (60, ORANGE), (120, RED))),
        panel("stat", 4, "Slowest restore", "s", "The longest measured time to restore: how long an outage would take at least.",
              (fleet("rto_seconds:max"), "{{job}}"), alert="restore-slow", height=4,
              limits=steps((None, GREEN), (300, ORANGE), (600, RED))),
        panel("stat", 3, "Alerts firing", "none", "Alerts of this dashboard's rules that fire now.",
              ('count(ALERTS{job=~"$job", alertstate="firing"}) or vector(0)', "alerts"), height=4,
              limits=steps((None, GREEN), (1, RED))),
        table(panel("table", 14, "Databases", "none", "One row a database: ready, lag, time since it was last restored, time that takes, sizes, age of the newest snapshot, share of pages proven to be what production held.",
                    *((f"max by (db) ({query})", letter) for letter, query in zip(COLUMNS, TABLE, strict=True)), height=8), COLUMNS),
        panel("state-timeline", 10, "Ready", "none", "When each database was ready.", (metric("ready"), BY_DB),
              alert="backup-not-ready", words=NO_YES, height=8, showValue="never"),
        panel("timeseries", 12, "Lag", "s", "Age of the oldest commit that the replica may lack. An idle database has none. The line is the default max-lag.",
              (metric("lag_seconds"), BY_DB), alert="replica-lagging", limits=steps((None, GREEN), (120, RED))),
        panel("timeseries", 12, "Age of the proof", "s", "Falls to nought at each passed drill, and at each that is not made because it would restore the same. The line is the default drill-max-age.",
              (age(PROVED), BY_DB), alert="backup-not-verified", limits=steps((None, GREEN), (86400, RED))),
    ],
    "One database": [
        panel("state-timeline", 14, "Checks", "none", "What each check said over time. Ready means that none is unknown or fail.",
              (f"sum by (db, check) ({CODES})", "{{db}} {{check}}"), words=STATUS, height=10, showValue="never"),
        panel("table", 10, "Why a check does not pass", "none", "The reason of every check that does not simply pass; README, Checks and what each cannot see, says what to do.",
              (f"sum by (db, check, reason) ({metric('check_reason', ONE)})", "reasons"), height=10),
        panel("timeseries", 8, "Positions", "none", "Newest TXID that Litestream holds locally, and in the replica. The replica's must never be above.",
              (metric("live_position", ONE), "{{db}} live"), (metric("replica_position", ONE), "{{db}} replica"), alert="replica-ahead"),
        panel("timeseries", 8, "Replicated up to", "s", "Time since the instant up to which every commit is known to be in the replica.",
              (age(metric("replica_sync_timestamp_seconds", ONE)), BY_DB), alert="replica-lagging"),
        panel("timeseries", 8, "Snapshot and oldest state", "s", "Age of the newest snapshot, and of the oldest state that can be brought back. An idle database makes no new snapshot.",
              (age(metric("snapshot_timestamp_seconds", ONE)), "{{db}} snapshot"),
              (age(metric("oldest_restorable_timestamp_seconds", ONE)), "{{db}} oldest state"), alert="snapshot-old"),
        panel("timeseries", 8, "Sizes", "bytes", "Database, WAL, replica, the copy that last passed a drill, and the memory that its restore took. A WAL that only grows is never checkpointed.",
              *((metric(name, ONE), f"{{{{db}}}} {word}") for name, word in (
                  ("database_bytes", "database"), ("wal_bytes", "WAL"), ("replica_bytes", "replica"), ("restored_bytes", "restored"),
                  ("drill_memory_bytes", "memory of a restore")))),
        panel("timeseries", 8, "Files in the replica", "none", "Backup files by level: 9 snapshots, 0 the newest changes.",
              (metric("replica_files", ONE), "{{db}} level {{level}}"), alert="chain-gap"),
        panel("timeseries", 8, "Time to restore", "s", "Plan and restore of the last passed drill. The line is the alert's objective.",
              (metric("rto_seconds", ONE), BY_DB), (metric("rto_predicted_seconds", ONE), "{{db}} predicted"), alert="restore-slow",
              limits=steps((None, GREEN), (600, RED))),
        panel("timeseries", 6, "Stages of the newest drill", "s",
              "Where a drill's time goes: plan, restore, check, and parity, in which production is read and the copy held against it. Predicted: a whole one, of the database as large as it is now.",
              (metric("drill_stage_seconds", ONE), "{{db}} {{stage}}"), (metric("drill_predicted_seconds", ONE), "{{db}} predicted")),
        to_the_page(panel("timeseries", 6, "Pages proven", "percentunit", "Share of the restored copy's pages that the last comparison proved to be what production held. The line: from there on it stands for a check of production.",
                          (metric("pages_proven_ratio", ONE), BY_DB), alert="pages-differ", limits=steps((None, ORANGE), (0.999, GREEN)))),
        panel("timeseries", 6, "Drills by outcome", "none", "Drills that ended within the last hour. Inconclusive and aborted ones prove nothing either way; skipped: it would have restored what the last one did.",
              (f"sum by (db, outcome) (increase({metric('drills_total', ONE)}[1h]))", "{{db}} {{outcome}}"),
              (f"sum by (db) (increase({metric('drills_skipped_total', ONE)}[1h]))", "{{db}} skipped"), alert="drill-failed"),
        panel("timeseries", 6, "Drills that did not pass", "none", "The same by reason, since the sidecar started.",
              (f"sum by (db, reason) ({metric('drill_failures_total', ONE)})", "{{db}} {{reason}}"), alert="drill-failed"),
        panel("timeseries", 8, "Since a drill, a check of production", "s", "Time since a drill ended, however it went, since one passed, and since production's own content was last checked.",
              (age(FINISHED), "{{db}} drill"), (age(metric("drill_passed_timestamp_seconds", ONE)), "{{db}} passed"), (age(metric("restored_timestamp_seconds", ONE)), "{{db}} restored whole"), (age(metric("database_check_timestamp_seconds", ONE)), "{{db}} check"), alert="database-unchecked"),
        panel("timeseries", 8, "Looks at the replica", "ops", "Listings of the replica a second, by result.",
              (f"sum by (db, result) (rate({metric('looks_total', ONE)}[$__rate_interval]))", "{{db}} {{result}}"), alert="replica-unreachable"),
        panel("table", 8, "Schema version", "none", "The version that production records, and where it was found.",
              (f"sum by (db, source, value) ({metric('schema_version_info', ONE)})", "version")),
    ],
    "The sidecar": [
        panel("stat", 4, "Scraped", "none", "Whether Prometheus reaches each sidecar.", (f"up{{{FLEET}}}", "{{instance}}"),
              alert="sidecar-down", words=NO_YES, height=4),
        panel("stat", 4, "Litestream answers", "none", "Absent where neither its socket nor its metrics are enabled.",
              (metric("litestream_up"), "{{instance}}"), alert="litestream-down", words=NO_YES, height=4),
        panel("stat", 4, "Configuration in force", "none", "Whether what the configuration files say now is in force.",
              (metric("config_last_reload_successful"), "{{instance}}"), alert="config-reload-failed", words=NO_YES, height=4),
        panel("stat", 3, "Loop last turned", "s", "Grows when the daemon's loop is stuck; it turns at least once a second.",
              (age(metric("loop_turned_timestamp_seconds")), "{{instance}}"), alert="sidecar-loop-stuck", height=4,
              limits=steps((None, GREEN), (30, ORANGE), (120, RED))),
        panel("stat", 3, "Configuration taken over", "s", "Time since a configuration was last taken over.",
              (age(metric("config_last_reload_timestamp_seconds")), "{{instance}}"), alert="config-reload-failed", height=4,
              limits=steps((None, BLUE))),
        panel("stat", 3, "Scratch free", "bytes", "Room that drills may still use; a drill needs 1.1 times its database.",
              (metric("scratch_free_bytes"), "{{instance}}"), alert="scratch-low", height=4, limits=steps((None, RED), (1 << 20, GREEN))),
        panel("stat", 3, "Evidence kept", "none", "Whether what is proved can be written to the state directory.",
              (metric("evidence_write_successful"), "{{instance}}"), alert="evidence-not-written", words=NO_YES, height=4),
        panel("timeseries", 8, "Drills due and running", "none", "Due, begun or not, and under way. Due that only grows: drills cannot keep up.",
              (metric("drills_due"), "{{instance}} due"), (metric("drills_running"), "{{instance}} running")),
        panel("timeseries", 8, "How long drills take", "s", "Half, and 95 of 100, of the drills of the last hour took no longer.",
              *((f"histogram_quantile({share}, sum by (le) (rate({metric('drill_duration_seconds_bucket')}[1h])))", f"p{share * 100:.0f}")
                for share in (0.5, 0.95)), alert="restore-slow"),
        panel("timeseries", 8, "Deploy gate", "none", "Decisions over all time.",
              (f"sum by (decision) ({metric('gate_decisions_total')})", "{{decision}}"), alert="gate-overridden"),
        panel("timeseries", 8, "Notifications", "none", "Pings and messages since the sidecar started, by what became of them.",
              (f"sum by (to, result) ({metric('notifications_total')})", "{{to}} {{result}}"), alert="notification-failed"),
        panel("timeseries", 8, "HTTP", "reqps", "Requests a second by route and code.",
              (f"sum by (route, code) (rate({metric('http_requests_total')}[$__rate_interval]))", "{{route}} {{code}}")),
        panel("timeseries", 8, "Processor", "percentunit", "Share of one core that each sidecar takes, without the restores it starts.",
              (f"rate(process_cpu_seconds_total{{{FLEET}}}[$__rate_interval])", "{{instance}}")),
        panel("timeseries", 8, "Memory", "bytes", "Resident memory of each sidecar.", (f"process_resident_memory_bytes{{{FLEET}}}", "{{instance}}")),
        panel("timeseries", 8, "Requests to stores", "none", "Requests a day that looks make at the present pace, what is allowed, and how many times farther apart looks at databases at rest are put for it.",
              (metric("replica_requests_per_day"), "{{instance}} a day"), (metric("replica_requests_per_day_limit"), "{{instance}} allowed"),
              (metric("look_stretch_ratio"), "{{instance}} times less often"),
              (f"sum by (instance, way) (rate({metric('replica_requests_total')}[$__rate_interval])) * 86400", "{{instance}} {{way}} now")),
        panel("stat", 8, "Verifier answers", "none", "Absent where none is configured.", (metric("verifier_up"), "{{instance}}"), alert="verifier-down", words=NO_YES),
        panel("table", 24, "Versions", "none", "Sidecar, Python, SQLite and Litestream. The newest Litestream should drill.",
              (f"sum by (instance, version, python, sqlite, litestream) ({metric('build_info')})", "versions")),
    ],
}  # fmt: skip


def laid_out() -> list[Json]:
    """All panels with ids and places: from left to right, and down where a line is full."""
    found: list[Json] = []
    top = 0
    for title, panels in ROWS.items():
        row = {
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
        }
        found.append({"id": len(found) + 1, **row})
        top, left, line = top + 1, 0, 0
        for each in panels:
            if left + each["gridPos"]["w"] > WIDTH:
                top, left, line = top + line, 0, 0
            place = {"x": left, "y": top, **each["gridPos"]}
            found.append({"id": len(found) + 1, **each, "gridPos": place})
            left, line = left + place["w"], max(line, place["h"])
        top += line
    return found


def variable(name: str, label: str, series: str) -> Json:
    """A choice among the values of a label, several or all."""
    query = f"label_values({series}, {name})"
    return {
        "type": "query", "name": name, "label": label, "datasource": SOURCE, "query": {"query": query, "refId": name},
        "multi": True, "includeAll": True, "allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}, "refresh": 2, "sort": 1,
    }  # fmt: skip


DASHBOARD: Json = {
    "uid": "litestream-sidecar",
    "title": "litestream-sidecar: can it be restored?",
    "description": "Lag, proof and time to restore of every SQLite database that Litestream backs up.",
    "tags": ["litestream", "sqlite", "backup"],
    "schemaVersion": 39,
    "editable": True,
    "refresh": "1m",
    "time": {"from": "now-24h", "to": "now"},
    "timezone": "browser",
    "graphTooltip": 1,
    "links": [link("Runbooks", "alerts")],
    "templating": {"list": [
        {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "refresh": 1},
        variable("job", "Job", "litestream_sidecar_build_info"),
        variable("db", "Database", 'litestream_sidecar_ready{job=~"$job"}'),
    ]},
    "panels": laid_out(),
}  # fmt: skip
