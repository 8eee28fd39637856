//! What `include/graft.h` declares, read as text.
#![allow(dead_code)] // each test uses some of it

use std::collections::BTreeMap;

use regex::Regex;

use crate::program;

/// A function of the header.
#[derive(Debug)]
pub struct Function {
    /// What it returns: "graft_status".
    pub returns: String,
    /// Its parameters' types: "const graft_model *".
    pub takes: Vec<String>,
}

/// The header's text without comments.
pub fn text() -> String {
    let path = program::root().join("include/graft.h");
    without_comments(&std::fs::read_to_string(path).expect("graft.h"))
}

/// The text of a header without comments.
pub fn without_comments(text: &str) -> String {
    let comments = Regex::new(r"(?s)/\*.*?\*/").expect("a pattern");
    comments.replace_all(text, " ").into_owned()
}

/// Every function by name.
pub fn functions() -> BTreeMap<String, Function> {
    functions_of(&text())
}

/// The same of a header's text.
pub fn functions_of(text: &str) -> BTreeMap<String, Function> {
    let text = without_comments(text);
    let pattern = Regex::new(
        r"(?s)GRAFT_API\s+([\w\s]*?\w\s*\*?)\s*(graft_\w+)\s*\(([^;]*?)\)\s*GRAFT_NOEXCEPT",
    )
    .expect("a pattern");
    let name = Regex::new(r"\w+$").expect("a pattern");
    let functions = pattern.captures_iter(&text).map(|found| {
        let takes = found[3].split(',').map(|parameter| {
            let parameter = parameter.replace("GRAFT_OPT", "");
            let words: Vec<&str> = parameter.split_whitespace().collect();
            name.replace(&words.join(" "), "").trim().to_owned()
        });
        let function = Function {
            returns: found[1].split_whitespace().collect::<Vec<_>>().join(" "),
            takes: takes.filter(|t| !t.is_empty()).collect(),
        };
        (found[2].to_owned(), function)
    });
    functions.collect()
}

/// Every macro that is a number, with its text.
pub fn numbers() -> BTreeMap<String, String> {
    let text = text();
    let pattern =
        Regex::new(r"(?m)^#[ \t]*define (GRAFT_\w+)[ \t]+(\S.*?)[ \t]*$").expect("a pattern");
    let macros = pattern
        .captures_iter(&text)
        .map(|found| (found[1].to_owned(), found[2].to_owned()));
    let is_number = |text: &str| {
        let text = text
            .trim_start_matches("((size_t)")
            .trim_start_matches("((uint64_t)")
            .trim_start_matches(['(', '-']);
        text.starts_with(|c: char| c.is_ascii_digit() || c == '-')
    };
    macros
        .filter(|(name, text)| is_number(text) && !name.starts_with("GRAFT_VERSION"))
        .collect()
}

/// Every struct with a body.
pub fn structs() -> Vec<String> {
    let text = text();
    let pattern = Regex::new(r"typedef struct (graft_\w+) \{").expect("a pattern");
    let names = pattern
        .captures_iter(&text)
        .map(|found| found[1].to_owned());
    names.collect()
}
