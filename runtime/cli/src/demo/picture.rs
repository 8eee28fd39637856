//! A small image as characters.

use graft::image::{RgbImage, resize};

const SHADES: [char; 5] = [' ', '░', '▒', '▓', '█'];

/// `rows` lines of twice as many characters, darker where the image is brighter.
pub fn lines(image: &RgbImage, rows: usize) -> Vec<String> {
    let small = resize(image, rows, rows);
    let shade = |pixel: &[u8]| {
        let sum: usize = pixel.iter().map(|&v| usize::from(v)).sum();
        SHADES[(sum * SHADES.len() / (3 * 256)).min(SHADES.len() - 1)]
    };
    let pixels = small.pixels().chunks_exact(3).map(shade);
    let pixels: Vec<char> = pixels.collect();
    let line = |row: &[char]| row.iter().flat_map(|&c| [c, c]).collect();
    pixels.chunks_exact(rows).map(line).collect()
}
