//! Finds ids that differ only in the case of letters, within one file or between its new devices and the registry. They
//! are two devices here and in IoT Hub, but one to IoT Central and to people.

use rusqlite::Connection;

use crate::registry::Alike;

/// Hashes of the ids, eight bytes each, and eight more for each new device of a registry that has devices. The hashes
/// show whether such ids exist; only then are the texts read.
#[derive(Default)]
pub struct AlikeIds {
    hashes: Vec<u64>,
    /// Hashes of devices that are new in a registry that has other devices.
    new: Vec<u64>,
    has_upper_case: bool,
}

impl AlikeIds {
    /// Adds an id that is new in the file. `is_compared` is true when the registry has devices, but not this one.
    pub fn note(&mut self, device_id: &str, is_compared: bool) {
        self.has_upper_case |= device_id.bytes().any(|byte| byte.is_ascii_uppercase());
        let hash = hash_of(device_id.as_bytes());
        self.hashes.push(hash);
        if is_compared {
            self.new.push(hash);
        }
    }

    /// Returns the new devices whose ids are alike to those of the registry; `None` when there are none. Reads the ids
    /// of all devices once when there are new devices: an index that ignores case would cost every import more.
    pub fn find_registered(&mut self, connection: &Connection, import_id: i64) -> rusqlite::Result<Option<Alike>> {
        if self.new.is_empty() {
            return Ok(None);
        }
        self.new.sort_unstable();
        let (mut groups, mut sample) = (0, None);
        let mut ids = connection.prepare("SELECT device_id FROM main.device")?;
        let mut rows = ids.query([])?;
        while let Some(row) = rows.next()? {
            let id = row.get_ref(0)?.as_str()?;
            if self.new.binary_search(&hash_of(id.as_bytes())).is_err() {
                continue;
            }
            groups += 1;
            if sample.is_none() {
                let text = "SELECT min(device_id) FROM temp.staged
                    WHERE import_id = ?1 AND kind = 2 AND lower(device_id) = lower(?2)";
                let one: Option<String> =
                    connection.query_row(text, rusqlite::params![import_id, id], |row| row.get(0))?;
                sample = one.map(|one| [one, id.to_string()]);
            }
        }
        Ok(sample.map(|sample| Alike { groups, sample }))
    }

    /// Returns the ids of the file that are alike; `None` when there are none.
    pub fn find(mut self, connection: &Connection, import_id: i64) -> rusqlite::Result<Option<Alike>> {
        if !self.has_upper_case {
            return Ok(None);
        }
        self.hashes.sort_unstable();
        if self.hashes.windows(2).all(|pair| pair[0] != pair[1]) {
            return Ok(None);
        }
        let text = "SELECT count(*), min(one) FROM (
                SELECT min(device_id) AS one FROM temp.staged
                WHERE import_id = ?1 AND kind < 3 GROUP BY lower(device_id) HAVING count(*) > 1)";
        let (groups, one): (u64, Option<String>) =
            connection.query_row(text, [import_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let Some(one) = one else { return Ok(None) };
        let text =
            "SELECT max(device_id) FROM temp.staged WHERE import_id = ?1 AND kind < 3 AND lower(device_id) = lower(?2)";
        let other: String = connection.query_row(text, rusqlite::params![import_id, one], |row| row.get(0))?;
        Ok(Some(Alike { groups, sample: [one, other] }))
    }
}

/// FNV-1a, 64 bits, whatever the case of the letters.
fn hash_of(device_id: &[u8]) -> u64 {
    device_id.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
    })
}
