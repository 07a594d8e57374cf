//! Parity: the SQL of a condition selects exactly the devices that `query::matches` selects; on a real server.

use fleetform::model::device::Device;
use fleetform::query::{self, Query};
use fleetform::registry::postgres::json::{read_text, stored, stored_text};
use fleetform::registry::sql::postgres::{IndexSql, Postgres, index_sql};
use fleetform::registry::sql::{Param, lower};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_postgres::Client;

use super::generated::{Dice, check_longest, check_parity, device};
use crate::cluster::{connect, fresh_database, shared};

/// A database with a table of devices.
struct Table {
    runtime: Runtime,
    client: Client,
    devices: Vec<Device>,
}

impl Table {
    fn new(devices: &[Device]) -> Table {
        Table::at(&fresh_database(), devices)
    }

    fn at(url: &str, devices: &[Device]) -> Table {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(connect(url)).unwrap();
        let table = Table { runtime, client, devices: devices.to_vec() };
        table.run(
            r#"CREATE TABLE device (
                device_id text COLLATE "C" PRIMARY KEY, device_name text COLLATE "C" NOT NULL,
                template text COLLATE "C", organization text COLLATE "C", state text COLLATE "C" NOT NULL,
                blocked boolean NOT NULL, simulated boolean NOT NULL, iot_edge boolean NOT NULL,
                connection_state text COLLATE "C" NOT NULL, last_activity text COLLATE "C",
                tags jsonb NOT NULL, cloud jsonb NOT NULL, desired jsonb NOT NULL, reported jsonb NOT NULL,
                desired_version bigint NOT NULL, reported_version bigint NOT NULL)"#,
        );
        devices.iter().for_each(|device| table.insert(device));
        table
    }

    fn run(&self, statements: &str) {
        self.runtime.block_on(self.client.batch_execute(statements)).unwrap_or_else(|e| panic!("{statements}: {e:?}"));
    }

    fn insert(&self, device: &Device) {
        let text = |text: &str| stored_text(text).into_owned();
        let optional = |value: &Option<String>| value.as_deref().map(text);
        let (desired, reported) = (device.desired_version as i64, device.reported_version as i64);
        let inserted = self.runtime.block_on(self.client.execute(
            "INSERT INTO device VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::jsonb, $12::text::jsonb,
                $13::text::jsonb, $14::text::jsonb, $15, $16)",
            &[
                &text(&device.device_id),
                &text(&device.device_name),
                &optional(&device.template),
                &optional(&device.organization),
                &device.state.as_str(),
                &device.blocked,
                &device.simulated,
                &device.iot_edge,
                &device.connection_state.as_str(),
                &device.last_activity.map(|at| at.to_string()),
                &stored(&device.tags),
                &stored(&device.cloud),
                &stored(&device.desired),
                &stored(&device.reported),
                &desired,
                &reported,
            ],
        ));
        assert_eq!(inserted.unwrap(), 1);
    }

    /// Returns the ids that a condition selects, sorted; what SQL cannot say is checked again.
    fn selected(&self, query: &Query) -> Vec<String> {
        let lowered = lower(query, "d", 1, &Postgres);
        let sql = format!("SELECT device_id FROM device AS d WHERE {} ORDER BY device_id", lowered.sql);
        let params: Vec<_> = lowered.params.iter().map(Param::bound).collect();
        let rows = self.runtime.block_on(self.client.query(&sql, &params));
        let rows = rows.unwrap_or_else(|error| panic!("{error:?}: {sql}"));
        let mut found: Vec<String> = rows.iter().map(|row| read_text(row.get(0))).collect();
        if !lowered.is_exact {
            let is_selected = |id: &String| {
                self.devices.iter().any(|device| device.device_id == *id && query::matches(query, device))
            };
            found.retain(is_selected);
        }
        found
    }
}

fn table(devices: &[Device]) -> impl FnMut(&Query) -> Vec<String> + use<> {
    let table = Table::new(devices);
    move |query| table.selected(query)
}

#[test]
fn sql_selects_what_the_reference_selects() {
    check_parity(table);
}

#[test]
fn the_longest_conditions_run() {
    check_longest(table);
}

