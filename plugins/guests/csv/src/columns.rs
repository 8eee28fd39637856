//! Which column holds what.

use graft_plugin::Error;
use graft_plugin::options::Options;
use graft_plugin::template::Template;

use crate::rows;

/// Names that columns usually have, the likeliest first.
const QUESTION: [&str; 9] = [
    "question",
    "prompt",
    "instruction",
    "query",
    "user",
    "human",
    "input",
    "source",
    "text",
];
const ANSWER: [&str; 13] = [
    "answer",
    "response",
    "completion",
    "output",
    "assistant",
    "gpt",
    "target",
    "caption",
    "label",
    "answers",
    "category",
    "class",
    "text",
];
const IMAGE: [&str; 8] = [
    "image",
    "image_path",
    "image_file",
    "file_name",
    "filename",
    "image_name",
    "file",
    "path",
];
const SYSTEM: [&str; 2] = ["system", "system_prompt"];
const ID: [&str; 3] = ["id", "question_id", "sample_id"];

/// What the user chose.
pub struct Choices {
    question_column: Option<String>,
    answer_column: Option<String>,
    image_column: Option<String>,
    system_column: Option<String>,
    id_column: Option<String>,
    question: Option<Template>,
    answers: Vec<(String, String)>,
    pub separator: Option<u8>,
    pub header: bool,
    pub system: Option<String>,
}

impl Choices {
    /// Reads the options.
    pub fn read(options: &Options<'_>) -> Result<Self, Error> {
        let text = |name| options.text(name).map(|text| text.map(str::to_owned));
        let separators = ["auto", ",", ";", "tab", "|"];
        let template = |text| Template::parse("question", text);
        Ok(Self {
            question_column: text("question_column")?,
            answer_column: text("answer_column")?,
            image_column: text("image_column")?,
            system_column: text("system_column")?,
            id_column: text("id_column")?,
            question: options.text("question")?.map(template).transpose()?,
            answers: options.map("answers")?,
            separator: match options.choice("separator", &separators)? {
                "auto" => None,
                "tab" => Some(b'\t'),
                other => Some(other.as_bytes()[0]),
            },
            header: options.flag("header", true)?,
            system: text("system")?,
        })
    }

    /// What an answer becomes.
    pub fn answer<'t>(&'t self, text: &'t str) -> &'t str {
        let mut found = self.answers.iter().filter(|(from, _)| from == text);
        found.next().map_or(text, |(_, to)| to)
    }
}

/// Where a question comes from.
pub enum Question {
    Column(usize),
    Template(Template),
}

/// The columns of a table, counted from 0.
pub struct Columns {
    names: Vec<String>,
    /// How many a row must have.
    pub count: Option<usize>,
    pub question: Question,
    pub answer: usize,
    pub image: Option<usize>,
    pub system: Option<usize>,
    pub id: Option<usize>,
}

impl Columns {
    /// Columns with names; the error is a sentence.
    pub fn named(names: Vec<String>, choices: &Choices) -> Result<Self, String> {
        let exact = |name: &str| find(&names, name);
        let chosen = |option: &str, chosen: &Option<String>| match chosen {
            None => Ok(None),
            Some(name) => match exact(name) {
                Some(column) => Ok(Some(column)),
                None => Err(format!(
                    "{option}: there is no column {name:?}; {}",
                    there_are(&names)
                )),
            },
        };
        let usual = |usual: &[&str], taken: &[Option<usize>]| {
            let mut found = usual.iter().filter_map(|name| exact(name));
            found.find(|column| !taken.contains(&Some(*column)))
        };
        let image = chosen("image_column", &choices.image_column)?.or(usual(&IMAGE, &[]));
        let system = chosen("system_column", &choices.system_column)?.or(usual(&SYSTEM, &[]));
        let id = chosen("id_column", &choices.id_column)?.or(usual(&ID, &[]));
        let answer = chosen("answer_column", &choices.answer_column)?;
        let question = match (
            &choices.question,
            chosen("question_column", &choices.question_column)?,
        ) {
            (Some(template), _) => {
                if let Some(place) = template.places().find(|place| exact(place).is_none()) {
                    return Err(format!(
                        "question: there is no column {place:?}; {}",
                        there_are(&names)
                    ));
                }
                Question::Template(template.clone())
            }
            (None, Some(column)) => Question::Column(column),
            (None, None) => match usual(&QUESTION, &[image, answer]) {
                Some(column) => Question::Column(column),
                None => {
                    return Err(format!(
                        "no column is called like a question; say question_column, or question for a \
                         question that is always the same; {}",
                        there_are(&names)
                    ));
                }
            },
        };
        let asked = match &question {
            Question::Column(column) => Some(*column),
            Question::Template(_) => None,
        };
        let Some(answer) = answer.or_else(|| usual(&ANSWER, &[asked, image])) else {
            return Err(format!(
                "no column is called like an answer; say answer_column; {}",
                there_are(&names)
            ));
        };
        Ok(Self {
            count: Some(names.len()),
            question,
            answer,
            image,
            system,
            id,
            names,
        })
    }

