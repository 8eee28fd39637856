//! In what numbers a product is computed, and which of these ways a device takes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use graft_kernels::QuantType;

use crate::kernels::are_integers;
use crate::{GpuError, Result};

/// How far terms of a product may be rounded before they are multiplied; sums are f32 always.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Rounding {
    /// Not at all.
    None,
    /// Weights to the 11 bits of an f16: what training takes as well, whose losses that does not change by a
    /// thousandth. Inputs keep twice as many.
    #[default]
    Halves,
    /// Inputs to 8 bits, 32 at a time, as the processor's own inference rounds them. Training must not: it wants
    /// gradients of the function that it computes.
    Bytes,
}

/// In what a product is computed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arithmetic {
    /// f32.
    F32,
    /// Weights in f16 and inputs in two of them, times powers of two so that f16 holds them.
    Half,
    /// The same by matrix units. Without them it is slower than f32: [`Arithmetic::Half`] is never taken by
    /// itself, it shows what these compute where there are none.
    Matrix,
    /// Stored integers times inputs of 8 bits, four at a time.
    Dot4,
}

impl Arithmetic {
    /// Every one; f32 first, which all devices have.
    pub const ALL: [Self; 4] = [Self::F32, Self::Half, Self::Matrix, Self::Dot4];

    /// Its name for people, for `GRAFT_GPU_KERNELS` and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Half => "half",
            Self::Matrix => "matrix",
            Self::Dot4 => "dot4",
        }
    }

    /// What a device must have.
    pub(crate) fn needs(self) -> wgpu::Features {
        match self {
            // Where there are no dot products of bytes, they are put together from others.
            Self::F32 | Self::Dot4 => wgpu::Features::empty(),
            Self::Half => wgpu::Features::SHADER_F16,
            Self::Matrix => wgpu::Features::SHADER_F16
                .union(wgpu::Features::SUBGROUP)
                .union(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
        }
    }

    /// How far it rounds.
    pub fn rounding(self) -> Rounding {
        match self {
            Self::F32 => Rounding::None,
            Self::Half | Self::Matrix => Rounding::Halves,
            Self::Dot4 => Rounding::Bytes,
        }
    }

    /// Whether it may be faster than f32.
    pub(crate) fn is_tried(self) -> bool {
        self != Self::Half
    }

    /// Whether there is a kernel for such products with weights of a type.
    pub(crate) fn serves(self, product: Product, ty: QuantType) -> bool {
        match self {
            Self::F32 => true,
            // Of f32 and bf16, weights may be too great for f16, or too small.
            Self::Half | Self::Matrix => {
                product != Product::Thin && !matches!(ty, QuantType::F32 | QuantType::BF16)
            }
            Self::Dot4 => product != Product::Backward && are_integers(ty),
        }
    }
}

/// Kinds of products, for each of which a device has its fastest way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Product {
    /// Of many tokens: [`crate::Recorder::mm_q`].
    Forward,
    /// Its gradient: [`crate::Recorder::mm_q_backward`].
    Backward,
    /// Of a few tokens: [`crate::Recorder::mv_q`].
    Thin,
}

impl Product {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Forward, Self::Backward, Self::Thin];

    /// Its name for people and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Thin => "thin",
        }
    }
}

/// Which ways of computing products a device takes where rounding allows more than one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum KernelChoice {
    /// What `GRAFT_GPU_KERNELS` names: `f32`, `half`, `matrix`, `dot4`, or `tried`. Without it as [`KernelChoice::Tried`],
    /// except that software devices take f32: nothing else is faster there.
    #[default]
    Best,
    /// The fastest of those that a trial found right.
    Tried,
    /// This one, untried, wherever there is a kernel of it, the device has what it needs, and rounding allows
    /// it; f32 elsewhere.
    Only(Arithmetic),
}

impl KernelChoice {
    /// What the environment names, if nothing else was chosen.
    ///
    /// # Errors
    /// If it names something else.
    pub(crate) fn or_named(self) -> Result<Self> {
        match (self, std::env::var("GRAFT_GPU_KERNELS")) {
            (Self::Best, Ok(named)) if !named.is_empty() => named.parse(),
            _ => Ok(self),
        }
    }

    /// What `GRAFT_GPU_KERNELS` may be, for people.
    pub(crate) fn names() -> String {
        let names = Arithmetic::ALL.map(Arithmetic::name);
        format!("{} or tried", names.join(", "))
    }
}

impl FromStr for KernelChoice {
    type Err = GpuError;

    fn from_str(text: &str) -> Result<Self> {
        if text == "tried" {
            return Ok(Self::Tried);
        }
        let named = Arithmetic::ALL.into_iter().find(|a| a.name() == text);
        named
            .map(Self::Only)
            .ok_or_else(|| GpuError::UnknownKernels {
                asked: text.to_owned(),
            })
    }
}

/// What a trial found: how long each product takes each way; nothing where it may not be used.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Trial {
    pub(crate) times: [[Option<Duration>; Arithmetic::ALL.len()]; Product::ALL.len()],
    /// Multiplications and additions of a product of many tokens that was timed.
    pub(crate) flop: u64,
    /// Bytes that went to the system's memory and came back, and how long that took.
    pub(crate) passed: Option<(u64, Duration)>,
}

impl Trial {
    /// Of a device that has nothing but f32.
    pub(crate) fn of_f32() -> Self {
        let mut trial = Self::default();
        for times in &mut trial.times {
            times[Arithmetic::F32 as usize] = Some(Duration::ZERO);
        }
        trial
    }

