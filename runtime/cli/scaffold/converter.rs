//! A converter: one sample per line of a text file, `question<TAB>answer`.
//!
//! Put your format in the place of this one; the SDK in `sdk/` has a streaming JSON reader that knows
//! lines and columns (`graft_plugin::json`), and `graft_plugin::options` reads options.

use graft_plugin::{
    Converter, Diagnostic, Error, Format, Host, Location, Part, Role, Sample, Severity, Sink, Source,
    Summary, Turn, export_converter,
};

/// The most bytes that an input may have.
const LARGEST: usize = 64 << 20;

/// The converter itself; it keeps nothing between two calls.
pub struct Plugin;

impl Converter for Plugin {
    const FORMATS: &'static [Format] = &[Format {
        id: "question-tab-answer",
        title: "Questions and answers, one pair a line",
        extensions: &["tsv", "txt"],
    }];
    const OPTIONS_SCHEMA: &'static str = r#"{"type": "object", "additionalProperties": false}"#;

    fn detect(head: &[u8], _name: &str) -> u8 {
        if head.contains(&b'\t') { 20 } else { 0 }
    }

    fn convert(
        input: &mut dyn Source,
        output: &mut dyn Sink,
        options: &str,
        host: &dyn Host,
    ) -> Result<Summary, Error> {
        // Knows no option; one that is given is an error rather than without effect.
        graft_plugin::options::Options::parse(options, &[])?;
        let source = input.name();
        let text = graft_plugin::read_all(input, LARGEST)?;
        let text = String::from_utf8_lossy(&text);
        let mut summary = Summary {
            records: 0,
            samples: 0,
            skipped: 0,
        };
        for (number, line) in text.lines().enumerate() {
            summary.records += 1;
            let at = Location {
                source: source.clone(),
                byte_offset: None,
                line: Some(number as u64 + 1),
                column: None,
                record_index: Some(number as u64),
                field: None,
            };
            let Some((question, answer)) = line.split_once('\t') else {
                host.report(Diagnostic {
                    severity: Severity::Warning,
                    code: "no-tab".into(),
                    message: "the line has no tab between question and answer".into(),
                    at: Some(at),
                })?;
                summary.skipped += 1;
                continue;
            };
            output.emit(Sample {
                id: format!("{}", number + 1),
                images: vec![],
                turns: vec![turn(Role::User, question), turn(Role::Assistant, answer)],
                origin: Some(at),
                extra: vec![],
            })?;
            summary.samples += 1;
            host.checkpoint(summary.records, None)?;
        }
        Ok(summary)
    }
}

fn turn(role: Role, text: &str) -> Turn {
    Turn {
        role,
        content: vec![Part::Text(text.to_owned())],
    }
}

export_converter!(Plugin);
