//! A converter: one sample per line of a text file, `question<TAB>answer`. Put your format in its place.
//!
//! The SDK has a streaming JSON reader that knows lines and columns (`graft_plugin::records`), and
//! `graft_plugin::options` reads options.

use graft_plugin::options::Options;
use graft_plugin::window::Window;
use graft_plugin::{
    Converter, Diagnostic, Error, Format, Host, Location, Part, Role, Sample, Severity, Sink,
    Source, Summary, Turn, export_converter, invalid_input,
};

/// The most bytes of a line.
const LONGEST: usize = 1 << 20;

/// The converter itself; it keeps nothing between two calls.
pub struct Plugin;

impl Converter for Plugin {
    const FORMATS: &'static [Format] = &[Format {
        id: "question-tab-answer",
        title: "Questions and answers, one pair a line",
        extensions: &["tsv", "txt"],
    }];
    const OPTIONS_SCHEMA: &'static str =
        r#"{"type": "object", "properties": {}, "additionalProperties": false}"#;

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
        Options::parse(options, &[])?;
        let size = input.size();
        let mut window = Window::new(input);
        let mut summary = Summary {
            records: 0,
            samples: 0,
            skipped: 0,
        };
        while window.fill(1)? {
            let offset = window.place().offset;
            let at = Location {
                source: window.name().to_owned(),
                byte_offset: Some(offset),
                line: Some(summary.records + 1),
                column: None,
                record_index: Some(summary.records),
                field: None,
            };
            host.checkpoint(offset, size)?;
            let Some(length) = window.line(LONGEST)? else {
                let why = "the line is longer than this format may have";
                return Err(invalid_input("line-too-long", why, Some(at)));
            };
            summary.records += 1;
            match pair(&window.bytes()[..length]) {
                Ok((question, answer)) => {
                    output.emit(Sample {
                        id: summary.records.to_string(),
                        images: vec![],
                        turns: vec![says(Role::User, question), says(Role::Assistant, answer)],
                        origin: Some(at),
                        extra: vec![],
                    })?;
                    summary.samples += 1;
                }
                Err((code, why)) => {
                    host.report(Diagnostic {
                        severity: Severity::Warning,
                        code: code.into(),
                        message: why.into(),
                        at: Some(at),
                    })?;
                    summary.skipped += 1;
                }
            }
            window.skip_line()?;
        }
        Ok(summary)
    }
}

/// Question and answer of a line; `Err` has the code of what is wrong, and says it.
fn pair(line: &[u8]) -> Result<(&str, &str), (&'static str, &'static str)> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = str::from_utf8(line).map_err(|_| ("not-utf8", "the line is not UTF-8"))?;
    text.split_once('\t')
        .ok_or(("no-tab", "the line has no tab between question and answer"))
}

fn says(role: Role, text: &str) -> Turn {
    Turn {
        role,
        content: vec![Part::Text(text.to_owned())],
    }
}

export_converter!(Plugin);

#[cfg(test)]
mod tests {
    use super::*;
    use graft_plugin::testing::{convert, survives_damage};

    #[test]
    fn a_line_is_a_question_and_its_answer() {
        let outcome = convert::<Plugin>(b"2 + 2?\t4\r\nno tab\n\xff\t1\nLast?\tyes", "{}", &[]);
        assert_eq!(outcome.counts(), (4, 2, 2));
        assert_eq!(outcome.texts(0), ["2 + 2?", "4"]);
        assert_eq!(outcome.texts(1), ["Last?", "yes"]);
        assert_eq!(outcome.codes(), ["no-tab", "not-utf8"]);
        assert_eq!(outcome.remarks[1].at.as_ref().unwrap().line, Some(3));
    }

    #[test]
    fn no_damage_goes_unsaid() {
        survives_damage::<Plugin>(b"2 + 2?\t4\nAnd 3 + 3?\t6\n", "{}", &[]);
    }
}
