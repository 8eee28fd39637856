//! Tables for people: columns as wide as their content, nothing else.

use std::io::{self, Write};

/// Rows of cells under a heading.
pub struct Table {
    rows: Vec<Vec<String>>,
    right: &'static [bool],
}

impl Table {
    /// A table with these headings; `right` says which columns are numbers, flush right.
    pub fn new<const N: usize>(headings: [&str; N], right: &'static [bool; N]) -> Self {
        Self {
            rows: vec![headings.map(str::to_owned).into()],
            right,
        }
    }

    /// Appends a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Writes the table, two blanks between columns.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (i, cell) in row.iter().enumerate() {
                let width = widths[i];
                match self.right[i] {
                    true => line += &format!("{cell:>width$}  "),
                    false => line += &format!("{cell:<width$}  "),
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A text cut to `width` characters, with an ellipsis where something is missing; line ends and
/// control characters become blanks.
pub fn cut(text: &str, width: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().count() <= width {
        return text.chars().map(clean).collect();
    }
    let kept = text.chars().take(width.saturating_sub(1)).map(clean);
    kept.chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_flush_right() {
        let mut table = Table::new(["name", "bytes"], &[false, true]);
        table.row(["a".into(), "1024".into()]);
        table.row(["long name".into(), "7".into()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        let expected = "name       bytes\na           1024\nlong name      7\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn what_is_too_long_is_cut() {
        assert_eq!(cut("four", 4), "four");
        assert_eq!(cut("f\nive!", 4), "f i…");
    }
}
