//! White space as Python sees it, because the scripts that define the measures are written in it:
//! Unicode's white space and the four separators U+001C to U+001F.

/// Whether Python's `str.isspace` holds for `c`.
pub fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `text.split()`: what stands between runs of blanks.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_blank).filter(|word| !word.is_empty())
}

/// `text.strip()`: without the blanks at both ends.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_blank)
}

/// `" ".join(text.split())`: one blank between words, none at the ends.
pub fn collapse(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in words(text) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_blanks_and_zero_width_characters_are_not() {
        let text = "\u{1f}a\u{1c}b \u{3000}\u{85}c\u{200b}\u{a0}";
        assert_eq!(words(text).collect::<Vec<_>>(), ["a", "b", "c\u{200b}"]);
        assert_eq!(collapse(text), "a b c\u{200b}");
        assert_eq!(strip(text), "a\u{1c}b \u{3000}\u{85}c\u{200b}");
        assert_eq!((strip(" \u{1d} "), collapse("")), ("", String::new()));
    }
}
