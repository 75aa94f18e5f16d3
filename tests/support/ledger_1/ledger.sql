BEGIN TRANSACTION;
CREATE TABLE inputs (
    id BLOB PRIMARY KEY,      -- the relative path as bytes, because names need not be UTF-8
    position INTEGER,         -- its place among the inputs of the last command; NULL: not among them
    path BLOB NOT NULL,       -- where it was found
    size INTEGER,
    mtime_ns INTEGER,
    content TEXT,             -- SHA-256 of what was read, where it was computed
    status TEXT,              -- NULL: not answered yet
    attempts INTEGER NOT NULL DEFAULT 0,
    seconds REAL,             -- from its opening to its answer
    answered REAL,            -- when, in seconds since 1970
    answer TEXT,              -- the row as JSON
    checksum TEXT             -- SHA-256 of id, status and answer
) WITHOUT ROWID;
INSERT INTO "inputs" VALUES(X'612FC3BC2E6D7034',1,X'2F766964656F732F612FC3BC2E6D7034',1000,1795000000000000000,NULL,'partial',1,0.25,1795831201.0,'{"path": "a/\u00fc.mp4", "status": "partial", "seconds": 2.5, "looks": 10, "action": {"label": "wave", "score": 0.75, "top": [{"label": "wave", "score": 0.75}, {"label": "sit", "score": 0.25}], "unknown": null, "distance": null}, "warnings": ["truncated: 3 s are missing."], "error": ""}','b2a678387f12e04835b5e34788f0aba46189ef518cc242f7f8661bfd1d30d8f0');
INSERT INTO "inputs" VALUES(X'612FFF2E6D7034',2,X'2F766964656F732F612FFF2E6D7034',1000,1795000000000000000,NULL,'ok',1,0.25,1795831201.0,'{"path": "a/\udcff.mp4", "status": "ok", "seconds": 7.0, "looks": 28, "action": {"label": "wave", "score": 0.75, "top": [{"label": "wave", "score": 0.75}, {"label": "sit", "score": 0.25}], "unknown": null, "distance": null}, "warnings": [], "error": ""}','d0c62b2976e11e42ab8a354f8bedd360dfdc2abb04ac28fa431b28e3526a4db0');
INSERT INTO "inputs" VALUES(X'622E6D7034',0,X'2F766964656F732F622E6D7034',1000,1795000000000000000,NULL,'ok',1,0.25,1795831201.0,'{"path": "b.mp4", "status": "ok", "seconds": 7.0, "looks": 28, "action": {"label": "wave", "score": 0.75, "top": [{"label": "wave", "score": 0.75}, {"label": "sit", "score": 0.25}], "unknown": null, "distance": null}, "warnings": [], "error": ""}','f51e99bc1acc410fe6fda353d6dde59e181783f037ac243cfdcdb2342ae25926');
INSERT INTO "inputs" VALUES(X'6261642E6D7034',3,X'2F766964656F732F6261642E6D7034',1000,1795000000000000000,NULL,'failed:not_a_video',1,0.25,1795831201.0,'{"path": "bad.mp4", "status": "failed:not_a_video", "seconds": 0.0, "looks": 0, "warnings": [], "error": "It is text."}','2849d15c2b8ce23003110f622c3974f97c73d06758bf11b6a6096e93a5efb46d');
INSERT INTO "inputs" VALUES(X'6C6566742E6D7034',5,X'2F766964656F732F6C6566742E6D7034',NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL);
INSERT INTO "inputs" VALUES(X'736C6F772E6D7034',4,X'2F766964656F732F736C6F772E6D7034',1000,1795000000000000000,NULL,'timeout',1,0.25,1795831201.0,'{"path": "slow.mp4", "status": "timeout", "seconds": 0.0, "looks": 0, "warnings": [], "error": "It took longer than 30 s."}','d7054c50586bef9d61b6d37d6e1ab4d80830431d04330c5781baf340a6729c60');
CREATE TABLE job (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "job" VALUES('job','{"columns": {"action": ["label", "score", "top"]}, "fingerprint": {"device": "cpu", "looks": 1, "model": "0123456789abcdef"}, "formats": ["jsonl", "csv"], "model": "/runs/x/model", "options": {"attention": false, "top": 2}, "shard": null}');
INSERT INTO "job" VALUES('started','1795831200.0');
CREATE INDEX inputs_position ON inputs (position, id);
COMMIT;
PRAGMA user_version = 1;
