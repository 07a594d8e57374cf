//! Ids of one file that differ only in the case of letters. They are two devices here and in IoT Hub, and one to IoT Central and to
//! the people who read them.

use rusqlite::Connection;

/// Ids of a file that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alike {
    /// Groups of such ids.
    pub groups: u64,
    /// Two ids of the first group.
    pub sample: [String; 2],
}

/// Eight bytes an id: whether there are such ids is known without sorting their texts, which are looked at only when there are.
#[derive(Default)]
pub struct AlikeIds {
    hashes: Vec<u64>,
    has_upper_case: bool,
}

impl AlikeIds {
    /// Takes in an id that is new in the file.
    pub fn note(&mut self, device_id: &str) {
        self.has_upper_case |= device_id.bytes().any(|byte| byte.is_ascii_uppercase());
        // FNV-1a, 64 bits.
        let hash = device_id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
        });
        self.hashes.push(hash);
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
