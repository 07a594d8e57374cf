//! Parity: the SQL of a condition selects exactly the devices that `query::matches` selects.

use rusqlite::{Connection, params_from_iter};
use serde_json::{Map, Value, json};

use super::*;
use crate::model::device::{ConnectionState, Device, DeviceState};
use crate::query::{Answer, Query};
use crate::registry::sql::lower;
use rusqlite::types::Value as SqlValue;

/// The parity test compares each of these conditions on each of these devices: half a million pairs take 1 s in debug.
const PARITY_CONDITIONS: usize = 5_000;
const PARITY_DEVICES: usize = 100;
/// Each kind of answer must be at least one in this many, or the conditions are not mixed well.
const PARITY_SHARE: usize = 10;

fn device(device_id: &str) -> Device {
    Device {
        device_id: device_id.to_string(),
        device_name: device_id.to_uppercase(),
        template: None,
        organization: None,
        state: DeviceState::Provisioned,
        blocked: false,
        simulated: false,
        iot_edge: false,
        connection_state: ConnectionState::Connected,
        last_activity: None,
        edge_manifest: None,
        tags: json!({}),
        cloud: json!({}),
        desired: json!({}),
        desired_version: 1,
        reported: json!({}),
        reported_version: 1,
    }
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

/// A seeded generator (xorshift64*), so that a failure repeats.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

const KEYS: [&str; 12] = ["a", "b", "c", "n", "in", "my-key", "it's", "q\"t", "b\\s", "\u{e9}\u{1f600}", "\0", "A"];
const TEXTS: [&str; 25] = [
    "\u{c9}cole",
    "stra\u{df}e",
    "\u{130}\u{3a3}",
    "",
    "a",
    "ab",
    "A",
    "abc",
    "1",
    "true",
    "null",
    "{",
    "[",
    "{\"a\":1}",
    "[1]",
    "it's",
    "\u{e9}a",
    "\u{1f600}",
    "\u{d7ff}",
    "\u{10ffff}x",
    "a\\b",
    "a\nb",
    "\u{c9}Ab",
    "a\0b",
    "\0",
];
const NUMBERS: [&str; 25] = [
    "0",
    "1",
    "2",
    "-1",
    "1.0",
    "1.5",
    "0.0",
    "-0.5",
    "1e3",
    "1000",
    "9007199254740993",
    "9007199254740992.0",
    "4503599627370495",
    "9223372036854775807",
    "18446744073709551615",
    "1e300",
    "0.1",
    "123456789.12345679",
    "-9223372036854775808",
    "-7",
    "3",
    "4611686018427387905",
    "-1e308",
    "5e-324",
    "0.30000000000000004",
];

fn twin_value(dice: &mut Dice, depth: usize) -> Value {
    match dice.below(if depth == 0 { 9 } else { 12 }) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(false),
        3..=5 => serde_json::from_str(dice.pick(&NUMBERS)).unwrap(),
        6..=8 => json!(dice.pick(&TEXTS)),
        9 => Value::Array((0..dice.below(3)).map(|_| twin_value(dice, depth - 1)).collect()),
        _ => section(dice, depth - 1),
    }
}

fn section(dice: &mut Dice, depth: usize) -> Value {
    let members: Map<String, Value> =
        (0..dice.below(7)).map(|_| (KEYS[dice.below(KEYS.len())].to_string(), twin_value(dice, depth))).collect();
    Value::Object(members)
}

fn random_device(dice: &mut Dice, at: usize) -> Device {
    let optional = |dice: &mut Dice| (dice.below(2) == 0).then(|| dice.pick(&TEXTS).to_string());
    let ids = ["a", "ab", "dev-1", "1", "A", "\u{1f600}", "abc", "b"];
    Device {
        device_id: if at < ids.len() { ids[at].to_string() } else { format!("{}{at}", dice.pick(&["a", "b", "ab"])) },
        device_name: dice.pick(&TEXTS).to_string(),
        template: optional(dice),
        organization: optional(dice),
        state: DeviceState::ALL[dice.below(4)],
        blocked: dice.below(2) == 0,
        simulated: dice.below(2) == 0,
        iot_edge: dice.below(2) == 0,
        connection_state: if dice.below(2) == 0 { ConnectionState::Connected } else { ConnectionState::Disconnected },
        last_activity: (dice.below(2) == 0).then(|| jiff::Timestamp::from_second(dice.below(1 << 30) as i64).unwrap()),
        tags: section(dice, 3),
        cloud: section(dice, 2),
        desired: section(dice, 2),
        desired_version: dice.below(3) as u64 + 1,
        reported: section(dice, 2),
        reported_version: dice.below(3) as u64 + 1,
        ..device("")
    }
}

