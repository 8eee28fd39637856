//! LLaVA's JSON: an array of records (or one record per line) of `id`, `image`, `conversations`.
//!
//! ```json
//! [ { "id": "1", "image": "a.png",
//!     "conversations": [ {"from": "human", "value": "<image>\nWhat is this?"},
//!                        {"from": "gpt",   "value": "A bus."} ] } ]
//! ```
//! An image may be a file's name or, in place of it, a `data:` URL that holds it.
//! Only `human` turns mark images; further fields are kept in [`Sample::extra`]. As LLaVA's loader
//! does it, a marker anywhere in a turn moves the image to its front.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{DatasetError, ImageRef, Location, Part, Role, Sample, Turn, data_url};
use crate::Result;
use crate::atomic_file::AtomicFile;

/// The marker of an image in a turn's text.
const MARKER: &str = "<image>";

#[derive(Deserialize)]
#[serde(expecting = "a record with `conversations`")]
struct Record {
    id: Option<Value>,
    image: Option<Value>,
    conversations: Vec<RecordTurn>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Deserialize, Serialize)]
#[serde(expecting = "a turn with `from` and `value`")]
struct RecordTurn {
    from: String,
    value: String,
}

/// Reads a whole data set.
///
/// # Errors
/// A file that cannot be read, is not JSON of this shape (with line and column), has a record whose
/// conversation cannot be used (with its index and id), or holds no samples.
pub fn read(path: &Path) -> Result<Vec<Sample>, DatasetError> {
    let io = |source| DatasetError::Io {
        action: "read",
        path: path.into(),
        source,
    };
    let file = std::fs::File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.is_dir() {
        return Err(io(std::io::ErrorKind::IsADirectory.into()));
    }
    let samples = from_reader(BufReader::new(file), path)?;
    if samples.is_empty() {
        return Err(DatasetError::Empty { path: path.into() });
    }
    Ok(samples)
}

/// Reads a data set from any reader; `path` is for messages.
///
/// # Errors
/// As [`read`], except that no samples are no error.
pub fn from_reader(mut input: impl BufRead, path: &Path) -> Result<Vec<Sample>, DatasetError> {
    let json = |e: serde_json::Error| {
        let (path, line, column) = (path.into(), e.line(), e.column());
        let reason = match e.to_string().rsplit_once(" at line ") {
            Some((reason, _)) => reason.to_owned(),
            None => e.to_string(),
        };
        if e.is_data() {
            return DatasetError::Form {
                path,
                line,
                column,
                reason,
            };
        }
        DatasetError::Json {
            path,
            line,
            column,
            reason,
        }
    };
    let first = first_byte(&mut input).map_err(|source| DatasetError::Io {
        action: "read",
        path: path.into(),
        source,
    })?;
    let mut samples = Vec::new();
    let mut take = |record: Record| -> Result<(), DatasetError> {
        let index = samples.len();
        samples.push(sample(record, index, path)?);
        Ok(())
    };
    if first == Some(b'{') {
        for record in serde_json::Deserializer::from_reader(input).into_iter() {
            take(record.map_err(json)?)?;
        }
    } else if first.is_some() {
        let mut failed = None;
        let mut deserializer = serde_json::Deserializer::from_reader(input);
        let records = Records {
            take: &mut take,
            failed: &mut failed,
        };
        let read = deserializer.deserialize_seq(records);
        if let Some(error) = failed {
            return Err(error);
        }
        read.and_then(|()| deserializer.end()).map_err(json)?;
    }
    Ok(samples)
}

/// The first byte that is not white space, left in place. A byte order mark before it is dropped.
fn first_byte(input: &mut impl BufRead) -> std::io::Result<Option<u8>> {
    if input.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
        input.consume(3);
    }
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(None);
        }
        // Line feeds stay where they are, so that line numbers remain true.
        match buffer.iter().find(|b| !b.is_ascii_whitespace()) {
            Some(&byte) => return Ok(Some(byte)),
            None if buffer.len() > 1 << 12 => return Ok(None),
            None => {
                let n = buffer.len();
                input.consume(n);
            }
        }
    }
}

/// Hands each record of an array on as it is read.
struct Records<'a, F> {
    take: &'a mut F,
    failed: &'a mut Option<DatasetError>,
}

impl<'de, F: FnMut(Record) -> Result<(), DatasetError>> Visitor<'de> for Records<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut records: A) -> Result<(), A::Error> {
        while let Some(record) = records.next_element()? {
            if let Err(error) = (self.take)(record) {
                *self.failed = Some(error);
                return Err(serde::de::Error::custom("record refused"));
            }
        }
        Ok(())
    }
}

