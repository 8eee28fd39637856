//! Rotary settings: the base of the frequencies and how longer contexts are reached.
//!
//! Older files have `rope_theta` and `rope_scaling`, newer ones `rope_parameters` with both.
//! LLaMA 3 divides each frequency by its own factor (1 for the fast, `factor` for the slow, a blend
//! between); GGUF stores the divisors as the tensor `rope_freqs.weight`.

use super::ConvertHfError;
use super::folder::Keys;

/// Rotary settings as GGUF has them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rope {
    pub(super) base: f32,
    /// Positions are divided by this; 1 for none.
    pub(super) scale: f32,
    /// Divisors of the frequencies, `[head width / 2]`.
    pub(super) factors: Option<Vec<f32>>,
}

impl Rope {
    /// Reads the settings of a model whose heads are `width` wide.
    pub(super) fn read(keys: &Keys, width: usize) -> Result<Self, ConvertHfError> {
        let newer = keys.object("rope_parameters")?;
        let scaling = match &newer {
            Some(_) => newer.clone(),
            None => keys.object("rope_scaling")?,
        };
        let base = match newer.map(|n| n.float("rope_theta")).transpose()?.flatten() {
            Some(base) => base,
            None => keys.float("rope_theta")?.unwrap_or(1e4),
        };
        if !(1.0..=1e12).contains(&base) || base == 1.0 {
            return Err(keys.unsupported("rope_theta", ""));
        }
        let mut rope = Self {
            base: base as f32,
            scale: 1.0,
            factors: None,
        };
        let Some(scaling) = scaling else {
            return Ok(rope);
        };
        let key = match scaling.get("rope_type") {
            Some(_) => "rope_type",
            None => "type",
        };
        let positive = |key: &str| -> Result<f64, ConvertHfError> {
            match scaling.float(key)? {
                Some(value) if value > 0.0 => Ok(value),
                _ => Err(scaling.unsupported(key, "; a positive number is needed")),
            }
        };
        match scaling.str(key)?.as_deref() {
            // Without a factor, no name means nothing is scaled.
            None if scaling.get("factor").is_some() => {
                return Err(scaling.unsupported("factor", "; it does not say which scaling"));
            }
            None | Some("default") => {}
            Some("linear") => rope.scale = positive("factor")? as f32,
            Some("llama3") => {
                let (low, high) = (positive("low_freq_factor")?, positive("high_freq_factor")?);
                let trained = positive("original_max_position_embeddings")?;
                if high <= low {
                    let hint = "; it must be above low_freq_factor";
                    return Err(scaling.unsupported("high_freq_factor", hint));
                }
                let factors = llama3(base, width, positive("factor")?, low, high, trained);
                if !factors.iter().all(|f| f.is_finite() && *f > 0.0) {
                    return Err(scaling.unsupported("factor", ""));
                }
                rope.factors = Some(factors);
            }
            Some(_) => return Err(scaling.unsupported(key, " (default, linear and llama3 are)")),
        }
        Ok(rope)
    }
}

/// LLaMA 3's divisors, fastest frequency first.
fn llama3(base: f64, width: usize, factor: f64, low: f64, high: f64, trained: f64) -> Vec<f32> {
    let divisor = |i: usize| {
        let frequency = base.powf(-(2.0 * i as f64) / width as f64);
        let wave = std::f64::consts::TAU / frequency;
        if wave < trained / high {
            1.0
        } else if wave > trained / low {
            factor
        } else {
            let smooth = (trained / wave - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    (0..width / 2).map(|i| divisor(i) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::llama3;

    #[test]
    fn fast_frequencies_stay_slow_ones_are_divided_and_those_between_are_blended() {
        // Llama 3.1's settings: six of its 64 frequencies lie between.
        let factors = llama3(5e5, 128, 8.0, 1.0, 4.0, 8192.0);
        assert_eq!(factors.len(), 64);
        assert!(factors.is_sorted());
        assert_eq!(factors.iter().filter(|&&f| f == 1.0).count(), 29);
        assert_eq!(factors.iter().filter(|&&f| f == 8.0).count(), 29);
        assert_eq!((factors[28], factors[35]), (1.0, 8.0));
    }
}
