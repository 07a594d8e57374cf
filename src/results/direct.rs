//! What a person did to single devices at once, without a commit: a row each in a file of its day.

use jiff::Timestamp;

use super::defuse;

/// The columns of the file.
pub const DIRECT_HEADER: &str = "at,who,action,device_id,reason\n";

/// What was done to one device.
#[derive(Debug, Clone, Copy)]
pub struct DirectRow<'a> {
    pub at: Timestamp,
    pub who: &'a str,
    /// `block`, `unblock` or `delete`.
    pub action: &'a str,
    pub device_id: &'a str,
    /// Why, in the words of who did it; may be empty.
    pub reason: &'a str,
}

impl DirectRow<'_> {
    /// Returns the path of the file that the row belongs into, by its day in UTC.
    pub fn path(&self) -> String {
        format!("direct/{}.csv", self.at.strftime("%Y-%m-%d"))
    }

    /// Returns the line of the row (RFC 4180).
    pub fn line(&self) -> String {
        let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
        let at = self.at.to_string();
        let cells = [&at, &*defuse(self.who), self.action, self.device_id, &*defuse(self.reason)];
        writer.write_record(cells).expect("memory does not fail");
        String::from_utf8(writer.into_inner().expect("memory does not fail")).expect("a row is UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_quoted_and_defused() {
        let at = "2026-11-20T23:59:59Z".parse().unwrap();
        let row = DirectRow { at, who: "Ann <a@b>", action: "block", device_id: "d-1", reason: "=1+1, \"hot\"" };
        assert_eq!(row.path(), "direct/2026-11-20.csv");
        assert_eq!(row.line(), "2026-11-20T23:59:59Z,Ann <a@b>,block,d-1,\"'=1+1, \"\"hot\"\"\"\n");
    }
}