    /// How long a product took; `None` if it was not right, or not tried.
    pub fn time(&self, product: Product, arithmetic: Arithmetic) -> Option<Duration> {
        self.times[product as usize][arithmetic as usize]
    }

    /// About how long products of many tokens take in which so much is multiplied and added; `None` if none was timed.
    pub fn computing(&self, product: Product, rounding: Rounding, flop: f64) -> Option<Duration> {
        let one = self.time(product, self.fastest(product, rounding))?;
        scaled(one, flop / self.flop as f64)
    }

    /// About how long so many bytes take to the system's memory and back; `None` if that was not timed.
    pub fn passing(&self, bytes: u64) -> Option<Duration> {
        let (passed, time) = self.passed?;
        scaled(time, bytes as f64 / passed as f64)
    }

    /// The fastest way of a product that rounds no further than this.
    pub fn fastest(&self, product: Product, rounding: Rounding) -> Arithmetic {
        self.fastest_of(product, rounding, |_| true)
    }

    fn fastest_of(
        &self,
        product: Product,
        rounding: Rounding,
        serves: impl Fn(Arithmetic) -> bool,
    ) -> Arithmetic {
        let allowed = Arithmetic::ALL.into_iter();
        let allowed = allowed.filter(|&a| a.rounding() <= rounding && serves(a));
        let timed = allowed.filter_map(|a| Some((self.time(product, a)?, a)));
        timed
            .min_by_key(|&(time, _)| time)
            .map_or(Arithmetic::F32, |(_, fastest)| fastest)
    }
}

/// `None` where there is no such time: what was timed comes from a file.
fn scaled(time: Duration, by: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(time.as_secs_f64() * by).ok()
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for product in Product::ALL {
            for arithmetic in Arithmetic::ALL {
                if let Some(time) = self.time(product, arithmetic) {
                    let (product, arithmetic) = (product.name(), arithmetic.name());
                    write!(f, "{between}{product} {arithmetic} {time:.1?}")?;
                    between = ", ";
                }
            }
        }
        Ok(())
    }
}

/// What a device takes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Taken {
    /// One way wherever it may be used, f32 elsewhere.
    Only(Arithmetic),
    /// The fastest.
    Fastest(Box<Trial>),
}

impl Taken {
    /// The way of a product with weights of a type that rounds no further than this.
    pub(crate) fn of(&self, product: Product, ty: QuantType, rounding: Rounding) -> Arithmetic {
        let serves = |a: Arithmetic| a.serves(product, ty);
        match self {
            Self::Only(a) if a.rounding() <= rounding && serves(*a) => *a,
            Self::Only(_) => Arithmetic::F32,
            Self::Fastest(trial) => trial.fastest_of(product, rounding, serves),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_timed_tells_how_long_more_takes() {
        let mut trial = Trial::default();
        let forward = |trial: &Trial, rounding| trial.computing(Product::Forward, rounding, 2e3);
        assert_eq!(forward(&trial, Rounding::None), None);
        assert_eq!(trial.passing(500), None);
        let micros = |n| Some(Duration::from_micros(n));
        trial.times[Product::Forward as usize] = [micros(8), None, micros(2), None];
        assert_eq!(forward(&trial, Rounding::None), None, "of unknown size");
        trial.flop = 1000;
        trial.passed = Some((1000, Duration::from_micros(30)));
        assert_eq!(forward(&trial, Rounding::None), micros(16));
        assert_eq!(forward(&trial, Rounding::Halves), micros(4));
        assert_eq!(trial.passing(500), micros(15));
    }

    #[test]
    fn the_fastest_way_is_taken_where_rounding_and_the_type_allow_it() {
        let mut trial = Trial::default();
        let micros = |n| Some(Duration::from_micros(n));
        trial.times[Product::Forward as usize] = [micros(9), micros(6), None, micros(3)];
        trial.times[Product::Thin as usize] = [micros(3), None, None, micros(9)];
        assert_eq!(
            trial.to_string(),
            "forward f32 9.0µs, forward half 6.0µs, forward dot4 3.0µs, thin f32 3.0µs, thin dot4 9.0µs"
        );
        let taken = Taken::Fastest(Box::new(trial));
        let of = |product, ty, rounding| taken.of(product, ty, rounding).name();
        let (q4, bytes) = (QuantType::Q4K, Rounding::Bytes);
        assert_eq!(of(Product::Forward, q4, bytes), "dot4");
        assert_eq!(of(Product::Forward, q4, Rounding::Halves), "half");
        assert_eq!(of(Product::Forward, q4, Rounding::None), "f32");
        assert_eq!(of(Product::Forward, QuantType::F32, bytes), "f32");
        assert_eq!(of(Product::Forward, QuantType::F16, bytes), "half");
        assert_eq!(of(Product::Thin, q4, bytes), "f32");
        assert_eq!(of(Product::Backward, q4, bytes), "f32");
        for arithmetic in Arithmetic::ALL {
            let named = arithmetic.name().parse();
            assert_eq!(named, Ok(KernelChoice::Only(arithmetic)));
        }
        let refused = "abacus".parse::<KernelChoice>().unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("abacus") && text.contains("f32, half, matrix, dot4 or tried"),
            "{text}"
        );
        // Not even if asked for.
        let only = Taken::Only(Arithmetic::Dot4);
        assert_eq!(only.of(Product::Thin, q4, bytes), Arithmetic::Dot4);
        assert_eq!(
            only.of(Product::Thin, q4, Rounding::Halves),
            Arithmetic::F32
        );
        assert_eq!(only.of(Product::Backward, q4, bytes), Arithmetic::F32);
    }
}
