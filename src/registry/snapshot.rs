//! Snapshots: a registry without keys in one compressed file, to plan with where the registry is not.
//!
//! ```text
//! {"format": "fleetform-snapshot", "format_version": 1, "fleet": "acme", "taken_at": "…", "devices": 1000,
//!  "bytes": 409600, "sha256": "…"}                          one line of JSON
//! a zlib stream (RFC 1950) of so many bytes: a SQLite file with that digest
//! ```

use std::io::{self, BufRead, BufReader, Read, Write};

use crate::model::encoding::hex;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const FORMAT: &str = "fleetform-snapshot";
const FORMAT_VERSION: u64 = 1;
/// The first line is not longer.
const HEAD_BYTES_MAX: u64 = 4_096;
/// A file that unpacks to more is not ours: 64 GiB.
const BYTES_MAX: u64 = 1 << 36;

/// What the first line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotHead {
    pub fleet: String,
    pub taken_at: Timestamp,
    pub devices: u64,
}

/// Why a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFault {
    #[error("it is not a snapshot of fleetform")]
    Other,
    #[error("its format version is {found}, and this fleetform reads up to {FORMAT_VERSION}")]
    Newer { found: u64 },
    #[error("it is cut short or damaged")]
    Damaged,
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Writes a snapshot of a file, which is read twice.
///
/// # Errors
/// A stream fails.
pub fn pack(head: &SnapshotHead, open: impl Fn() -> io::Result<std::fs::File>, to: &mut dyn Write) -> io::Result<()> {
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    each_piece(&mut open()?, |piece| {
        hasher.update(piece);
        bytes += piece.len() as u64;
        Ok(())
    })?;
    let line = json!({
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "fleet": head.fleet,
        "taken_at": head.taken_at.to_string(),
        "devices": head.devices,
        "bytes": bytes,
        "sha256": hex(&hasher.finalize()),
    });
    writeln!(to, "{line}")?;
    let mut encoder = ZlibEncoder::new(to, Compression::new(6));
    each_piece(&mut open()?, |piece| encoder.write_all(piece))?;
    encoder.finish()?.flush()
}

/// Reads the first line of a snapshot, and returns it with what unpacks the rest.
///
/// # Errors
/// It is no snapshot, or one of a newer format.
pub fn open<R: Read>(from: R) -> Result<(SnapshotHead, Packed<R>), SnapshotFault> {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    from.by_ref().take(HEAD_BYTES_MAX).read_until(b'\n', &mut line)?;
    let head: Value = serde_json::from_slice(&line).map_err(|_| SnapshotFault::Other)?;
    if head["format"] != FORMAT {
        return Err(SnapshotFault::Other);
    }
    let number = |name: &str| head[name].as_u64().ok_or(SnapshotFault::Damaged);
    let text = |name: &str| head[name].as_str().ok_or(SnapshotFault::Damaged);
    let found = number("format_version")?;
    if found > FORMAT_VERSION {
        return Err(SnapshotFault::Newer { found });
    }
    let told = SnapshotHead {
        fleet: text("fleet")?.to_string(),
        taken_at: text("taken_at")?.parse().map_err(|_| SnapshotFault::Damaged)?,
        devices: number("devices")?,
    };
    let bytes = Some(number("bytes")?).filter(|bytes| *bytes <= BYTES_MAX).ok_or(SnapshotFault::Damaged)?;
    Ok((told, Packed { from, bytes, sha256: text("sha256")?.to_string() }))
}

/// The rest of a snapshot.
pub struct Packed<R> {
    from: BufReader<R>,
    bytes: u64,
    sha256: String,
}

impl<R: Read> Packed<R> {
    /// Writes the file that was packed. It holds nothing that is more than its first line says.
    ///
    /// # Errors
    /// It is cut short or damaged, or a stream fails.
    pub fn unpack(self, to: &mut dyn Write) -> Result<(), SnapshotFault> {
        // One byte more shows that there are more.
        let mut decoder = ZlibDecoder::new(self.from).take(self.bytes + 1);
        let (mut hasher, mut bytes) = (Sha256::new(), 0);
        let unpacked = each_piece(&mut decoder, |piece| {
            hasher.update(piece);
            bytes += piece.len() as u64;
            to.write_all(piece)
        });
        match unpacked {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData
                ) =>
            {
                return Err(SnapshotFault::Damaged);
            }
            unpacked => unpacked?,
        }
        if bytes != self.bytes || hex(&hasher.finalize()) != self.sha256 {
            return Err(SnapshotFault::Damaged);
        }
        Ok(to.flush()?)
    }
}

fn each_piece(from: &mut dyn Read, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut piece = vec![0; 256 * 1024];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => each(&piece[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let content: Vec<u8> = (0..700_000_u32).flat_map(|n| (n % 251).to_le_bytes()).collect();
        std::fs::write(&path, &content).unwrap();
        let taken_at = "2026-11-20T10:00:00Z".parse().unwrap();
        let head = SnapshotHead { fleet: "acme".to_string(), taken_at, devices: 3 };
        let mut packed = Vec::new();
        pack(&head, || std::fs::File::open(&path), &mut packed).unwrap();
        assert!(packed.len() < content.len() / 4);
        let unpacked = |bytes: &[u8]| {
            let mut to = Vec::new();
            let (head, packed) = open(bytes)?;
            packed.unpack(&mut to).map(|()| (head, to))
        };
        assert_eq!(unpacked(&packed).unwrap(), (head, content));
        for cut in [packed.len() - 1, packed.len() / 2, 300] {
            assert!(matches!(unpacked(&packed[..cut]), Err(SnapshotFault::Damaged)), "{cut}");
        }
        let mut damaged = packed.clone();
        let at = damaged.len() / 2;
        damaged[at] ^= 1;
        assert!(matches!(unpacked(&damaged), Err(SnapshotFault::Damaged)));
        for other in [&b""[..], b"SQLite format 3\0", b"{}\n", b"{\"format\": 3}\n"] {
            assert!(matches!(unpacked(other), Err(SnapshotFault::Other)), "{other:?}");
        }
        let newer = String::from_utf8_lossy(&packed).replacen("\"format_version\":1", "\"format_version\":2", 1);
        assert!(matches!(unpacked(newer.as_bytes()), Err(SnapshotFault::Newer { found: 2 })));
        let more = String::from_utf8_lossy(&packed[..200]).replacen("\"bytes\":2800000", "\"bytes\":10", 1);
        assert!(unpacked(more.as_bytes()).is_err());
    }
}
