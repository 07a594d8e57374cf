//! The keys of imported devices: those of the file, and new ones where it has none.

use super::super::connection::Connection;
use super::super::fault::Fault;
use super::binary::Upload;
use crate::model::device::Authentication;

/// Devices that get keys at once.
const DRAWN_AT_ONCE: usize = 10_000;
/// Bytes of a key.
const KEY_BYTES: usize = 32;

const COPY: &str = "COPY fleetform.device_key (device_id, primary_key, secondary_key, primary_thumbprint,
    secondary_thumbprint, authentication) FROM STDIN (FORMAT binary)";

/// Writes the keys of devices that are new, or whose row changes keys. The key of a device that proves itself with one
/// is made where the file has none. `order` puts the staged rows into the order of their ids.
pub fn write_keys(connection: &Connection, import_id: i32, order: &str) -> Result<(), Fault> {
    let changed = "s.import_id = $1 AND (s.kind = 2 OR s.kind = 1 AND s.authentication IS NOT NULL)";
    let lacking = "coalesce(s.authentication, 'sas') = 'sas' AND (s.primary_key IS NULL OR s.secondary_key IS NULL)";
    // Rows that are sorted and in nobody's way are written in half the time of others.
    for text in [
        format!(
            "DELETE FROM fleetform.device_key AS k USING pg_temp.staged AS s
             WHERE {changed} AND k.device_id = s.device_id"
        ),
        format!(
            "INSERT INTO fleetform.device_key
                 (device_id, primary_key, secondary_key, primary_thumbprint, secondary_thumbprint, authentication)
             SELECT s.device_id, s.primary_key, s.secondary_key, s.primary_thumbprint, s.secondary_thumbprint,
                    coalesce(s.authentication, 'sas')
             FROM pg_temp.staged AS s WHERE {changed} AND NOT ({lacking}) {order}"
        ),
        format!(
            "DECLARE lacking NO SCROLL CURSOR FOR
             SELECT s.device_id, s.primary_key, s.secondary_key, s.primary_thumbprint, s.secondary_thumbprint
             FROM pg_temp.staged AS s WHERE {changed} AND {lacking} {order}"
        ),
    ] {
        connection.execute(&text, &[&import_id])?;
    }
    while draw(connection)? == DRAWN_AT_ONCE {}
    connection.batch("CLOSE lacking")
}

/// Draws the keys of the next devices, and returns how many these are.
fn draw(connection: &Connection) -> Result<usize, Fault> {
    let rows = connection.rows(&format!("FETCH {DRAWN_AT_ONCE} FROM lacking"), &[])?;
    let mut drawn = vec![0; rows.len() * 2 * KEY_BYTES];
    getrandom::fill(&mut drawn).map_err(|error| Fault::Io(std::io::Error::other(error.to_string())))?;
    let mut upload = Upload::new(COPY);
    for (row, drawn) in rows.iter().zip(drawn.chunks_exact(2 * KEY_BYTES)) {
        let (primary, secondary) = drawn.split_at(KEY_BYTES);
        let given = |at: usize| -> Result<Option<&[u8]>, Fault> { Ok(row.try_get(at)?) };
        let keys = upload.rows().begin(6).text(row.try_get(0)?);
        keys.bytes(given(1)?.or(Some(primary))).bytes(given(2)?.or(Some(secondary)));
        keys.text(row.try_get(3)?).text(row.try_get(4)?).text(Some(Authentication::Sas.as_str()));
    }
    upload.finish(connection)?;
    Ok(rows.len())
}
