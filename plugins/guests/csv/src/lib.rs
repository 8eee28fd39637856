//! Tables of comma-separated values (RFC 4180) whose columns are questions, answers and images.
//!
//! Which column is which is found by its name, or said by an option. Semicolons, tabs and bars separate
//! as well.

// The error is a record of the interface; it is made once, at the end of a conversion.
#![allow(clippy::result_large_err)]

mod columns;
mod rows;

use columns::{Choices, Columns};
use graft_plugin::conversation::Conversation;
use graft_plugin::images::Images;
use graft_plugin::options::Options;
use graft_plugin::remarks::{Ids, Remarks, Trouble, skip};
use graft_plugin::{
    Converter, Error, Format, Host, Location, Role, Sample, Sink, Source, Summary, Value,
    export_converter, invalid_input,
};
use rows::{Field, Row, Rows};

/// Bytes of the largest row.
const LARGEST_ROW: usize = 16 << 20;

/// The converter.
pub struct Csv;

impl Converter for Csv {
    const FORMATS: &'static [Format] = &[Format {
        id: "csv",
        title: "Table of comma-separated values",
        extensions: &["csv", "tsv"],
    }];

    const OPTIONS_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "question_column": {"type": "string", "description": "Column of the questions; found by its name if not given"},
    "answer_column": {"type": "string", "description": "Column of the answers; found by its name if not given"},
    "image_column": {"type": "string", "description": "Column of image names; found by its name if not given"},
    "system_column": {"type": "string", "description": "Column of system prompts; found by its name if not given"},
    "id_column": {"type": "string", "description": "Column of ids; found by its name if not given"},
    "question": {"type": "string", "description": "Template of the question, such as {title}: {text}; the question column if not given"},
    "answers": {"type": "object", "additionalProperties": {"type": "string"},
      "description": "What answers become: {\"1\": \"yes\", \"0\": \"no\"}"},
    "separator": {"enum": ["auto", ",", ";", "tab", "|"], "default": "auto",
      "description": "What stands between fields; auto looks at the first line"},
    "header": {"type": "boolean", "default": true,
      "description": "Whether the first row names the columns; else they are called 1, 2, 3"},
    "system": {"type": "string", "description": "System prompt of rows that have none"},
    "image_root": {"type": "string", "default": "", "description": "Folder put before every image name"},
    "image_strip": {"type": "string", "default": "", "description": "Front of image names that is taken off first"},
    "check_images": {"type": "boolean", "default": true, "description": "Skip rows whose image is not there"}
  }
}"#;

    fn detect(head: &[u8], name: &str) -> u8 {
        let name = name.to_lowercase();
        let named = name.ends_with(".csv") || name.ends_with(".tsv");
        match columns::looks_like_a_table(head) {
            Some(true) if named => 90,
            Some(true) => 40,
            Some(false) if named => 70,
            Some(false) => 10,
            None => 0,
        }
    }

    fn convert(
        input: &mut dyn Source,
        output: &mut dyn Sink,
        options: &str,
        host: &dyn Host,
    ) -> Result<Summary, Error> {
        let [root, strip, check] = Images::OPTIONS;
        let known = [
            "question_column",
            "answer_column",
            "image_column",
            "system_column",
            "id_column",
            "question",
            "answers",
            "separator",
            "header",
            "system",
            root,
            strip,
            check,
        ];
        let options = Options::parse(options, &known)?;
        let choices = Choices::read(&options)?;
        let images = Images::chosen(&options)?;
        let total = input.size();
        let mut rows = Rows::new(input, choices.separator.unwrap_or(b','), LARGEST_ROW);
        rows.window.skip_mark("csv-encoding")?;
        let columns = head(&mut rows, &choices)?;
        let mut summary = Summary {
            records: 0,
            samples: 0,
            skipped: 0,
        };
        let mut ids = Ids::default();
        let source = rows.window.name().to_owned();
        while let Some(row) = rows.next_row()? {
            let index = summary.records;
            summary.records += 1;
            // A field's place is found by its number.
            let places: Vec<_> = match &row.fields {
                Ok(fields) => fields.iter().map(|field| field.place).collect(),
                Err((place, _)) => vec![*place],
            };
            let locate = |at: usize, column: Option<&str>| Location {
                record_index: Some(index),
                field: column.map(str::to_owned),
                ..places.get(at).unwrap_or(&row.place).location(&source)
            };
            let remarks = Remarks {
                scope: "csv",
                host,
                locate: &locate,
            };
            match sample(&row, index, &columns, &choices, &images, &remarks) {
                Ok(mut sample) => {
                    sample.id = ids.fresh(sample.id, 0, &remarks)?;
                    summary.samples += 1;
                    output.emit(sample)?;
                }
                Err(trouble) => {
                    summary.skipped += 1;
                    remarks.trouble(trouble)?;
                }
            }
            host.checkpoint(rows.window.place().offset, total)?;
        }
        Ok(summary)
    }
}

