//! How far two arrays are apart.

/// Largest difference relative to the largest magnitude; NaN if anything is.
pub fn relative_error(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let size = want.iter().fold(0f32, |m, v| m.max(v.abs()));
    let differences = got.iter().zip(want).map(|(g, w)| (g - w).abs());
    differences.fold(0f32, |m, d| if d > m || d.is_nan() { d } else { m }) / size
}