fn sample(record: Record, index: usize, path: &Path) -> Result<Sample, DatasetError> {
    let id = match &record.id {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => index.to_string(),
    };
    let refuse = |reason: String| DatasetError::Record {
        path: path.into(),
        index,
        id: id.clone(),
        reason,
    };
    let images = match record.image {
        None | Some(Value::Null) => vec![],
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names
            .into_iter()
            .map(|name| match name {
                Value::String(name) => Ok(name),
                other => Err(refuse(format!("`image` holds {other}, not a file name"))),
            })
            .collect::<Result<_, _>>()?,
        Some(other) => return Err(refuse(format!("`image` is {other}, not a file name"))),
    };
    // LLaVA skips a conversation's first turn if it is not a person's.
    let skipped = usize::from(
        record
            .conversations
            .first()
            .is_some_and(|t| t.from == "gpt"),
    );
    let mut turns = Vec::new();
    let mut next_image = 0;
    for (i, turn) in record.conversations.into_iter().enumerate().skip(skipped) {
        let role = match turn.from.as_str() {
            "human" | "user" => Role::User,
            "gpt" | "assistant" => Role::Assistant,
            "system" if i == 0 => Role::System,
            other => {
                return Err(refuse(format!(
                    "turn {i} is from `{other}`; human and gpt are known"
                )));
            }
        };
        let spoken = turns.last().map(|t: &Turn| t.role);
        let fits = match role {
            Role::Assistant => spoken == Some(Role::User),
            Role::User => spoken != Some(Role::User),
            Role::System => true,
        };
        if !fits {
            return Err(refuse(format!(
                "turn {i}: human and gpt must take turns, human first"
            )));
        }
        turns.push(content(role, &turn.value, &mut next_image, images.len()).map_err(&refuse)?);
    }
    if turns.last().is_none_or(|t| t.role != Role::Assistant) {
        return Err(refuse("the last question has no answer".into()));
    }
    if next_image < images.len() && next_image > 0 {
        return Err(refuse(format!(
            "{} images, but {next_image} markers",
            images.len()
        )));
    }
    Ok(Sample {
        // An image that no turn shows belongs to nothing; LLaVA loads it and drops its features.
        images: images
            .into_iter()
            .take(next_image)
            .map(|name| match data_url::read(&name) {
                None => Ok(ImageRef::Path(name.into())),
                Some(Ok(bytes)) => Ok(ImageRef::Bytes(bytes)),
                Some(Err(reason)) => Err(refuse(format!("`image` is {reason}"))),
            })
            .collect::<Result<_, _>>()?,
        turns,
        origin: Some(Location {
            source: path.display().to_string(),
            record_index: Some(index as u64),
            ..Location::default()
        }),
        extra: record.extra,
        id,
    })
}

fn content(role: Role, value: &str, next: &mut usize, images: usize) -> Result<Turn, String> {
    let markers = if role == Role::User {
        value.matches(MARKER).count()
    } else {
        0
    };
    if markers == 0 {
        return Ok(Turn::text(role, value));
    }
    // Several markers for the sample's one image count once, as in LLaVA.
    let shown = if images == 1 { 1 } else { markers };
    if *next + shown > images {
        return Err(format!(
            "{} image markers for {images} images",
            *next + shown
        ));
    }
    let mut content: Vec<Part> = (*next..*next + shown).map(Part::Image).collect();
    *next += shown;
    let text = value.replace(MARKER, "");
    if !text.trim().is_empty() {
        content.push(Part::Text(text.trim().to_owned()));
    }
    Ok(Turn { role, content })
}

/// A sample as a record of this format, its keys in a fixed order. Markers of images inside texts are taken out: they
/// would shift every later image.
pub fn record(sample: &Sample) -> Map<String, Value> {
    let mut names = Vec::new();
    for image in &sample.images {
        match image {
            ImageRef::Path(path) => names.push(path.display().to_string()),
            ImageRef::Bytes(bytes) => names.push(data_url::write(bytes)),
        }
    }
    let mut record = Map::new();
    record.insert("id".into(), sample.id.clone().into());
    match names.len() {
        0 => None,
        1 => record.insert("image".into(), names.remove(0).into()),
        _ => record.insert("image".into(), names.into()),
    };
    let turns = sample.turns.iter().map(|turn| {
        let from = match turn.role {
            Role::User => "human",
            Role::Assistant => "gpt",
            Role::System => "system",
        };
        let images = turn
            .content
            .iter()
            .filter(|p| matches!(p, Part::Image(_)))
            .count();
        let text = turn.plain_text().replace(MARKER, "");
        let line = if images > 0 && !text.is_empty() {
            "\n"
        } else {
            ""
        };
        serde_json::json!({"from": from, "value": format!("{}{line}{text}", MARKER.repeat(images))})
    });
    record.insert("conversations".into(), turns.collect());
    for (key, value) in &sample.extra {
        record.entry(key).or_insert_with(|| value.clone());
    }
    record
}

/// Writes a data set record by record; the file appears when [`Writer::finish`] succeeds.
#[derive(Debug)]
pub struct Writer {
    file: std::io::BufWriter<AtomicFile>,
    path: PathBuf,
    written: u64,
}

