//! Finds ids that differ only in the case of letters, within one file or between its new devices and the registry. They
//! are two devices here and in IoT Hub, but one to IoT Central and to people.

use crate::registry::Alike;

/// What a store is asked about ids that are alike.
pub trait AlikeTables {
    /// What its tables fail with.
    type Error;

    /// Calls `visit` for the ids of all devices of the registry, in their order.
    ///
    /// # Errors
    /// The store fails.
    fn each_device_id(&mut self, visit: &mut dyn FnMut(&str)) -> Result<(), Self::Error>;

    /// Returns the first new device of the file that is alike to an id.
    ///
    /// # Errors
    /// The store fails.
    fn new_alike_to(&mut self, device_id: &str) -> Result<Option<String>, Self::Error>;

    /// Returns the ids of the file that are alike and not deleted by their rows; `None` when there are none.
    ///
    /// # Errors
    /// The store fails.
    fn alike_in_file(&mut self) -> Result<Option<Alike>, Self::Error>;
}

/// Hashes of the ids, eight bytes each, and eight more for each new device of a registry that has devices. The hashes
/// show whether such ids exist; only then are the texts read.
#[derive(Default)]
pub struct AlikeIds {
    hashes: Vec<u64>,
    /// Hashes of devices that are new in a registry that has other devices.
    new: Vec<u64>,
    has_upper_case: bool,
}

/// Ids of the registry whose hash is that of a new device that are looked at: two ids hardly ever share a hash without
/// being alike.
const LOOKS_MAX: usize = 100;

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
    pub fn find_registered<T: AlikeTables>(&mut self, tables: &mut T) -> Result<Option<Alike>, T::Error> {
        if self.new.is_empty() {
            return Ok(None);
        }
        self.new.sort_unstable();
        let (mut groups, mut first) = (0, Vec::new());
        tables.each_device_id(&mut |id| {
            if self.new.binary_search(&hash_of(id.as_bytes())).is_ok() {
                groups += 1;
                if first.len() < LOOKS_MAX {
                    first.push(id.to_string());
                }
            }
        })?;
        for id in first {
            if let Some(one) = tables.new_alike_to(&id)? {
                return Ok(Some(Alike { groups, sample: [one, id] }));
            }
        }
        Ok(None)
    }

    /// Returns the ids of the file that are alike; `None` when there are none.
    pub fn find<T: AlikeTables>(mut self, tables: &mut T) -> Result<Option<Alike>, T::Error> {
        if !self.has_upper_case {
            return Ok(None);
        }
        self.hashes.sort_unstable();
        if self.hashes.windows(2).all(|pair| pair[0] != pair[1]) {
            return Ok(None);
        }
        tables.alike_in_file()
    }
}

/// FNV-1a, 64 bits, whatever the case of the letters.
fn hash_of(device_id: &[u8]) -> u64 {
    device_id.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
    })
}
