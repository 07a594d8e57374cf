//! The keys of imported devices: those of the file, and new ones where it has none.

use super::super::connection::Connection;
use super::super::fault::Fault;

/// Devices that get keys at once.
const DRAWN_AT_ONCE: usize = 10_000;
/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// What becomes of a device that has keys already.
const REPLACING: &str = "ON CONFLICT (device_id) DO UPDATE SET primary_key = excluded.primary_key,
    secondary_key = excluded.secondary_key, primary_thumbprint = excluded.primary_thumbprint,
    secondary_thumbprint = excluded.secondary_thumbprint, authentication = excluded.authentication";

/// Writes the keys of devices that are new, or whose row changes keys. The key of a device that proves itself with one is
/// made where the file has none.
pub fn write_keys(connection: &Connection, import_id: i32) -> Result<(), Fault> {
    let changed = "s.import_id = $1 AND (s.kind = 2 OR s.kind = 1 AND s.authentication IS NOT NULL)";
    let lacking = "coalesce(s.authentication, 'sas') = 'sas' AND (s.primary_key IS NULL OR s.secondary_key IS NULL)";
    let text = format!(
        "INSERT INTO fleetform.device_key
             (device_id, primary_key, secondary_key, primary_thumbprint, secondary_thumbprint, authentication)
         SELECT s.device_id, s.primary_key, s.secondary_key, s.primary_thumbprint, s.secondary_thumbprint,
                coalesce(s.authentication, 'sas')
         FROM pg_temp.staged AS s WHERE {changed} AND NOT ({lacking}) {REPLACING}"
    );
    connection.execute(&text, &[&import_id])?;
    let text = format!(
        "DECLARE lacking NO SCROLL CURSOR FOR
         SELECT s.device_id, s.primary_key, s.secondary_key, s.primary_thumbprint, s.secondary_thumbprint
         FROM pg_temp.staged AS s WHERE {changed} AND {lacking}"
    );
    connection.execute(&text, &[&import_id])?;
    while draw(connection)? == DRAWN_AT_ONCE {}
    connection.batch("CLOSE lacking")
}

/// Draws the keys of the next devices, and returns how many these are.
fn draw(connection: &Connection) -> Result<usize, Fault> {
    let rows = connection.rows(&format!("FETCH {DRAWN_AT_ONCE} FROM lacking"), &[])?;
    if rows.is_empty() {
        return Ok(0);
    }
    let mut drawn = vec![0; rows.len() * 2 * KEY_BYTES];
    getrandom::fill(&mut drawn).map_err(|error| Fault::Io(std::io::Error::other(error.to_string())))?;
    let mut keys = drawn.chunks_exact(KEY_BYTES);
    let mut columns = Columns::default();
    for row in &rows {
        columns.ids.push(row.try_get(0)?);
        for (at, column) in [(1, &mut columns.primary_keys), (2, &mut columns.secondary_keys)] {
            let given: Option<&[u8]> = row.try_get(at)?;
            column.extend(given.or_else(|| keys.next()));
        }
        columns.primary_thumbprints.push(row.try_get(3)?);
        columns.secondary_thumbprints.push(row.try_get(4)?);
    }
    let Columns { ids, primary_keys, secondary_keys, primary_thumbprints, secondary_thumbprints } = columns;
    let text = format!(
        "INSERT INTO fleetform.device_key
             (device_id, primary_key, secondary_key, primary_thumbprint, secondary_thumbprint, authentication)
         SELECT t.*, 'sas' FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::text[], $5::text[]) AS t {REPLACING}"
    );
    connection.execute(&text, &[&ids, &primary_keys, &secondary_keys, &primary_thumbprints, &secondary_thumbprints])?;
    Ok(rows.len())
}

/// Rows of keys, column by column.
#[derive(Default)]
struct Columns<'a> {
    ids: Vec<&'a str>,
    primary_keys: Vec<&'a [u8]>,
    secondary_keys: Vec<&'a [u8]>,
    primary_thumbprints: Vec<Option<&'a str>>,
    secondary_thumbprints: Vec<Option<&'a str>>,
}
