//! The Levenshtein distance, 64 rows at a time (Myers 1999, in the form of Hyyrö 2003).

use std::collections::HashMap;

/// Rows of the table in a word.
const ROWS: usize = 64;

/// How many letters must be put in, taken out or exchanged to make `b` of `a`.
///
/// Takes time `|a| |b| / 64` and memory `|a| + |b|`.
pub fn levenshtein(a: &[char], b: &[char]) -> usize {
    let (a, b) = without_shared_ends(a, b);
    let (pattern, text) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if pattern.is_empty() {
        return text.len();
    }
    let mut numbers = HashMap::new();
    let mut number = |&c: &char| {
        let next = numbers.len();
        *numbers.entry(c).or_insert(next)
    };
    let pattern: Vec<usize> = pattern.iter().map(&mut number).collect();
    let text: Vec<usize> = text.iter().map(&mut number).collect();
    // What a row adds from one column to the next; in the row above the table each adds one.
    let mut steps = vec![1i8; text.len()];
    // For each letter the rows of the block that hold it.
    let mut rows = vec![0u64; numbers.len()];
    for block in pattern.chunks(ROWS) {
        for (row, &letter) in block.iter().enumerate() {
            rows[letter] |= 1 << row;
        }
        fill_block(&rows, &text, &mut steps, block.len());
        for &letter in block {
            rows[letter] = 0;
        }
    }
    let added: isize = steps.iter().map(|&step| isize::from(step)).sum();
    pattern.len().saturating_add_signed(added)
}

/// Goes through the columns of one block; `steps` come in from the row above and leave as those of
/// the last row.
fn fill_block(rows: &[u64], text: &[usize], steps: &mut [i8], height: usize) {
    let last = 1u64 << (height - 1);
    // Which rows are one more or one less than the row above them.
    let (mut more, mut less) = (!0u64, 0u64);
    for (&letter, step) in text.iter().zip(steps) {
        let down = u64::from(*step < 0);
        let up = u64::from(*step > 0);
        let equal = rows[letter];
        let vertical = equal | less;
        let equal = equal | down;
        let horizontal = ((equal & more).wrapping_add(more) ^ more) | equal;
        let grows = less | !(horizontal | more);
        let shrinks = more & horizontal;
        *step = i8::from(grows & last != 0) - i8::from(shrinks & last != 0);
        let grows = grows << 1 | up;
        let shrinks = shrinks << 1 | down;
        more = shrinks | !(vertical | grows);
        less = grows & vertical;
    }
}

fn without_shared_ends<'t>(a: &'t [char], b: &'t [char]) -> (&'t [char], &'t [char]) {
    let shared = |pairs: &mut dyn Iterator<Item = (&char, &char)>| {
        let alike = pairs.take_while(|(x, y)| x == y);
        alike.count()
    };
    let start = shared(&mut a.iter().zip(b));
    let (a, b) = (&a[start..], &b[start..]);
    let end = shared(&mut a.iter().rev().zip(b.iter().rev()));
    (&a[..a.len() - end], &b[..b.len() - end])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table as the textbook fills it.
    fn by_the_table(a: &[char], b: &[char]) -> usize {
        let mut above: Vec<usize> = (0..=b.len()).collect();
        for (i, x) in a.iter().enumerate() {
            let mut row = vec![i + 1];
            for (j, y) in b.iter().enumerate() {
                let exchanged = above[j] + usize::from(x != y);
                row.push(exchanged.min(above[j + 1] + 1).min(row[j] + 1));
            }
            above = row;
        }
        above[b.len()]
    }

    fn letters(text: &str) -> Vec<char> {
        text.chars().collect()
    }

    #[test]
    fn it_is_what_the_table_says() {
        for (a, b, hoped) in [
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("same", "same", 0),
            ("中文", "中国文", 1),
        ] {
            assert_eq!(levenshtein(&letters(a), &letters(b)), hoped, "{a} {b}");
        }
        let mut state = 1u64;
        let mut random = |below: usize| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) as usize % below
        };
        for round in 0..400 {
            let alphabet = ['a', 'b', 'é', '中'];
            let kinds = 1 + round % 4;
            let length = [random(20), random(70), random(140), random(300)][round % 4];
            let a: Vec<char> = (0..length).map(|_| alphabet[random(kinds)]).collect();
            let mut b = a.clone();
            for _ in 0..random(30) {
                let at = random(b.len() + 1);
                match random(3) {
                    0 => b.insert(at, alphabet[random(kinds)]),
                    1 if at < b.len() => drop(b.remove(at)),
                    _ => b.truncate(b.len().max(1) - usize::from(at == 0)),
                }
            }
            assert_eq!(levenshtein(&a, &b), by_the_table(&a, &b), "{a:?} {b:?}");
            assert_eq!(levenshtein(&b, &a), by_the_table(&a, &b), "{a:?} {b:?}");
        }
    }
}