/// Reads the first row, or as much of it as is needed to know the columns.
fn head(rows: &mut Rows<'_>, choices: &Choices) -> Result<Columns, Error> {
    let source = rows.window.name().to_owned();
    let fault = |code, message: String, place: graft_plugin::place::Place| {
        Err(invalid_input(code, message, Some(place.location(&source))))
    };
    // Excel's first line may say what separates.
    if rows.window.fill(5)? && rows.window.bytes().starts_with(b"sep=") {
        let separator = rows.window.bytes()[4];
        rows.window.skip_line()?;
        rows.separator = choices.separator.unwrap_or(separator);
    } else if choices.separator.is_none() {
        let length = rows.window.line(LARGEST_ROW)?.unwrap_or_default();
        rows.separator = rows::separator(&rows.window.bytes()[..length]);
    }
    let place = rows.window.place();
    if !choices.header {
        return match Columns::numbered(choices) {
            Ok(columns) => Ok(columns),
            Err(reason) => Err(Error::InvalidOptions(reason)),
        };
    }
    match rows.next_row()? {
        None => fault("csv-empty", "the file is empty".into(), place),
        Some(Row {
            fields: Err((place, message)),
            ..
        }) => fault("csv-header", message, place),
        Some(Row {
            fields: Ok(fields),
            place,
        }) => {
            let names = fields.into_iter().map(|field| field.text.trim().to_owned());
            match Columns::named(names.collect(), choices) {
                Ok(columns) => Ok(columns),
                Err(reason) => fault("csv-columns", reason, place),
            }
        }
    }
}

/// The sample of a row.
fn sample(
    row: &Row,
    index: u64,
    columns: &Columns,
    choices: &Choices,
    images: &Images,
    remarks: &Remarks<'_>,
) -> Result<Sample, Trouble> {
    let fields = match &row.fields {
        Ok(fields) => fields,
        Err((_, message)) => {
            return Err(skip("bad-row", format!("{message}: row skipped"), 0, ""));
        }
    };
    if columns.count.is_some_and(|count| count != fields.len()) {
        let message = format!(
            "the row has {} fields, the first has {}: row skipped",
            fields.len(),
            columns.count.unwrap_or_default()
        );
        return Err(skip("field-count", message, 0, ""));
    }
    let field = |column: usize| -> Result<(usize, &Field, String), Trouble> {
        let name = columns.name(column);
        match fields.get(column) {
            Some(field) => Ok((column, field, name)),
            None => {
                let message = format!("the row has no column {name}: row skipped");
                Err(skip("field-count", message, 0, name))
            }
        }
    };
    let mut conversation = Conversation::new();
    if let Some(column) = columns.system {
        let (at, system, name) = field(column)?;
        conversation.text(Role::System, &system.text, at, name);
    }
    let mut shown = Vec::new();
    if let Some(column) = columns.image {
        let (at, image, name) = field(column)?;
        if !image.text.trim().is_empty() {
            let image = images.find(image.text.trim(), remarks.host, at, &name)?;
            shown.push(image);
        }
    }
    let (at, question, name) = match &columns.question {
        columns::Question::Column(column) => {
            let (at, question, name) = field(*column)?;
            (at, question.text.clone(), name)
        }
        columns::Question::Template(template) => {
            let missing = template.places().find(|place| {
                let column = columns.find(place);
                column.is_none_or(|column| column >= fields.len())
            });
            if let Some(place) = missing {
                let message = format!("the row has no column {place}: row skipped");
                return Err(skip("field-count", message, 0, place));
            }
            let value = |place: &str| Some(fields[columns.find(place)?].text.as_str());
            (0, template.fill(value), String::new())
        }
    };
    let mut content: Vec<_> = shown.into_iter().map(|i| conversation.image(i)).collect();
    content.push(graft_plugin::Part::Text(question));
    conversation.say(Role::User, content, at, name);
    let (at, answer, name) = field(columns.answer)?;
    let answer = choices.answer(answer.text.trim());
    conversation.text(Role::Assistant, answer, at, name);
    let id = match columns.id {
        Some(column) => field(column)?.1.text.trim().to_owned(),
        None => String::new(),
    };
    let id = match id.is_empty() {
        true => format!("row-{}", index + 1),
        false => id,
    };
    let line = Value::Integer(i64::try_from(row.place.line).unwrap_or(i64::MAX));
    conversation.extra.push(("line".into(), line));
    conversation.finish(id, choices.system.as_deref(), remarks, 0)
}

export_converter!(Csv);

#[cfg(test)]
mod tests;
