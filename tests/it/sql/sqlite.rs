//! Parity: the SQL of a condition selects exactly the devices that `query::matches` selects.

use fleetform::model::device::Device;
use fleetform::query::{self, Query};
use fleetform::registry::sql::sqlite::{Sqlite, register_functions};
use fleetform::registry::sql::{Param, lower};
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, params_from_iter};
use serde_json::json;

use super::generated::{Dice, check_longest, check_parity};

/// Returns a function that selects by conditions out of a table with these devices.
fn table(devices: &[Device]) -> impl FnMut(&Query) -> Vec<String> + use<> {
    let (connection, devices) = (database(devices), devices.to_vec());
    move |query| selected(&connection, &devices, query)
}

#[test]
fn sql_selects_what_the_reference_selects() {
    check_parity(table);
}

#[test]
fn the_longest_conditions_run() {
    check_longest(table);
}

fn database(devices: &[Device]) -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    register_functions(&connection).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE device (
                device_id TEXT PRIMARY KEY, device_name TEXT NOT NULL, template TEXT, organization TEXT,
                state TEXT NOT NULL, blocked INTEGER NOT NULL, simulated INTEGER NOT NULL, iot_edge INTEGER NOT NULL,
                connection_state TEXT NOT NULL, last_activity TEXT, tags TEXT NOT NULL, cloud TEXT NOT NULL,
                desired TEXT NOT NULL, reported TEXT NOT NULL, desired_version INTEGER NOT NULL,
                reported_version INTEGER NOT NULL
            ) WITHOUT ROWID, STRICT",
        )
        .unwrap();
    let mut insert = connection.prepare("INSERT INTO device VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)").unwrap();
    for device in devices {
        insert
            .execute(rusqlite::params![
                device.device_id,
                device.device_name,
                device.template,
                device.organization,
                device.state.as_str(),
                device.blocked,
                device.simulated,
                device.iot_edge,
                device.connection_state.as_str(),
                device.last_activity.map(|at| at.to_string()),
                device.tags.to_string(),
                device.cloud.to_string(),
                device.desired.to_string(),
                device.reported.to_string(),
                device.desired_version as i64,
                device.reported_version as i64,
            ])
            .unwrap();
    }
    drop(insert);
    connection
}