    /// Columns called 1, 2, 3: the first asks, the second answers, unless the user says otherwise.
    pub fn numbered(choices: &Choices) -> Result<Self, String> {
        let chosen = |option: &str, chosen: &Option<String>| match chosen {
            None => Ok(None),
            Some(text) => match number(text) {
                Some(column) => Ok(Some(column)),
                None => Err(format!(
                    "/{option}: {text:?} is no number of a column, from 1"
                )),
            },
        };
        let question = match (
            &choices.question,
            chosen("question_column", &choices.question_column)?,
        ) {
            (Some(template), _) => match template.places().find(|place| number(place).is_none()) {
                Some(place) => {
                    return Err(format!("/question: {{{place}}} is no number of a column"));
                }
                None => Question::Template(template.clone()),
            },
            (None, column) => Question::Column(column.unwrap_or(0)),
        };
        Ok(Self {
            names: Vec::new(),
            count: None,
            question,
            answer: chosen("answer_column", &choices.answer_column)?.unwrap_or(1),
            image: chosen("image_column", &choices.image_column)?,
            system: chosen("system_column", &choices.system_column)?,
            id: chosen("id_column", &choices.id_column)?,
        })
    }

    /// What a column is called.
    pub fn name(&self, column: usize) -> String {
        let name = self.names.get(column).cloned();
        name.unwrap_or_else(|| (column + 1).to_string())
    }

    /// The column called `name`.
    pub fn find(&self, name: &str) -> Option<usize> {
        match self.names.is_empty() {
            true => number(name),
            false => find(&self.names, name),
        }
    }
}

fn number(text: &str) -> Option<usize> {
    text.parse::<usize>().ok()?.checked_sub(1)
}

/// The column of that name, else the one that differs only in capitals, blanks and bars.
fn find(names: &[String], name: &str) -> Option<usize> {
    let plain = |name: &str| name.trim().to_lowercase().replace([' ', '-'], "_");
    let exact = names.iter().position(|other| other == name);
    exact.or_else(|| names.iter().position(|other| plain(other) == plain(name)))
}

fn there_are(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(30).map(String::as_str).collect();
    let mut list = shown.join(", ");
    if let Some((end, _)) = list.char_indices().nth(1000) {
        list.truncate(end);
    }
    format!("the columns are {list}")
}

/// Whether the first line names a question and an answer; `None` if it is no line of a table.
pub fn looks_like_a_table(head: &[u8]) -> Option<bool> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let line = head.split(|&b| matches!(b, b'\n' | b'\r')).next()?;
    let separator = rows::separator(line);
    let line = std::str::from_utf8(line).ok()?;
    if line.trim_start().starts_with(['{', '[']) || !line.contains(char::from(separator)) {
        return None;
    }
    if line.contains(|c: char| c.is_control() && c != '\t') {
        return None;
    }
    let fields = line.split(char::from(separator));
    let names: Vec<String> = fields
        .map(|name| name.trim().trim_matches('"').to_owned())
        .collect();
    let has = |usual: &[&str]| usual.iter().any(|name| find(&names, name).is_some());
    Some(has(&QUESTION) && has(&ANSWER) || has(&IMAGE) && has(&ANSWER))
}