fn quoted(text: &str) -> String {
    let json = Value::from(text).to_string();
    if text.contains('\'') { json } else { format!("'{}'", json[1..json.len() - 1].replace("\\\"", "\"")) }
}

fn random_path(dice: &mut Dice) -> String {
    const SYSTEM: [&str; 16] = [
        "deviceId",
        "id",
        "deviceName",
        "template",
        "organization",
        "status",
        "connectionState",
        "lastActivityTime",
        "simulated",
        "blocked",
        "capabilities.iotEdge",
        "$provisioned",
        "properties.desired.$version",
        "properties.reported.$version",
        "moduleId",
        "configurations.[[c-1]].status",
    ];
    if dice.below(4) == 0 {
        return dice.pick(&SYSTEM).to_string();
    }
    let mut path = dice.pick(&["tags", "tags", "cloud", "properties.desired", "properties.reported"]).to_string();
    for _ in 0..[0, 1, 1, 1, 1, 1, 2, 2, 3][dice.below(9)] {
        path.push_str(&format!(".[[{}]]", KEYS[dice.below(KEYS.len())]));
    }
    path
}

fn random_literal(dice: &mut Dice) -> String {
    match dice.below(10) {
        0 => dice.pick(&["true", "false"]).to_string(),
        1 => dice.pick(&["null", "undefined"]).to_string(),
        2..=5 => dice.pick(&NUMBERS).to_string(),
        _ => quoted(dice.pick(&TEXTS)),
    }
}

fn random_operand(dice: &mut Dice, depth: usize) -> String {
    match dice.below(if depth == 0 { 6 } else { 10 }) {
        0..=3 => random_path(dice),
        4 | 5 => random_literal(dice),
        6 => format!("{}({})", dice.pick(&["lower", "upper", "length"]), random_operand(dice, depth - 1)),
        7 => format!("-{}", random_operand(dice, depth - 1)),
        _ => format!(
            "({} {} {})",
            random_operand(dice, depth - 1),
            dice.pick(&["+", "-", "*", "/", "%"]),
            random_operand(dice, depth - 1)
        ),
    }
}

/// Returns a condition that compares the values of one device with each other and with calculations.
fn random_calculation(dice: &mut Dice) -> String {
    let number = |dice: &mut Dice| match dice.below(4) {
        0 => dice.pick(&NUMBERS).to_string(),
        1 => format!("length({})", random_path(dice)),
        _ => random_path(dice),
    };
    match dice.below(4) {
        0 => random_path(dice),
        1 => format!("{} % {}", number(dice), number(dice)),
        2 => format!("length({})", random_path(dice)),
        _ => format!("{} {} {}", number(dice), dice.pick(&["+", "-", "*", "/"]), number(dice)),
    }
}

fn random_atom(dice: &mut Dice, depth: usize) -> String {
    let operator = dice.pick(&["=", "!=", "<>", "<", "<=", ">", ">="]);
    match dice.below(15) {
        12 => format!("{} {operator} {}", random_path(dice), random_calculation(dice)),
        13 => format!("{} {operator} {}", random_calculation(dice), random_calculation(dice)),
        14 => format!("{} {operator} {}", random_calculation(dice), dice.pick(&NUMBERS)),
        0..=3 => format!("{} {operator} {}", random_path(dice), random_literal(dice)),
        4 => format!("{} {operator} {}", random_literal(dice), random_path(dice)),
        5 => format!("{} {operator} {}", random_operand(dice, 2), random_operand(dice, 2)),
        6 | 7 => {
            let list: Vec<_> = (0..dice.below(5)).map(|_| random_literal(dice)).collect();
            format!("{} {} [{}]", random_operand(dice, 1), dice.pick(&["IN", "NIN"]), list.join(", "))
        }
        8 => {
            let test = dice.pick(&[
                "is_defined",
                "is_null",
                "is_string",
                "is_number",
                "is_bool",
                "is_object",
                "is_array",
                "is_primitive",
            ]);
            format!("{test}({})", random_operand(dice, 1))
        }
        9 => {
            let test = dice.pick(&["startswith", "endswith", "contains"]);
            format!("{test}({}, {})", random_operand(dice, 1), quoted(dice.pick(&TEXTS)))
        }
        10 => random_path(dice),
        _ if depth > 0 => format!("({}) = {}", random_condition(dice, depth - 1), dice.pick(&["true", "tags.a"])),
        _ => dice.pick(&["true", "false"]).to_string(),
    }
}