impl Writer {
    /// Starts a data set.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        let mut writer = Self {
            file: std::io::BufWriter::new(AtomicFile::create(path)?),
            path: path.into(),
            written: 0,
        };
        writer.put(b"[")?;
        Ok(writer)
    }

    /// Number of samples written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Appends a sample as [`record`] puts it.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write(&mut self, sample: &Sample) -> Result<()> {
        let refuse = |reason: &str| DatasetError::Record {
            path: self.path.clone(),
            index: self.written as usize,
            id: sample.id.clone(),
            reason: reason.into(),
        };
        let record = record(sample);
        let text = serde_json::to_string(&record).map_err(|e| refuse(&e.to_string()))?;
        self.put(if self.written == 0 { b"\n" } else { b",\n" })?;
        self.put(text.as_bytes())?;
        self.written += 1;
        Ok(())
    }

    /// Syncs the file and gives it its name.
    ///
    /// # Errors
    /// If the disk refuses; nothing is left behind then.
    pub fn finish(mut self) -> Result<()> {
        self.put(b"\n]\n")?;
        let path = self.path.clone();
        let file = self.file.into_inner().map_err(|e| DatasetError::Io {
            action: "write",
            path,
            source: e.into_error(),
        })?;
        file.commit()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self
            .file
            .write_all(bytes)
            .map_err(|source| DatasetError::Io {
                action: "write",
                path: self.path.clone(),
                source,
            })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Sample>, DatasetError> {
        from_reader(text.as_bytes(), Path::new("d.json"))
    }

    const ONE: &str = r#"{"id": 7, "image": "a.png", "model": "x", "conversations": [
        {"from": "human", "value": "What is this?\n<image>"}, {"from": "gpt", "value": "A bus."}]}"#;

    #[test]
    fn a_record_reads_and_is_written_again() {
        let samples = read_text(&format!("[{ONE}]")).unwrap();
        assert_eq!(samples[0].id, "7");
        assert_eq!(samples[0].images, [ImageRef::Path("a.png".into())]);
        assert_eq!(
            samples[0].turns[0].content,
            [Part::Image(0), Part::Text("What is this?".into())]
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        let mut writer = Writer::create(&path).unwrap();
        writer.write(&samples[0]).unwrap();
        writer.write(&samples[0]).unwrap();
        writer.finish().unwrap();
        let again = read(&path).unwrap();
        assert_eq!(again.len(), 2);
        assert_eq!(
            (&again[1].turns, &again[1].extra),
            (&samples[0].turns, &samples[0].extra)
        );
    }

    #[test]
    fn an_image_inside_the_data_set_is_written_and_read() {
        let sample = Sample {
            id: "a".into(),
            images: vec![ImageRef::Bytes(b"\x89PNG\r\n".to_vec())],
            turns: vec![
                Turn {
                    role: Role::User,
                    content: vec![Part::Image(0), Part::Text("q".into())],
                },
                Turn::text(Role::Assistant, "a"),
            ],
            ..Sample::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.json");
        let mut writer = Writer::create(&path).unwrap();
        writer.write(&sample).unwrap();
        writer.finish().unwrap();
        let again = read(&path).unwrap();
        assert_eq!(
            (&again[0].images, &again[0].turns),
            (&sample.images, &sample.turns)
        );
        let text = std::fs::read_to_string(&path).unwrap();
        let error = read_text(&text.replace("base64", "base46")).unwrap_err();
        assert!(error.to_string().contains("data: URL"), "{error}");
    }

    #[test]
    fn records_may_stand_one_a_line() {
        let line = ONE.replace('\n', " ");
        assert_eq!(read_text(&format!("\n{line}\n{line}\n")).unwrap().len(), 2);
    }

    #[test]
    fn malformed_json_is_placed() {
        let error = read_text("[\n {\"id\": }]").unwrap_err();
        assert!(
            matches!(
                error,
                DatasetError::Json {
                    line: 2,
                    column: 9,
                    ..
                }
            ),
            "{error}"
        );
        let error = read_text(&format!("[{ONE}")).unwrap_err();
        assert!(
            matches!(error, DatasetError::Json { line: 2, .. }),
            "{error}"
        );
        let error = read_text("[\n {\"id\": 1}]").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("line 2") && text.contains("conversations"),
            "{text}"
        );
        assert_eq!(read_text(&format!("\u{feff}[{ONE}]")).unwrap().len(), 1);
        assert!(read_text("[] x").is_err());
        assert!(read_text("3").is_err());
        assert!(read_text("").unwrap().is_empty());
    }

    #[test]
    fn conversations_that_cannot_be_used_name_the_record() {
        for (from, to, says) in [
            ("\"gpt\"", "\"human\"", "take turns"),
            ("\"gpt\"", "\"nobody\"", "nobody"),
            (
                ", {\"from\": \"gpt\", \"value\": \"A bus.\"}",
                "",
                "no answer",
            ),
            ("\"a.png\"", "5", "not a file name"),
            ("\"a.png\"", "null", "image markers for 0 images"),
        ] {
            assert!(ONE.contains(from), "{from}");
            let error = read_text(&format!("[{ONE}, {}]", ONE.replacen(from, to, 1))).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("record 1 (id 7)") && text.contains(says),
                "{text}"
            );
        }
    }
}
