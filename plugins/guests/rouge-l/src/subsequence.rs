//! The longest common subsequence, 64 words at a time (Crochemore and others, 2001).

use std::collections::HashMap;

/// Rows of the table in a word of the machine.
const ROWS: usize = 64;

/// How many words the longest sequence has that both lists hold in its order.
///
/// Takes time `|a| |b| / 64` and memory `|a| + |b|`.
pub fn longest(a: &[&str], b: &[&str]) -> usize {
    let (pattern, text) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut numbers = HashMap::new();
    let mut number = |&word| {
        let next = numbers.len();
        *numbers.entry(word).or_insert(next)
    };
    let pattern: Vec<usize> = pattern.iter().map(&mut number).collect();
    let text: Vec<usize> = text.iter().map(&mut number).collect();
    // What each column's addition carries from one block of rows into the next.
    let mut carries = vec![false; text.len()];
    // For each word the rows of the block that hold it.
    let mut rows = vec![0u64; numbers.len()];
    let mut found = 0;
    for block in pattern.chunks(ROWS) {
        for (row, &word) in block.iter().enumerate() {
            rows[word] |= 1 << row;
        }
        // A row whose bit is gone is one more than the row above it.
        let mut same = !0u64;
        for (&word, carry) in text.iter().zip(&mut carries) {
            let match_here = same & rows[word];
            let (sum, first) = same.overflowing_add(match_here);
            let (sum, second) = sum.overflowing_add(u64::from(*carry));
            *carry = first || second;
            same = sum | (same - match_here);
        }
        let unused = ROWS - block.len();
        found += (!same << unused).count_ones() as usize;
        for &word in block {
            rows[word] = 0;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table as the textbook fills it.
    fn by_the_table(a: &[&str], b: &[&str]) -> usize {
        let mut above = vec![0; b.len() + 1];
        for x in a {
            let mut row = vec![0];
            for (j, y) in b.iter().enumerate() {
                let longer = if x == y {
                    above[j] + 1
                } else {
                    above[j + 1].max(row[j])
                };
                row.push(longer);
            }
            above = row;
        }
        above[b.len()]
    }

    #[test]
    fn it_is_what_the_table_says() {
        let words = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let mut state = 3u64;
        let mut random = |below: usize| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) as usize % below
        };
        for round in 0..400 {
            let kinds = 1 + round % words.len();
            let lengths = [10, 64, 130, 300][round % 4];
            let mut draw = || -> Vec<&str> {
                let length = random(lengths);
                (0..length).map(|_| words[random(kinds)]).collect()
            };
            let (a, b) = (draw(), draw());
            assert_eq!(longest(&a, &b), by_the_table(&a, &b), "{a:?} {b:?}");
        }
    }
}
