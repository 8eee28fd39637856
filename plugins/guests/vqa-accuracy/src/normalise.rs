//! The official normalisation of answers, step by step.

use graft_plugin::blanks::{strip, words};

use crate::contractions::restore;
use crate::digits::is_digit;

/// Punctuation that goes; the full stop has a rule of its own, apostrophe and colon stay.
const PUNCTUATION: &[char] = &[
    ';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',',
    '?', '!',
];

/// Full stops that are taken out at most: the script passes a flag where the count belongs.
const FULL_STOPS: usize = 32;

/// What comes first of all: line feeds and tabs become blanks, blanks at the ends go.
pub fn one_line(text: &str) -> String {
    let text = text.replace(['\n', '\t'], " ");
    strip(&text).to_owned()
}

/// Punctuation, then lower case, numbers, articles and contractions.
pub fn normalise(text: &str) -> String {
    words_alone(&without_punctuation(text))
}

/// A mark goes if a blank stands beside one of its kind, or if the text has a comma between digits
/// (`1,000`); else it becomes a blank. Then full stops go that have no digit behind them.
fn without_punctuation(text: &str) -> String {
    let groups_digits = has_comma_between_digits(text);
    let mut goes = [groups_digits; PUNCTUATION.len()];
    let kind = |c| PUNCTUATION.iter().position(|&mark| mark == c);
    let mut previous = None;
    for c in text.chars() {
        match (previous, c) {
            (Some(' '), mark) | (Some(mark), ' ') => {
                if let Some(kind) = kind(mark) {
                    goes[kind] = true;
                }
            }
            _ => {}
        }
        previous = Some(c);
    }
    let replaced = text.chars().filter_map(|c| match kind(c) {
        Some(kind) => (!goes[kind]).then_some(' '),
        None => Some(c),
    });
    without_full_stops(replaced, text.len())
}

fn without_full_stops(text: impl Iterator<Item = char>, bytes: usize) -> String {
    let mut out = String::with_capacity(bytes);
    let mut text = text.peekable();
    let mut left = FULL_STOPS;
    while let Some(c) = text.next() {
        if c == '.' && left > 0 && !text.peek().copied().is_some_and(is_digit) {
            left -= 1;
        } else {
            out.push(c);
        }
    }
    out
}

fn has_comma_between_digits(text: &str) -> bool {
    let mut commas = text.match_indices(',');
    commas.any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + 1..].chars().next();
        before.is_some_and(is_digit) && after.is_some_and(is_digit)
    })
}

fn words_alone(text: &str) -> String {
    let text = text.to_lowercase();
    let mut out = String::with_capacity(text.len());
    for word in words(&text).map(number) {
        if matches!(word, "a" | "an" | "the") {
            continue;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(restore(word).unwrap_or(word));
    }
    out
}

/// The digits of a number from none to ten.
fn number(word: &str) -> &str {
    match word {
        "none" | "zero" => "0",
        "one" => "1",
        "two" => "2",
        "three" => "3",
        "four" => "4",
        "five" => "5",
        "six" => "6",
        "seven" => "7",
        "eight" => "8",
        "nine" => "9",
        "ten" => "10",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_made_alike_by_the_official_rules() {
        for (text, hoped) in [
            ("Yes.", "yes"),
            ("The cat", "cat"),
            ("two", "2"),
            ("None", "0"),
            ("1,000", "1000"),
            ("1,000 red-white", "1000 redwhite"),
            ("red-white", "red white"),
            ("red - white-blue", "red whiteblue"),
            ("3.5", "3.5"),
            ("3.", "3"),
            ("U.S.A.", "usa"),
            (".5", ".5"),
            ("dont know", "don't know"),
            ("y'alld've", "y'all'd've"),
            ("Im", "im"),
            ("12:30", "12:30"),
            ("a dog's bowl", "dog's bowl"),
            ("٣,٤ x-y", "٣٤ xy"),
            ("An a THE", ""),
            ("", ""),
        ] {
            assert_eq!(normalise(&one_line(text)), hoped, "{text}");
        }
    }

    #[test]
    fn only_the_first_full_stops_go() {
        let text = format!("{}x", ".".repeat(40));
        assert_eq!(normalise(&text), format!("{}x", ".".repeat(8)));
    }
}