fn parsed(text: &str) -> Query {
    query::parse(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
}

/// The shapes that fleets use most, over the alias `d`.
#[test]
fn usual_conditions_are_plain_sql() {
    let check = |text: &str, expect: &str| {
        let lowered = lower(&parsed(text), "d", 1, &Postgres);
        assert_eq!((lowered.sql.as_str(), lowered.is_exact), (expect, true), "{text}");
    };
    let check_again = |text: &str, expect: &str| {
        let lowered = lower(&parsed(text), "d", 1, &Postgres);
        assert_eq!((lowered.sql.as_str(), lowered.is_exact), (expect, false), "{text}");
    };
    let (line, text) = ("(d.tags -> 'line')", "(d.tags ->> 'line')");
    let line_type = format!("jsonb_typeof({line})");
    let short = format!("octet_length({text}) <= 512");
    check("*", "TRUE");
    check("deviceId = 'x'", "d.device_id = $1::text");
    check("deviceId > 'x'", "d.device_id > $1::text COLLATE \"C\"");
    check("deviceId IN ['x', 'y']", "d.device_id IN ($1::text,$2::text)");
    check(
        "startswith(deviceId, 'a')",
        "(d.device_id >= $1::text COLLATE \"C\" AND d.device_id < $2::text COLLATE \"C\")",
    );
    check("status = 'enabled'", "NOT d.blocked");
    check("blocked = true", "d.blocked");
    check("NOT simulated", "NOT d.simulated");
    check("tags.line = '3'", &format!("({line} = $1::text::jsonb AND {short})"));
    check("tags.line != '3'", &format!("({line} != $1::text::jsonb AND {line_type} = 'string')"));
    check("NOT tags.line = 20", &format!("({line} != $1::text::jsonb AND {line_type} = 'number')"));
    check("tags.line > 20", &format!("({line} > $1::text::jsonb AND {line} < 'false'::jsonb AND {short})"));
    check("tags.line < 20", &format!("({line} < $1::text::jsonb AND {line_type} = 'number' AND {short})"));
    check("tags.line > 'a'", &format!("({line_type} = 'string' AND {text} > $1::text COLLATE \"C\")"));
    check("tags.line", &format!("({line} = 'true'::jsonb AND {short})"));
    check(
        "tags.line IN ['a', true, 7]",
        &format!("({line} IN ($1::text::jsonb,$2::text::jsonb,'true'::jsonb) AND {short})"),
    );
    check("tags.line NIN ['a']", &format!("({line} NOT IN ($1::text::jsonb) AND {line_type} = 'string')"));
    check("is_defined(tags.line)", &format!("{line} IS NOT NULL"));
    check("tags.a.[[it's]] = null", "(d.tags -> 'a' -> 'it''s') = 'null'::jsonb");
    check("contains(deviceName, 'é')", "strpos(d.device_name COLLATE \"C\", $1::text) > 0");
    check("endswith(deviceName, 'éa')", "right(d.device_name, 2) = $1::text");
    check("properties.desired.$version > 1.5", "d.desired_version > $1::text::numeric");
    check("tags.line = deviceId", &format!("({line_type} = 'string' AND {text} = d.device_id)"));
    check("moduleId = 'x' OR deviceId = 'y'", "(FALSE OR d.device_id = $1::text)");
    check_again("tags.line + 1 > 2", "TRUE");
    check_again("contains(deviceName, \"\\u0002\")", "TRUE");
    check_again("tags.line IN [deviceId]", "TRUE");
    check_again(
        "lower(deviceName) = 'x'",
        "CASE WHEN octet_length(d.device_name) <> length(d.device_name) THEN TRUE ELSE lower(d.device_name COLLATE \
         \"C\") = $1::text END",
    );
    check_again(
        "tags.line = 9223372036854775808.0",
        &format!(
            "CASE WHEN {line} BETWEEN '9223372036854775808' AND '18446744073709551616' THEN TRUE ELSE ({line} = \
             $1::text::jsonb AND {short}) END"
        ),
    );
}

#[test]
fn parameters_are_numbered_from_the_first() {
    let lowered = lower(&parsed("deviceId = 'x' AND tags.n > 2"), "device", 7, &Postgres);
    assert!(lowered.sql.contains("device.device_id = $7::text") && lowered.sql.contains("> $8"), "{}", lowered.sql);
    assert_eq!(lowered.params, [Param::Text("x".to_string()), Param::Text("2".to_string())]);
}

/// A table with an index on each of some paths.
fn indexed(url: &str, devices: &[Device], conditions: &[&str]) -> Table {
    let table = Table::at(url, devices);
    for (at, condition) in conditions.iter().enumerate() {
        let paths = query::searched_paths(&parsed(condition));
        let IndexSql { expression, predicate } = index_sql(&paths[0]).unwrap();
        table.run(&format!("CREATE INDEX query_{at} ON device ({expression}) WHERE {predicate}"));
    }
    table.run("ANALYZE device");
    table
}

#[test]
fn indexes_answer_the_usual_conditions() {
    let device = |at: u32| Device {
        tags: json!({"line": format!("{}", at % 500), "n": at, "a": {"b's": at}}),
        ..device(&format!("d-{at:05}"))
    };
    let devices: Vec<Device> = (0..3_000).map(device).collect();
    let table = indexed(&fresh_database(), &devices, &["tags.line = '3'", "tags.n = 3", "tags.a.[[b's]] = 3"]);
    let check = |text: &str, expect: &str| {
        let lowered = lower(&parsed(text), "d", 1, &Postgres);
        let params: Vec<_> = lowered.params.iter().map(Param::bound).collect();
        // As for a statement that is kept prepared, and for one that is not.
        for mode in ["force_generic_plan", "force_custom_plan"] {
            table.run(&format!("SET plan_cache_mode = {mode}"));
            let sql = format!("EXPLAIN SELECT device_id FROM device AS d WHERE {}", lowered.sql);
            let rows = table.runtime.block_on(table.client.query(&sql, &params)).unwrap();
            let plan = rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n");
            let condition = plan.lines().find(|line| line.contains("Index Cond:")).unwrap_or_default();
            assert!(plan.contains(expect) && !condition.is_empty(), "{text}: {}\n{plan}", lowered.sql);
        }
        let expect: Vec<String> = super::generated::ids_of(&parsed(text), &devices);
        assert!(!expect.is_empty());
        assert_eq!(table.selected(&parsed(text)), expect, "{text}");
    };
    check("deviceId = 'd-00007'", "device_pkey");
    check("deviceId IN ['d-00007', 'd-00009']", "device_pkey");
    check("startswith(deviceId, 'd-0000')", "device_pkey");
    check("tags.line = '3' AND blocked = false", "query_0");
    check("'3' = tags.line", "query_0");
    check("tags.line IN ['3', '4']", "query_0");
    check("tags.n = 20", "query_1");
    check("tags.n IN [20, 30.0]", "query_1");
    check("tags.n > 2990", "query_1");
    check("tags.n < 20", "query_1");
    check("tags.n >= 20 AND tags.n <= 22.5", "query_1");
    check("tags.line = '3' OR tags.n = 7", "BitmapOr");
    check("tags.a.[[b's]] = 7", "query_2");
}

/// Also in a database whose own order of texts is another one, and with indexes that are taken wherever they can be.
#[test]
fn neither_indexes_nor_collations_change_what_is_selected() {
    let url = shared().make_database("collated", "LOCALE_PROVIDER icu ICU_LOCALE 'en-US'");
    let make = |devices: &[Device]| {
        let paths = ["tags.a", "tags.b", "tags.n", "cloud.a", "properties.desired.a", "tags.a.b", "tags.[[it's]]"];
        let conditions = paths.map(|path| format!("{path} = 1"));
        let table = indexed(&url, devices, &conditions.each_ref().map(String::as_str));
        table.run("SET enable_seqscan = off");
        move |query: &Query| table.selected(query)
    };
    check_parity(make);
}

/// The row of an index has 2,704 bytes at most. A value that is too long for one is not in the index, and is found.
#[test]
fn a_long_value_fails_no_write_and_is_found() {
    let table = indexed(&fresh_database(), &[], &["tags.line = '3'"]);
    // Nothing that could be compressed to less.
    let mut dice = Dice(7);
    let mut random = |count: usize| -> String {
        (0..count).map(|_| char::from_u32(0x4e00 + dice.below(0x5000) as u32).unwrap()).collect()
    };
    let digits = |count: usize| Value::from((0..count).map(|at| at * 7 % 10).collect::<Vec<_>>());
    let mut values = vec![json!(random(3_000)), json!([random(3_000)]), json!({"a": random(3_000)})];
    // Around the most that an index has: texts, and what has more bytes in `jsonb` than as a text.
    values.extend((100..200).flat_map(|count| [json!(random(count)), digits(count), json!(vec![json!({}); count])]));
    values.extend((500..520).map(|count| json!("\0".repeat(count / 2) + &random(1))));
    values.extend([json!(f64::MAX), json!(f64::MIN_POSITIVE), json!(5e-324), json!(-f64::MAX)]);
    let devices: Vec<Device> = values
        .iter()
        .enumerate()
        .map(|(at, value)| Device { tags: json!({"line": value}), ..device(&format!("d-{at:03}")) })
        .collect();
    devices.iter().for_each(|device| table.insert(device));
    table.run("SET enable_seqscan = off");
    for (value, device) in values.iter().zip(&devices) {
        let literal = match value {
            Value::String(_) | Value::Number(_) => value.to_string(),
            _ => continue,
        };
        for text in [format!("tags.line = {literal}"), format!("tags.line IN [{literal}]")] {
            assert_eq!(table.selected(&parsed(&text)), [device.device_id.as_str()], "{text}");
        }
    }
}

/// What `jsonb` and its operators do otherwise than one may think.
#[test]
fn what_postgresql_does_otherwise_changes_nothing() {
    let with = |id: &str, tags: Value| Device { tags, ..device(id) };
    let devices = [
        with("float", json!({"n": 1.152921504606847e18, "t": "a\0b", "l": ["x"], "z": null})),
        with("integer", json!({"n": 1_152_921_504_606_846_980_u64, "t": "a\u{1}b", "l": {"0": "x"}, "z": 1})),
        with("beyond", json!({"n": u64::MAX, "t": "a\u{1}\u{1}b", "l": "x", "z": []})),
        with("nearest", json!({"n": 18_446_744_073_709_551_616.0, "t": "a", "l": [], "z": {}})),
        with("zero", json!({"n": -0.0, "t": "\u{1}", "l": [[]], "\0": 1})),
        with("small", json!({"n": 5e-324, "t": "\0", "\u{1}": 1, "0": 1})),
        with("one", json!({"n": 1, "t": "", "z": false})),
        with("real", json!({"n": 1.0, "t": "\u{2}", "z": true})),
    ];
    let table = Table::new(&devices);
    let check = |text: &str, expect: &[&str]| {
        let mut expect: Vec<String> = expect.iter().map(ToString::to_string).collect();
        expect.sort();
        assert_eq!(super::generated::ids_of(&parsed(text), &devices), expect, "{text}, the reference");
        assert_eq!(table.selected(&parsed(text)), expect, "{text}");
    };
    check("tags.n = 1152921504606846980", &["integer"]);
    check("tags.n = 1152921504606846976", &["float"]);
    check("tags.n < 1152921504606846980 AND tags.n > 2", &["float"]);
    check("tags.n = 18446744073709551615", &["beyond", "nearest"]);
    check("tags.n >= 18446744073709551616.0", &["beyond", "nearest"]);
    check("tags.n != 18446744073709551616.0 AND tags.n > 2", &["float", "integer"]);
    check("tags.n IN [18446744073709551616.0, 1]", &["beyond", "nearest", "one", "real"]);
    check("tags.n = 0", &["zero"]);
    check("tags.n > 0 AND tags.n < 1", &["small"]);
    check("tags.n = 1", &["one", "real"]);
    check("tags.t = \"a\\u0000b\"", &["float"]);
    check("tags.t = \"a\\u0001b\"", &["integer"]);
    check("contains(tags.t, \"\\u0001b\")", &["integer", "beyond"]);
    check("NOT contains(tags.t, \"\\u0001\")", &["float", "nearest", "small", "one", "real"]);
    check("endswith(tags.t, \"\\u0001\")", &["zero"]);
    check("endswith(tags.t, \"\\u0002\")", &["real"]);
    check("startswith(tags.t, \"\\u0000\")", &["small"]);
    check("length(tags.t) = 3", &["float", "integer"]);
    check("length(tags.t) = 1", &["nearest", "zero", "small", "real"]);
    check("tags.t < \"\\u0001\"", &["small", "one"]);
    check("is_defined(tags.l.[[0]])", &["integer"]);
    check("tags.l.[[0]] = 'x'", &["integer"]);
    check("is_defined(tags.[[0]])", &["small"]);
    check("tags.[[\0]] = 1", &["zero"]);
    check("tags.[[\u{1}]] = 1", &["small"]);
    check("tags.z = null", &["float"]);
    check("NOT is_defined(tags.z)", &["zero", "small"]);
    check("is_defined(tags.z)", &["float", "integer", "beyond", "nearest", "one", "real"]);
    check("tags.z < 1 OR tags.z >= 2", &[]);
    check("tags.z IN [null, false, 'x']", &["float", "one"]);
    check("tags.z NIN [null, false, 'x']", &["real"]);
    check("tags.n + 9223372036854775807 > 0 AND tags.n = 1", &["one", "real"]);
}
