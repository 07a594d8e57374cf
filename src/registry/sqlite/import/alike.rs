//! Ids of one file, or of its new devices and those of the registry, that differ only in the case of letters. They are two devices here
//! and in IoT Hub, and one to IoT Central and to the people who read them.

use rusqlite::Connection;

use crate::registry::Alike;

/// Eight bytes an id, and as many again for new ones beside those of a registry: whether there are such ids is known without sorting their texts, which are looked at only when there are.
#[derive(Default)]
pub struct AlikeIds {
    hashes: Vec<u64>,
    /// Those of devices that are not in a registry which has others.
    new: Vec<u64>,
    has_upper_case: bool,
}

impl AlikeIds {
    /// Takes in an id that is new in the file. `is_compared`: the registry has devices, and not this one.
    pub fn note(&mut self, device_id: &str, is_compared: bool) {
        self.has_upper_case |= device_id.bytes().any(|byte| byte.is_ascii_uppercase());
        let hash = hash_of(device_id.as_bytes());
        self.hashes.push(hash);
        if is_compared {
            self.new.push(hash);
        }
    }

    /// Returns what is alike between the new devices and the registry; `None` when nothing is. Looks at the ids of all devices, once,
    /// when there are new ones: an index over them without case would cost every import more.
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

    /// Returns what is alike; `None` when nothing is.
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
