//! What is wrong with a piece of input, and exactly where.

use std::fmt;

/// How bad a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing was lost.
    Note,
    /// Something was skipped or guessed.
    Warning,
    /// The input is wrong.
    Error,
}

/// A place in the input. Lines, columns count from 1; byte offsets and records from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Location {
    /// Name of the file or asset.
    pub source: String,
    /// Bytes from the start of the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub byte_offset: Option<u64>,
    /// Line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Column in bytes, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
    /// Index of the record (document, row, task) in the input, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_index: Option<u64>,
    /// JSON pointer (RFC 6901) or column name inside the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// One remark about the input.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Stable name of the kind of remark, kebab case: `ubiai-orphan-question`.
    pub code: String,
    /// One sentence for people.
    pub message: String,
    /// Where, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Location>,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// `export.json:12:5 (record 3, /relations/0/child)`: clickable in a terminal.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        match (self.line, self.column, self.byte_offset) {
            (Some(line), Some(column), _) => write!(f, ":{line}:{column}")?,
            (Some(line), None, _) => write!(f, ":{line}")?,
            (None, _, Some(offset)) => write!(f, " at byte {offset}")?,
            (None, _, None) => {}
        }
        match (self.record_index, &self.field) {
            (Some(record), Some(field)) => write!(f, " (record {record}, {field})"),
            (Some(record), None) => write!(f, " (record {record})"),
            (None, Some(field)) => write!(f, " ({field})"),
            (None, None) => Ok(()),
        }
    }
}

/// `export.json:12:5: warning: no answer is linked to this question [ubiai-orphan-question]`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        write!(f, "{}: {} [{}]", self.severity, self.message, self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnostic_reads_as_a_compiler_message() {
        let at = Location {
            source: "export.json".into(),
            line: Some(12),
            column: Some(5),
            record_index: Some(3),
            field: Some("/relations/0/child".into()),
            ..Location::default()
        };
        let diagnostic = Diagnostic {
            severity: Severity::Warning,
            code: "ubiai-dangling-index".into(),
            message: "no span holds token 7".into(),
            at: Some(at),
        };
        assert_eq!(
            diagnostic.to_string(),
            "export.json:12:5 (record 3, /relations/0/child): warning: \
             no span holds token 7 [ubiai-dangling-index]"
        );
    }
}
