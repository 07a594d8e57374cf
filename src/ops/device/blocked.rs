//! Who blocked a device, when and why, as the results branch has it.

use jiff::Timestamp;

use crate::ops::{Environment, OpsError, Workspace};
use crate::prepare::{Files, OnError, TreeChoice};

/// Days with something done to devices at once that are looked through, the newest first.
const DAYS_MAX: usize = 400;

/// Who blocked a device at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedBy {
    pub at: Timestamp,
    pub who: String,
    /// In the words of who did it; may be empty.
    pub reason: String,
}

/// Returns who blocked a device last; `None` when that is not on the results branch: an import did, or it is not
/// published yet.
///
/// # Errors
/// The fleet or its results branch cannot be read.
pub fn blocked_by(environment: &Environment, device_id: &str) -> Result<Option<BlockedBy>, OpsError> {
    let workspace = Workspace::open(environment)?;
    let files = Files::read(&workspace, TreeChoice::Newest, OnError::Hold)?;
    let branch = workspace.repo.results(&files.usable()?.fleet.results.branch);
    let names = std::cell::RefCell::new(Vec::new());
    let note = |path: &str| {
        names.borrow_mut().push(path.to_string());
        false
    };
    branch.read_below("direct", note)?;
    let mut days = names.into_inner();
    days.sort_unstable_by(|one, two| two.cmp(one));
    for day in days.iter().filter(|path| path.ends_with(".csv")).take(DAYS_MAX) {
        let bytes = branch.read(day)?.unwrap_or_default();
        if let Some(found) = last_block(&bytes, device_id) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Returns the last block of a device in the file of a day: its columns are those of `results::DirectRow`.
fn last_block(bytes: &[u8], device_id: &str) -> Option<BlockedBy> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
    let rows = reader.records().map_while(Result::ok);
    let row = |row: csv::StringRecord| {
        let cell = |at: usize| row.get(at).unwrap_or_default();
        let is_it = cell(2) == "block" && cell(3) == device_id;
        let at = is_it.then(|| cell(0).parse().ok()).flatten()?;
        Some(BlockedBy { at, who: cell(1).to_string(), reason: cell(4).to_string() })
    };
    rows.filter_map(row).last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_block_of_a_day_counts() {
        let text = "at,who,action,device_id,reason\n2026-11-20T10:00:00Z,ann,block,d-1,hot\n\
                    2026-11-20T11:00:00Z,bob,unblock,d-1,\n2026-11-20T12:00:00Z,eve,block,d-1,\"hot, again\"\n\
                    2026-11-20T13:00:00Z,eve,block,d-2,x\n";
        let found = last_block(text.as_bytes(), "d-1").unwrap();
        assert_eq!((found.who.as_str(), found.reason.as_str()), ("eve", "hot, again"));
        assert_eq!(last_block(text.as_bytes(), "d-3"), None);
        assert_eq!(last_block(b"", "d-1"), None);
    }
}