fn selected(connection: &Connection, devices: &[Device], query: &Query) -> Vec<String> {
    let lowered = lower(query, "d", 1, &Sqlite);
    let sql = format!("SELECT device_id FROM device AS d WHERE {} ORDER BY device_id", lowered.sql);
    let mut statement = connection.prepare(&sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
    let rows = statement.query_map(params_from_iter(lowered.params), |row| row.get(0)).unwrap();
    let mut found: Vec<String> = rows.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{error}: {sql}"));
    if !lowered.is_exact {
        let is_selected =
            |id: &String| devices.iter().any(|device| device.device_id == *id && query::matches(query, device));
        found.retain(is_selected);
    }
    found
}

/// The shapes that fleets use most, over the alias `d`.
#[test]
fn usual_conditions_are_plain_sql() {
    let check = |text: &str, expect: &str| {
        let query = query::parse(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
        assert_eq!(lower(&query, "d", 1, &Sqlite).sql, expect, "{text}");
    };
    let check_again = |text: &str| {
        let lowered = lower(&query::parse(text).unwrap(), "d", 1, &Sqlite);
        assert_eq!((lowered.sql.as_str(), lowered.params.len(), lowered.is_exact), ("1", 0, false), "{text}");
    };
    let line = r#"json_extract(d.tags,'$."line"')"#;
    let line_type = r#"json_type(d.tags,'$."line"')"#;
    check("*", "1");
    check("deviceId = 'x'", "d.device_id = ?1");
    check("deviceId IN ['x', 'y']", "d.device_id IN (?1,?2)");
    check("startswith(deviceId, 'a')", "(d.device_id >= ?1 AND d.device_id < ?2)");
    check("NOT startswith(deviceId, 'a')", "(d.device_id < ?1 OR d.device_id >= ?2)");
    check("status = 'enabled'", "d.blocked = 0");
    check("NOT status = 'enabled'", "d.blocked = 1");
    check("blocked = true", "d.blocked = 1");
    check("NOT simulated", "d.simulated = 0");
    check("tags.line = '3'", &format!("{line} = ?1"));
    check("'3' = tags.line", &format!("{line} = ?1"));
    check("tags.line = '{}'", &format!("({line} = ?1 AND {line_type} = 'text')"));
    check("tags.line != '3'", &format!("({line} != ?1 AND {line_type} = 'text')"));
    check("NOT tags.line = '3'", &format!("({line} != ?1 AND {line_type} = 'text')"));
    check("tags.line = 20", &format!("{line} = ?1"));
    check("tags.line = 1", &format!("({line} = ?1 AND {line_type} IN ('integer','real'))"));
    check("tags.line > 20", &format!("({line} > ?1 AND {line} < '')"));
    check("tags.line < 20", &format!("({line} < ?1 AND {line_type} IN ('integer','real'))"));
    check("tags.line = true", &format!("{line_type} = 'true'"));
    check("tags.line", &format!("{line_type} = 'true'"));
    check("tags.line IN ['a', 'b', 7]", &format!("({line} IN (?1,?2) OR {line} IN (?3))"));
    check("tags.line NIN ['a']", &format!("({line} NOT IN (?1) AND {line_type} = 'text')"));
    check("is_defined(tags.line)", &format!("{line_type} IS NOT NULL"));
    check("NOT is_defined(tags.line)", &format!("{line_type} IS NULL"));
    check("startswith(tags.line, 'a')", &format!("({line} >= ?1 AND {line} < ?2)"));
    check("tags.[[it's]] = 'a'", r#"json_extract(d.tags,'$."it''s"') = ?1"#);
    check_again("tags.[[a\\b]] = 'a'");
    let number = format!("CASE WHEN {line_type} IN ('integer','real') THEN {line} END");
    check("tags.line = deviceId", &format!("({line_type} = 'text' AND {line} = d.device_id)"));
    check("organization != template", "d.organization != d.template");
    check("NOT tags.line < properties.desired.$version", &{
        format!("({line_type} IN ('integer','real') AND {line} >= d.desired_version)")
    });
    let other = r#"json_extract(d.cloud,'$."a"')"#;
    let other_type = r#"json_type(d.cloud,'$."a"')"#;
    check(
        "tags.line > cloud.a",
        &format!(
            "({line} > {other} AND CASE {line_type} WHEN 'text' THEN {other_type} = 'text' WHEN 'integer' THEN \
             {other_type} IN ('integer','real') WHEN 'real' THEN {other_type} IN ('integer','real') END)"
        ),
    );
    check("tags.line + 1 > 2", &format!("nullif(nullif({number} + ?1, 9e999), -9e999) > ?2"));
    check("1 / -tags.line = 2", &format!("nullif(nullif(CAST(?1 AS REAL) / (0 - {number}), 9e999), -9e999) = ?2"));
    let end = "CAST(x'FF' AS TEXT)";
    check("length(deviceName) > 20", &format!("(instr(d.device_name || {end}, {end}) - 1) > ?1"));
    // Floats are checked again, integers are not wrong.
    check(
        "NOT tags.line % 2 = 0",
        &format!("CASE WHEN typeof({line}) <> 'real' THEN ({number} % ?1) != ?2 ELSE 1 END"),
    );
    check_again("(tags.line + 1) % 2 = 0");
    check_again("length(tags.line) % 1.5 = 0");
    check_again("startswith(deviceId, tags.line)");
    check_again("tags.line IN [deviceId]");
    // An operand that a comparison does not need gets no parameter.
    check("is_string(tags.line + 1) OR deviceId = 'y'", "(0 OR d.device_id = ?1)");
    check("moduleId = 'x' OR deviceId = 'y'", "(0 OR d.device_id = ?1)");
}

/// Constants are bound and properties are read from text: both must be the same number. Random bits reach all
/// magnitudes.
#[test]
fn numbers_of_json_are_read_as_the_reference_reads_them() {
    let connection = Connection::open_in_memory().unwrap();
    let mut read = connection.prepare("SELECT json_extract(?1, '$.\"n\"')").unwrap();
    let mut dice = Dice(0x5EED_F1EE_7F0B_0002);
    let mut check = |number: serde_json::Number| {
        let text = json!({"n": number}).to_string();
        let found: SqlValue = read.query_row([&text], |row| row.get(0)).unwrap();
        let is_same = match (&found, number.as_i64()) {
            (SqlValue::Integer(found), Some(integer)) => *found == integer,
            (SqlValue::Real(found), None) => number.as_f64().is_some_and(|real| found.to_bits() == real.to_bits()),
            _ => false,
        };
        assert!(is_same, "{text}: {found:?}");
    };
    for _ in 0..100_000 {
        let bits =
            ((dice.below(1 << 31) as u64) << 33) ^ ((dice.below(1 << 31) as u64) << 10) ^ dice.below(1 << 20) as u64;
        check(bits.into());
        check((bits as i64).into());
        if let Some(real) = serde_json::Number::from_f64(f64::from_bits(bits)) {
            check(real);
        }
        let decimal = format!("{}.{}e{}", dice.below(1_000), dice.below(1 << 31), dice.below(60) as i64 - 30);
        check(serde_json::from_str(&decimal).unwrap());
    }
}

#[test]
fn parameters_are_numbered_from_the_first() {
    let query = query::parse("deviceId = 'x' AND tags.n > 2").unwrap();
    let lowered = lower(&query, "device", 7, &Sqlite);
    assert!(lowered.sql.contains("device.device_id = ?7") && lowered.sql.contains("> ?8"), "{}", lowered.sql);
    assert_eq!(lowered.params, [Param::Text("x".to_string()), Param::Integer(2)]);
}

#[test]
fn indexes_answer_the_usual_conditions() {
    let connection = database(&[]);
    connection.execute_batch(r#"CREATE INDEX line ON device (json_extract(tags,'$."line"'))"#).unwrap();
    let check = |text: &str, expect: &str| {
        let lowered = lower(&query::parse(text).unwrap(), "d", 1, &Sqlite);
        let sql = format!("EXPLAIN QUERY PLAN SELECT device_id FROM device AS d WHERE {}", lowered.sql);
        let mut statement = connection.prepare(&sql).unwrap();
        let rows = statement.query_map(params_from_iter(lowered.params), |row| row.get::<_, String>(3)).unwrap();
        let plan = rows.collect::<Result<Vec<_>, _>>().unwrap().join("; ");
        assert!(plan.contains(expect), "{text}: {plan}");
    };
    check("deviceId = 'x'", "SEARCH d USING PRIMARY KEY (device_id=?)");
    check("deviceId IN ['x', 'y']", "SEARCH d USING PRIMARY KEY (device_id=?)");
    check("startswith(deviceId, 'a')", "SEARCH d USING PRIMARY KEY (device_id>? AND device_id<?)");
    check("tags.line = '3' AND blocked = false", "INDEX line (<expr>=?)");
    check("tags.line IN ['3', '4']", "INDEX line (<expr>=?)");
    check("tags.line > 20", "INDEX line (<expr>>? AND <expr><?)");
    check("startswith(tags.line, '3')", "INDEX line (<expr>>? AND <expr><?)");
}
