//! `docs/c-reference.md`: the header as pages, made from it so that they never differ.

use std::fs;
use std::mem;
use std::path::Path;

/// Writes the reference.
///
/// # Errors
/// If the header cannot be read, or the pages cannot be written.
pub fn write(root: &Path) -> Result<(), String> {
    let (header, page) = (
        root.join("include/graft.h"),
        root.join("docs/c-reference.md"),
    );
    let text = fs::read_to_string(&header)
        .map_err(|e| format!("cannot read {}: {e}", header.display()))?;
    fs::write(&page, of(&text)).map_err(|e| format!("cannot write {}: {e}", page.display()))
}

const BEGINNING: &str = "\
# Reference of the C interface

Made from `include/graft.h` by `cargo run --release -p graft-abi-build -- --reference`; change it there. The guide is [here](c-api.md).
";

/// The pages of a header.
pub fn of(header: &str) -> String {
    let mut page = Page {
        text: BEGINNING.into(),
        code: String::new(),
    };
    let mut comment: Option<String> = None;
    let mut inside = false;
    for line in header.lines() {
        // What comes before the first section is for the compiler, but for the rules, which the guide has.
        inside |= line.starts_with("/* ----");
        if !inside || line.starts_with("#ifdef __cplusplus") {
            inside = inside && !line.starts_with("#ifdef __cplusplus");
            continue;
        }
        match (&mut comment, line) {
            (None, banner) if banner.starts_with("/* ----") => {
                let name = banner.trim_matches(|c: char| !c.is_alphanumeric());
                page.heading(name);
            }
            (None, begin) if begin.starts_with("/*") => {
                page.end_code();
                comment = Some(String::new());
                page.comment(&mut comment, begin.trim_start_matches("/*"));
            }
            (Some(_), line) => page.comment(&mut comment, line.trim_start_matches(" *")),
            (None, line) => page.code(line),
        }
    }
    page.end_code();
    page.text
}

struct Page {
    text: String,
    code: String,
}

impl Page {
    fn heading(&mut self, name: &str) {
        self.end_code();
        let mut letters = name.chars();
        let first = letters.next().map(|c| c.to_ascii_uppercase());
        self.text += &format!("\n## {}{}\n", first.unwrap_or('?'), letters.as_str());
    }

    /// A line of a comment; the last one ends it.
    fn comment(&mut self, comment: &mut Option<String>, line: &str) {
        let Some(text) = comment else { return };
        let (line, ends) = match line.split_once("*/") {
            Some((line, _)) => (line, true),
            None => (line, false),
        };
        match line.trim() {
            "" if !text.is_empty() => *text += "\n\n",
            line if text.is_empty() || text.ends_with('\n') => *text += line,
            line => *text += &format!(" {line}"),
        }
        if ends {
            self.text += &format!(
                "\n{}\n",
                text.trim().replace('<', "\\<").replace('*', "\\*")
            );
            *comment = None;
        }
    }

    fn code(&mut self, line: &str) {
        let line = line
            .replace("GRAFT_API ", "")
            .replace(" GRAFT_NOEXCEPT", "")
            .replace(" GRAFT_MUST_USE", "");
        if line.trim().is_empty() {
            self.end_code();
        } else {
            self.code += &line;
            self.code.push('\n');
        }
    }

    fn end_code(&mut self) {
        let code = mem::take(&mut self.code);
        if !code.trim().is_empty() {
            self.text += &format!("\n```c\n{code}```\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_in_the_repository_are_the_headers() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .unwrap();
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
        let (written, made) = (read("docs/c-reference.md"), of(&read("include/graft.h")));
        assert!(
            written == made,
            "renew it with `cargo run --release -p graft-abi-build -- --reference`"
        );
    }

    #[test]
    fn comments_become_text_and_declarations_code() {
        let header = "#define X\n/* ---- errors */\n\n/* What\n * failed. */\nGRAFT_API int f(void) GRAFT_NOEXCEPT;\n\n\
                      #ifdef __cplusplus\n}\n#endif\n";
        let page = of(header);
        assert!(
            page.ends_with("\n## Errors\n\nWhat failed.\n\n```c\nint f(void);\n```\n"),
            "{page}"
        );
    }
}
