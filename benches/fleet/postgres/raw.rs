//! The floors, by hand.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::pin::pin;

use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use fleetform::model::observation::DeviceIds;
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value, json};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::{Session, url};
use crate::Failure;

/// Devices of a transaction.
pub const CHUNK: usize = 1_000;
/// The moment of everything, in microseconds since 1970.
pub const NOW: i64 = 1_793_000_000_000_000;
/// Bytes of a COPY that are sent at once.
const SENT_AT_ONCE: usize = 64 << 10;
/// The run of commands; those of writes are numbered by their round.
const COMMANDS: i64 = 1_000;

/// Returns the number that a file of the folder holds.
pub fn number(folder: &Path, file: &str) -> Result<u32, Failure> {
    Ok(std::fs::read_to_string(folder.join(file))?.parse()?)
}

/// Returns the threshold that the job of a round sets: another one than all before.
pub fn threshold(round: u32) -> u32 {
    3 + round
}

/// Returns all ids.
pub fn ids(folder: &Path) -> Result<DeviceIds, Failure> {
    let mut ids = DeviceIds::new();
    (0..number(folder, "devices")?).for_each(|n| ids.push(&format!("device-{n:07}")));
    Ok(ids)
}

/// Writes devices as IoT Hub exports them, with twins and keys.
pub fn make_lines(file: &Path, devices: u32) -> Result<(), Failure> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(file)?);
    for n in 0..devices {
        let key = base64::engine::general_purpose::STANDARD.encode([(n % 251) as u8; 32]);
        let line = json!({
            "id": format!("device-{n:07}"),
            "status": "enabled",
            "authentication": {"symmetricKey": {"primaryKey": key, "secondaryKey": key}, "type": "sas"},
            "tags": {"building": (n % 50).to_string(), "line": (n % 7).to_string(),
                     "ring": if n % 10 == 0 { "canary" } else { "stable" }},
            "properties": {
                "desired": {"light": {"threshold": 1 + n % 2, "level": 40}, "telemetryConfig": {"sendFrequency": "5m"}},
                "reported": {"battery": 20 + n % 80, "firmware": "1.4.2"},
            },
        });
        writeln!(file, "{line}")?;
    }
    file.flush()?;
    Ok(())
}

/// A line as the floor reads it.
#[derive(serde::Deserialize)]
struct Line<'a> {
    id: &'a str,
    #[serde(borrow)]
    authentication: Authentication<'a>,
    tags: Map<String, Value>,
    properties: Properties,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authentication<'a> {
    #[serde(borrow)]
    symmetric_key: Keys<'a>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys<'a> {
    primary_key: &'a str,
    secondary_key: &'a str,
}

#[derive(serde::Deserialize)]
struct Properties {
    desired: Map<String, Value>,
    reported: Map<String, Value>,
}

/// Makes the tables as the product has them.
fn make_tables(session: &Session) -> Result<(), Failure> {
    session
        .run("CREATE SCHEMA fleetform; ALTER DATABASE raw SET search_path = fleetform; SET search_path = fleetform")?;
    session.run(include_str!("../../../src/registry/postgres/migrations/001.sql"))
}

/// Parses each line into the values that it inserts; COPY into a stage, and merge.
pub fn import(folder: &Path) -> Result<(), Failure> {
    let session = Session::open(&url(folder, "raw")?)?;
    make_tables(&session)?;
    session.run(
        "BEGIN; CREATE TEMPORARY TABLE stage (device_id text COLLATE \"C\", tags jsonb, desired jsonb, reported jsonb,
             primary_key bytea, secondary_key bytea) ON COMMIT DROP",
    )?;
    session.runtime.block_on(copy_lines(&session.client, folder))?;
    session.run(
        "INSERT INTO device (device_id, device_name, state, blocked, simulated, iot_edge, connection_state, tags, cloud,
                             desired, desired_version, reported, reported_version, import)
         SELECT device_id, device_id, 'unassociated', false, false, false, 'Disconnected', tags, '{}', desired, 1,
                reported, 1, 'all'
         FROM stage
         ON CONFLICT (device_id) DO UPDATE SET tags = excluded.tags, desired = excluded.desired;
         INSERT INTO device_key (device_id, primary_key, secondary_key, authentication)
         SELECT device_id, primary_key, secondary_key, 'sas' FROM stage ON CONFLICT (device_id) DO NOTHING;
         COMMIT; ANALYZE device",
    )
}

