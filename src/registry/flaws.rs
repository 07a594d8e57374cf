//! What must hold between the tables of a registry, whatever store it is in: statements in the SQL that all of them
//! have in common.

/// Rows that contradict others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    pub kind: FlawKind,
    /// How many there are, at least 1.
    pub count: u64,
    /// One of them: a device, a run as `JOB run RUN`, or a number and what was expected.
    pub example: String,
}

/// A kind of contradiction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FlawKind {
    /// Keys of a device that is not there.
    KeysWithoutDevice,
    /// What was said of a device that is not there.
    StatusWithoutDevice,
    /// A message to a device that is not there.
    MessageWithoutDevice,
    /// The session of a device that is not there, or when it connected.
    SessionWithoutDevice,
    /// A device that left the file of its import, and is not there.
    LeftWithoutDevice,
    /// The number of devices is not that of their rows.
    DevicesMiscounted,
    /// A target, an outcome, a mark or a late answer of a run that is not there.
    RowsWithoutRun,
    /// An outcome of a place that the target of its run does not have.
    OutcomeBeyondTarget,
    /// The outcomes of a run are not as many as were counted.
    OutcomesMiscounted,
    /// A mark of a place that the target of its run does not have.
    MarkBeyondTarget,
    /// A mark of a run that was completed. A run that ended in another way keeps the marks of its pending devices: their
    /// rows say what they were left in.
    MarkOfCompletedRun,
    /// A mark of a device that has an outcome.
    MarkBesideOutcome,
}

impl FlawKind {
    pub const ALL: [FlawKind; 12] = [
        FlawKind::KeysWithoutDevice,
        FlawKind::StatusWithoutDevice,
        FlawKind::MessageWithoutDevice,
        FlawKind::SessionWithoutDevice,
        FlawKind::LeftWithoutDevice,
        FlawKind::DevicesMiscounted,
        FlawKind::RowsWithoutRun,
        FlawKind::OutcomeBeyondTarget,
        FlawKind::OutcomesMiscounted,
        FlawKind::MarkBeyondTarget,
        FlawKind::MarkOfCompletedRun,
        FlawKind::MarkBesideOutcome,
    ];

    /// Returns the statement that counts the rows: one row with the count and, unless that is 0, an example.
    pub(super) fn statement(self) -> &'static str {
        match self {
            FlawKind::KeysWithoutDevice => {
                "SELECT count(*), min(k.device_id) FROM device_key AS k
                 WHERE NOT EXISTS (SELECT 1 FROM device AS d WHERE d.device_id = k.device_id)"
            }
            FlawKind::StatusWithoutDevice => {
                "SELECT count(*), min(s.device_id) FROM device_status AS s
                 WHERE NOT EXISTS (SELECT 1 FROM device AS d WHERE d.device_id = s.device_id)"
            }
            FlawKind::MessageWithoutDevice => {
                "SELECT count(*), min(m.device_id) FROM message AS m
                 WHERE NOT EXISTS (SELECT 1 FROM device AS d WHERE d.device_id = m.device_id)"
            }
            FlawKind::SessionWithoutDevice => {
                "SELECT count(*), min(n.device_id) FROM (
                     SELECT device_id FROM device_session UNION SELECT device_id FROM device_connection
                 ) AS n
                 WHERE NOT EXISTS (SELECT 1 FROM device AS d WHERE d.device_id = n.device_id)"
            }
            FlawKind::DevicesMiscounted => {
                "SELECT count(*), min(CAST(d.found AS text) || ' in place of ' || m.value)
                 FROM (SELECT count(*) AS found FROM device) AS d, meta AS m
                 WHERE m.key = 'devices' AND m.value <> CAST(d.found AS text)"
            }
            FlawKind::LeftWithoutDevice => {
                "SELECT count(*), min(l.device_id) FROM left_device AS l
                 WHERE NOT EXISTS (SELECT 1 FROM device AS d WHERE d.device_id = l.device_id)"
            }
            FlawKind::RowsWithoutRun => {
                "SELECT count(*), min('run number ' || CAST(rows.run_id AS text)) FROM (
                     SELECT run_id FROM run_target UNION SELECT run_id FROM outcome
                     UNION SELECT run_id FROM outcome_count UNION SELECT run_id FROM sent
                     UNION SELECT run_id FROM late UNION SELECT run_id FROM answer
                 ) AS rows
                 WHERE NOT EXISTS (SELECT 1 FROM run AS r WHERE r.run_id = rows.run_id)"
            }
            FlawKind::OutcomeBeyondTarget => {
                "SELECT count(*), min(r.job || ' run ' || r.run) FROM outcome AS o JOIN run AS r ON r.run_id = o.run_id
                 WHERE o.ordinal < 0 OR o.ordinal >= r.total"
            }
            FlawKind::OutcomesMiscounted => {
                "SELECT count(*), min(r.job || ' run ' || r.run) FROM run AS r WHERE r.run_id IN (
                     SELECT differing.run_id FROM (
                         SELECT run_id, reason, count(*) AS devices FROM outcome GROUP BY run_id, reason
                         UNION ALL SELECT run_id, reason, -sum(devices) FROM outcome_count GROUP BY run_id, reason
                     ) AS differing
                     GROUP BY differing.run_id, differing.reason HAVING sum(differing.devices) <> 0
                 )"
            }
            FlawKind::MarkBeyondTarget => {
                "SELECT count(*), min(r.job || ' run ' || r.run) FROM sent AS s JOIN run AS r ON r.run_id = s.run_id
                 WHERE s.ordinal < 0 OR s.ordinal >= r.total"
            }
            FlawKind::MarkOfCompletedRun => {
                "SELECT count(*), min(r.job || ' run ' || r.run) FROM sent AS s JOIN run AS r ON r.run_id = s.run_id
                 WHERE r.is_closed AND r.status = 'completed'"
            }
            FlawKind::MarkBesideOutcome => {
                "SELECT count(*), min(r.job || ' run ' || r.run) FROM sent AS s
                 JOIN run AS r ON r.run_id = s.run_id
                 JOIN outcome AS o ON o.run_id = s.run_id AND o.ordinal = s.ordinal"
            }
        }
    }

    /// Returns the flaw that a statement has found.
    pub(super) fn found(self, count: i64, example: Option<String>) -> Option<Flaw> {
        let count = u64::try_from(count).ok().filter(|count| *count > 0)?;
        Some(Flaw { kind: self, count, example: example.unwrap_or_default() })
    }
}
