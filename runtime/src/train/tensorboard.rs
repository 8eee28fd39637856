//! TensorBoard event files: a `TFRecord` of protobuf `Event`s with one scalar each.
//!
//! ```text
//! record  length u64 | crc of length u32 | event | crc of event u32       little-endian, crc masked
//! event   1: wall time f64 | 2: step i64 | 3: file version | 5: summary | 7: session log
//! summary 1: value { 1: tag | 2: simple_value f32 }
//! ```
//! Source: TensorFlow's `core/lib/io/record_writer.h` and `core/util/event.proto`.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::append_file::AppendFile;

/// The end of the names of our files.
const SUFFIX: &str = ".graft";
const PREFIX: &str = "events.out.tfevents.";

/// Writes scalars of a run; TensorBoard reads the file while it grows.
#[derive(Debug)]
pub(super) struct EventFile(AppendFile);

impl EventFile {
    /// A new event file in `folder`, which is made if it does not exist. It begins at update number
    /// `first`: what earlier files of the folder say of this update and later ones was never saved, and
    /// readers drop it.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn create(folder: &Path, first: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        // TensorBoard takes the files of a folder in the order of their names, whatever the clock did.
        let micros = (now().as_micros() as u64).max(latest(folder)? + 1);
        let path = folder.join(format!("{PREFIX}{micros:020}{SUFFIX}"));
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(path)?;
        let mut version = time();
        bytes(&mut version, 3, b"brain.Event:2");
        let mut start = time();
        start.push(2 << 3);
        varint(&mut start, first);
        // A session log whose status is START.
        bytes(&mut start, 7, &[1 << 3, 1]);
        let mut events = Self(AppendFile::new(file)?);
        events.append(&[record(&version), record(&start)].concat())?;
        Ok(events)
    }

    /// Adds records, all of them or none.
    ///
    /// # Errors
    /// If the disk refuses; the same records may be tried again.
    pub fn append(&mut self, records: &[u8]) -> io::Result<()> {
        self.0.append(records)
    }
}

/// The record of one value of the curve called `tag`.
pub(super) fn scalar(tag: &str, step: u64, value: f32) -> Vec<u8> {
    let mut entry = Vec::new();
    bytes(&mut entry, 1, tag.as_bytes());
    entry.push(2 << 3 | 5);
    entry.extend(value.to_le_bytes());
    let mut summary = Vec::new();
    bytes(&mut summary, 1, &entry);
    let mut event = time();
    event.push(2 << 3);
    varint(&mut event, step);
    bytes(&mut event, 5, &summary);
    record(&event)
}

fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(event);
    record.extend(masked_crc(event).to_le_bytes());
    record
}

/// When the latest of our files in `folder` was begun, in microseconds.
fn latest(folder: &Path) -> io::Result<u64> {
    let mut latest = 0;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let middle = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let micros = middle.and_then(|name| name.strip_suffix(SUFFIX)?.parse().ok());
        latest = latest.max(micros.unwrap_or(0));
    }
    // A name of no time that was ever.
    Ok(if latest > u64::MAX / 2 { 0 } else { latest })
}

fn now() -> std::time::Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// The beginning of an event: field 1, the time in seconds.
fn time() -> Vec<u8> {
    let mut event = vec![1 << 3 | 1];
    event.extend(now().as_secs_f64().to_le_bytes());
    event
}

fn bytes(out: &mut Vec<u8>, field: u8, content: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, content.len() as u64);
    out.extend(content);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// CRC-32C, rotated and offset, so that a checksum of checksums stays meaningful.
fn masked_crc(data: &[u8]) -> u32 {
    let crc = !data.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    });
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_crc32c() {
        // The check value of CRC-32C, masked.
        let crc = 0xe306_9283_u32;
        let masked = crc.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(masked_crc(b"123456789"), masked);
    }

    #[test]
    fn every_record_is_framed_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(folder.path(), 300).unwrap();
        events.append(&scalar("loss", 300, 0.5)).unwrap();
        let path = fs::read_dir(folder.path())
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let file = fs::read(path).unwrap();
        let (mut at, mut found) = (0, Vec::new());
        while at < file.len() {
            let length = u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
            let crc = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
            assert_eq!(crc(at + 8), masked_crc(&file[at..at + 8]));
            let event = &file[at + 12..][..length];
            assert_eq!(crc(at + 12 + length), masked_crc(event));
            found.push(event.to_vec());
            at += 16 + length;
        }
        assert_eq!(found.len(), 3);
        // Step 300 as a varint, then the start of a session.
        assert_eq!(found[1][9..], [0x10, 0xac, 0x02, 0x3a, 2, 0x08, 1]);
        // Step 300 as a varint, then the summary that holds the tag and 0.5.
        let tail = [
            0x10, 0xac, 0x02, 0x2a, 13, 0x0a, 11, 0x0a, 4, b'l', b'o', b's', b's', 0x15,
        ];
        assert_eq!(found[2][9..23], tail);
        assert_eq!(found[2][23..], 0.5f32.to_le_bytes());
    }
}