async fn copy_lines(client: &Client, folder: &Path) -> Result<(), Failure> {
    let mut sink = pin!(client.copy_in::<_, Bytes>("COPY stage FROM STDIN (FORMAT binary)").await?);
    let mut buffer = BytesMut::from(&b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"[..]);
    let mut reader = BufReader::new(std::fs::File::open(folder.join("fleet/devices.jsonl"))?);
    let mut text = String::new();
    let decode = |key: &str| base64::engine::general_purpose::STANDARD.decode(key);
    while reader.read_line(&mut text)? > 0 {
        let line: Line = serde_json::from_str(&text)?;
        let Properties { desired, reported } = line.properties;
        buffer.extend_from_slice(&6_i16.to_be_bytes());
        push(&mut buffer, &[], line.id.as_bytes());
        for section in [line.tags, desired, reported] {
            push(&mut buffer, &[1], serde_json::to_string(&section)?.as_bytes());
        }
        let keys = line.authentication.symmetric_key;
        push(&mut buffer, &[], &decode(keys.primary_key)?);
        push(&mut buffer, &[], &decode(keys.secondary_key)?);
        if buffer.len() >= SENT_AT_ONCE {
            sink.send(buffer.split().freeze()).await?;
        }
        text.clear();
    }
    buffer.extend_from_slice(&(-1_i16).to_be_bytes());
    sink.send(buffer.freeze()).await?;
    sink.finish().await?;
    Ok(())
}

fn push(buffer: &mut BytesMut, prefix: &[u8], value: &[u8]) {
    let length = i32::try_from(prefix.len() + value.len()).unwrap_or(i32::MAX);
    buffer.extend_from_slice(&length.to_be_bytes());
    buffer.extend_from_slice(prefix);
    buffer.extend_from_slice(value);
}

/// Id, blocked, one path, sorted, streamed.
pub fn observe(folder: &Path) -> Result<(), Failure> {
    let session = Session::open(&url(folder, "raw")?)?;
    let text = "SELECT device_id, blocked, (desired -> 'light' -> 'threshold')::text FROM device
         WHERE tags -> 'ring' IN ('\"canary\"', '\"stable\"') ORDER BY device_id";
    let differing = session.runtime.block_on(async {
        let mut rows = pin!(session.client.query_raw(text, std::iter::empty::<&str>()).await?);
        let mut differing = 0_u64;
        while let Some(row) = rows.try_next().await? {
            let (id, blocked, value): (&str, bool, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            differing += u64::from(value != "3" && !blocked && !id.is_empty());
        }
        Ok::<_, tokio_postgres::Error>(differing)
    })?;
    assert!(differing > 0, "there is something to do");
    Ok(())
}

/// Makes a row of a run, which writes lock.
fn make_run(session: &Session, run_id: i64) -> Result<(), Failure> {
    session.run(&format!(
        "INSERT INTO run (run_id, job, run, is_claimed, status, total, batch_size, claim)
         VALUES ({run_id}, 'job-{run_id}', 'r1', true, 'running', 0, 1, '{{}}')"
    ))
}

/// One round trip for each set, which knows that all of it is written; then the results.
pub fn apply(folder: &Path) -> Result<(), Failure> {
    let session = Session::open(&url(folder, "raw")?)?;
    let (ids, round) = (ids(folder)?, number(folder, "round")?);
    make_run(&session, round.into())?;
    session.runtime.block_on(write_sets(&session.client, &ids, round))?;
    drop(session);
    results(folder, round.into())
}

async fn write_sets(client: &Client, ids: &DeviceIds, round: u32) -> Result<(), Failure> {
    let threshold = threshold(round);
    let write = client
        .prepare(&format!(
            "UPDATE device AS d SET desired_version = desired_version + 1,
                 desired = CASE WHEN jsonb_typeof(d.desired -> 'light') = 'object'
                     THEN jsonb_set(d.desired, '{{light,threshold}}', '{threshold}')
                     ELSE d.desired || '{{\"light\": {{\"threshold\": {threshold}}}}}' END
             WHERE d.device_id = ANY($1) AND NOT d.blocked
               AND pg_column_compression(d.desired) IS NULL AND pg_column_size(d.desired) <= 4000
               AND NOT d.desired @> '{{\"light\": {{\"threshold\": {threshold}}}}}'"
        ))
        .await?;
    let record = client
        .prepare(&format!(
            "INSERT INTO outcome (run_id, ordinal, reason, attempts, started_at, finished_at)
             SELECT {round}, ordinal, 10, 1, {NOW}, {NOW} FROM unnest($1::bigint[]) AS t (ordinal)"
        ))
        .await?;
    let lock = client.prepare(&format!("SELECT status FROM run WHERE run_id = {round} FOR SHARE")).await?;
    for start in (0..ids.len()).step_by(CHUNK) {
        let range = start..ids.len().min(start + CHUNK);
        let ordinals: Vec<i64> = range.clone().map(|at| at as i64).collect();
        let names: Vec<&str> = range.map(|at| ids.get(at)).collect();
        let (of, to): ([&(dyn ToSql + Sync); 1], [&(dyn ToSql + Sync); 1]) = ([&ordinals], [&names]);
        let (_, _, written, _, _) = tokio::try_join!(
            client.batch_execute("BEGIN"),
            client.query(&lock, &[]),
            client.execute(&write, &to),
            client.execute(&record, &of),
            client.batch_execute("COMMIT"),
        )?;
        assert_eq!(written, names.len() as u64, "all are written");
    }
    Ok(())
}

/// The names and the outcomes by COPY, merged into a CSV; one commit.
pub fn results(folder: &Path, run_id: i64) -> Result<(), Failure> {
    let session = Session::open(&url(folder, "raw")?)?;
    let time = jiff::Timestamp::from_microsecond(NOW)?.to_string();
    let csv = session.runtime.block_on(async {
        let names =
            lines(&session.client, "COPY (SELECT device_id, device_name FROM device ORDER BY device_id) TO STDOUT");
        let names = names.await?;
        let text = format!(
            "COPY (SELECT ordinal, reason, code, message, attempts, started_at, finished_at FROM outcome
                   WHERE run_id = {run_id} ORDER BY ordinal) TO STDOUT"
        );
        let outcomes = lines(&session.client, &text).await?;
        let mut csv = String::with_capacity(names.len() * 6);
        for (name, outcome) in names.lines().zip(outcomes.lines()) {
            let (id, name) = name.split_once('\t').ok_or("two columns")?;
            let mut cells = outcome.split('\t');
            let (_, reason) = (cells.next(), cells.next());
            assert_eq!(reason, Some("10"), "it is written");
            writeln!(csv, "{id},{name},completed,written,,,1,1,{time},{time}")?;
        }
        Ok::<_, Failure>(csv)
    })?;
    let repository = git2::Repository::init(folder.join("raw-git"))?;
    let blob = repository.blob(csv.as_bytes())?;
    let mut tree = repository.treebuilder(None)?;
    tree.insert("devices.csv", blob, 0o100_644)?;
    let tree = repository.find_tree(tree.write()?)?;
    let author = git2::Signature::now("bench", "bench@localhost")?;
    repository.commit(None, &author, &author, "results", &tree, &[])?;
    Ok(())
}

async fn lines(client: &Client, text: &str) -> Result<String, Failure> {
    let mut pieces = pin!(client.copy_out(text).await?);
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(String::from_utf8(bytes)?)
}

/// A transaction of marks and one of outcomes for each window.
pub fn commands(folder: &Path) -> Result<(), Failure> {
    let session = Session::open(&url(folder, "raw")?)?;
    let (ids, round) = (ids(folder)?, number(folder, "round")?);
    let run_id = COMMANDS + i64::from(round);
    make_run(&session, run_id)?;
    session.runtime.block_on(command_windows(&session.client, &ids, run_id))
}

async fn command_windows(client: &Client, ids: &DeviceIds, run_id: i64) -> Result<(), Failure> {
    let mark = format!(
        "INSERT INTO sent (run_id, ordinal, attempt, sent_at)
         SELECT {run_id}, t.ordinal, 1, {NOW} FROM unnest($1::bigint[], $2::text[]) AS t (ordinal, id)
         WHERE EXISTS (SELECT 1 FROM device AS d WHERE d.device_id = t.id AND NOT d.blocked)"
    );
    let record = format!(
        "INSERT INTO outcome (run_id, ordinal, reason, code, attempts, started_at, finished_at)
         SELECT {run_id}, ordinal, 11, 200, 1, {NOW}, {NOW} FROM unnest($1::bigint[]) AS t (ordinal)"
    );
    let unmark = format!("DELETE FROM sent WHERE run_id = {run_id} AND ordinal = ANY($1)");
    let seen = "UPDATE device SET connection_state = 'Connected', last_activity = $2,
            state = CASE state WHEN 'registered' THEN 'provisioned' ELSE state END
        WHERE device_id = ANY($1)";
    let lock = format!("SELECT status FROM run WHERE run_id = {run_id} FOR SHARE");
    let (mark, record) = (client.prepare(&mark).await?, client.prepare(&record).await?);
    let (unmark, seen, lock) =
        (client.prepare(&unmark).await?, client.prepare(seen).await?, client.prepare(&lock).await?);
    let time = format!("{} of run {run_id}", jiff::Timestamp::from_microsecond(NOW)?);
    for start in (0..ids.len()).step_by(CHUNK) {
        let range = start..ids.len().min(start + CHUNK);
        let ordinals: Vec<i64> = range.clone().map(|at| at as i64).collect();
        let names: Vec<&str> = range.map(|at| ids.get(at)).collect();
        let (of, both): ([&(dyn ToSql + Sync); 1], [&(dyn ToSql + Sync); 2]) = ([&ordinals], [&ordinals, &names]);
        let seen_params: [&(dyn ToSql + Sync); 2] = [&names, &time];
        let (_, _, marked, _) = tokio::try_join!(
            client.batch_execute("BEGIN"),
            client.query(&lock, &[]),
            client.execute(&mark, &both),
            client.batch_execute("COMMIT"),
        )?;
        assert_eq!(marked, names.len() as u64, "all are marked");
        let (_, _, unmarked, found, _) = tokio::try_join!(
            client.batch_execute("BEGIN"),
            client.execute(&record, &of),
            client.execute(&unmark, &of),
            client.execute(&seen, &seen_params),
            client.batch_execute("COMMIT"),
        )?;
        assert_eq!((unmarked, found), (marked, marked), "all have answered");
    }
    Ok(())
}
