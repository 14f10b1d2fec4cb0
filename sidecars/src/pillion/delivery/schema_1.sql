-- The delivery store, version 1. Times are nanoseconds since the Unix epoch; 0 means "not".

-- Where deliveries go. Rows of destinations that are configured no more stay while they have deliveries.
CREATE TABLE destinations (
    id           INTEGER PRIMARY KEY,
    name         TEXT    NOT NULL UNIQUE,
    identity     TEXT    NOT NULL DEFAULT '',  -- what was disabled or paused; another identity is another destination
    disabled     TEXT    NOT NULL DEFAULT '',  -- why it is disabled
    paused_until INTEGER NOT NULL DEFAULT 0,
    last_success INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Each payload once. `seq` orders by acceptance.
CREATE TABLE messages (
    seq         INTEGER PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    type        TEXT    NOT NULL,
    accepted    INTEGER NOT NULL,
    fingerprint BLOB,                          -- digest of what the caller said; NULL when the id is ours
    attributes  TEXT,                          -- JSON object; NULL when empty
    body        BLOB    NOT NULL
) STRICT;

-- One row per message and destination; a settled row stays until its retention is over.
CREATE TABLE deliveries (
    message     INTEGER NOT NULL,
    destination INTEGER NOT NULL,
    state       INTEGER NOT NULL,              -- 0 pending, 1 succeeded, 2 failed, 3 cancelled
    attempts    INTEGER NOT NULL,
    step        INTEGER NOT NULL,              -- retries taken from the schedule in this round
    due         INTEGER NOT NULL,              -- pending: next attempt; settled: when it is forgotten
    settled     INTEGER NOT NULL,
    reason      TEXT    NOT NULL,
    PRIMARY KEY (message, destination)
) STRICT, WITHOUT ROWID;

CREATE INDEX waiting ON deliveries (destination, due) WHERE state = 0;
CREATE INDEX forgetting ON deliveries (due) WHERE state <> 0;

CREATE TABLE attempts (
    message     INTEGER NOT NULL,
    destination INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    started     INTEGER NOT NULL,
    duration    INTEGER NOT NULL,
    outcome     TEXT    NOT NULL,
    status      INTEGER NOT NULL,
    reason      TEXT    NOT NULL,
    excerpt     BLOB    NOT NULL,
    PRIMARY KEY (message, destination, number)
) STRICT, WITHOUT ROWID;
