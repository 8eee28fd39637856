//! Where the characters of a text stand: exports count characters, Rust counts bytes.

use crate::marks::{BLOCK, character_starts, nth_character};

/// A text of which parts are asked for by their first and last character.
pub struct Characters<'a> {
    text: &'a str,
    /// Characters that begin before each block of the text; none if every character is a byte.
    before: Vec<usize>,
}

impl<'a> Characters<'a> {
    /// Looks through `text`.
    pub fn of(text: &'a str) -> Self {
        let mut before = Vec::new();
        if !text.is_ascii() {
            before.reserve(text.len() / BLOCK + 1);
            let mut all = 0;
            for block in text.as_bytes().chunks(BLOCK) {
                before.push(all);
                all += character_starts(block);
            }
        }
        Self { text, before }
    }

    /// The characters from `start` up to and without `end`.
    pub fn get(&self, start: usize, end: usize) -> Option<&'a str> {
        self.text.get(self.byte(start)?..self.byte(end)?)
    }

    /// The byte at which a character begins; the end is one behind the last.
    fn byte(&self, character: usize) -> Option<usize> {
        if self.before.is_empty() {
            return Some(character);
        }
        // The last block that begins before it, or with it.
        let blocks = self.before.partition_point(|&before| before <= character);
        let block = blocks.checked_sub(1)?;
        let start = block * BLOCK;
        let bytes = &self.text.as_bytes()[start..];
        let bytes = &bytes[..bytes.len().min(BLOCK)];
        let further = character - self.before[block];
        match nth_character(bytes, further) {
            Some(at) => Some(start + at),
            // Behind the last of a block is the end of the text.
            None => (further == character_starts(bytes)).then_some(self.text.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_counting_every_character_gives() {
        for text in [
            "",
            "plain",
            "é",
            "größer 😀 ist — es",
            &"aé😀—x".repeat(60),
            &"—".repeat(64),
            &format!("{}é", "x".repeat(63)),
            &format!("{}é", "x".repeat(64)),
        ] {
            let characters = Characters::of(text);
            let all: Vec<char> = text.chars().collect();
            for start in 0..=all.len() + 1 {
                for end in start.saturating_sub(1)..=all.len() + 1 {
                    let part = all.get(start..end).map(|part| part.iter().collect());
                    let found = characters.get(start, end).map(str::to_owned);
                    assert_eq!(found, part, "{text:?} {start} {end}");
                }
            }
        }
    }
}