fn random_condition(dice: &mut Dice, depth: usize) -> String {
    if depth == 0 {
        return random_atom(dice, 0);
    }
    match dice.below(6) {
        0 | 1 => format!("NOT ({})", random_condition(dice, depth - 1)),
        2 => format!("({} AND {})", random_condition(dice, depth - 1), random_condition(dice, depth - 1)),
        3 => format!("({} OR {})", random_condition(dice, depth - 1), random_condition(dice, depth - 1)),
        _ => random_atom(dice, depth),
    }
}

#[test]
fn sql_selects_what_the_reference_selects() {
    let mut dice = Dice(0x5EED_F1EE_7F0B_0001);
    let devices: Vec<Device> = (0..PARITY_DEVICES).map(|at| random_device(&mut dice, at)).collect();
    let connection = database(&devices);
    let mut compared = 0;
    // True, false, undefined.
    let mut answers = [0; 3];
    while compared < PARITY_CONDITIONS {
        let depth = dice.below(4);
        let text = random_condition(&mut dice, depth);
        // Some mix types in a way that the check refuses.
        let Ok(query) = query::parse(&text) else { continue };
        let mut expect: Vec<String> = devices
            .iter()
            .filter(|device| query::matches(&query, device))
            .map(|device| device.device_id.clone())
            .collect();
        expect.sort();
        let found = selected(&connection, &devices, &query);
        assert_eq!(found, expect, "{text}\n{}", lower(&query, "d", 1, &Sqlite).sql);
        compared += 1;
        for device in &devices {
            let kind = match query::evaluate(query.condition(), device) {
                Answer::Bool(true) => 0,
                Answer::Bool(false) => 1,
                _ => 2,
            };
            answers[kind] += 1;
        }
    }
    let pairs = PARITY_CONDITIONS * PARITY_DEVICES;
    assert_eq!(answers.iter().sum::<usize>(), pairs);
    assert!(answers.iter().all(|count| count * PARITY_SHARE > pairs), "true, false and undefined: {answers:?}");
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

/// SQLite refuses expressions deeper than 1,000 and functions with too many arguments; no legal condition gets there.
#[test]
fn the_longest_conditions_run() {
    let on = Device { tags: json!({"a": true, "n": 1}), ..device("on") };
    let devices = [on, device("off")];
    let connection = database(&devices);
    let check = |text: &str| {
        let query = query::parse(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
        let expect: Vec<_> =
            devices.iter().filter(|device| query::matches(&query, device)).map(|d| d.device_id.clone()).collect();
        assert_eq!(expect, ["on"], "{text}");
        assert_eq!(selected(&connection, &devices, &query), expect, "{text}");
    };
    check(&vec!["tags.a"; 800].join(" OR "));
    check(&vec!["tags.a"; 740].join(" AND "));
    check(&vec!["tags.n IN [1]"; 450].join(" AND "));
    check(&format!("tags.n IN [1{}]", ",2".repeat(4_000)));
    let paths: Vec<String> = (0..700).map(|at| format!("tags.x{at}")).collect();
    check(&format!("tags.n IN [tags.n, {}]", paths.join(",")));
    let nested = (0..63).fold("tags.a".to_string(), |inner, at| {
        let (open, close) = if at % 2 == 0 { ("cloud.a OR ", "") } else { ("tags.n = 1 AND ", " AND tags.a") };
        format!("({open}{inner}{close})")
    });
    check(&nested);
    check(&format!("{}tags.a{}", "NOT (".repeat(32), ")".repeat(32)));
    check(&vec!["tags.a=tags.a"; 480].join(" OR "));
    check(&vec!["tags.n%tags.n=0"; 400].join(" AND "));
    check(&format!("tags.n{} = 61", "+tags.n".repeat(60)));
    check(&format!("{}tags.n{} >= 1", "length([1])/(".repeat(30), ")".repeat(30)));
}
