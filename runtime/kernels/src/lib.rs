//! The arithmetic: pure functions on slices, with no allocation, threads or I/O, and no state but
//! what is known of the processor.
//!
//! `blocks/<type>.rs` says what a format's bytes mean; `ops/<op>.rs` says what an
//! operator computes, forward and backward; both are the reference. `<isa>/<name>.rs`
//! is one instruction set's faster version of the same thing; `vector/` and `tiled/` hold the
//! f32 operators that run, written once for all instruction sets.
//! [`Kernels::detect`] picks a table once; everything above calls the table.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod blocks;
mod few_queries;
mod halves;
pub mod low_rank;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
pub mod ops;
mod panel;
pub mod product;
mod product_thin;
mod quant_type;
pub mod rounded;
pub mod tiled;
mod vector;
pub mod words;

pub use quant_type::QuantType;

use std::sync::OnceLock;

/// Instruction sets this crate has kernels for; of one architecture, slowest first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Isa {
    /// Portable Rust; the reference the others are tested against.
    Portable,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL, and all of the above.
    Avx512,
    /// aarch64 with NEON.
    Neon,
}

/// The kernels of one instruction set, as a table of functions.
#[derive(Debug)]
pub struct Kernels {
    /// What `GRAFT_CPU` chooses it by.
    pub name: &'static str,
    /// The instruction set that products with floats were compiled for.
    pub isa: Isa,
    decode: unsafe fn(QuantType, &[u8], &mut [f32]),
    product_thin: product_thin::ProductThin,
    /// None: this table multiplies floats only.
    rounded: Option<&'static rounded::RoundedKernels>,
    /// None: this table multiplies no words.
    words: Option<&'static words::WordKernels>,
    /// Whether the processor multiplies pairs of BF16.
    halves: bool,
}

impl Kernels {
    /// The most tokens [`Kernels::product_thin`] takes.
    pub const THIN_TOKENS: usize = 8;

    /// The fastest table this processor can run, or the one that the environment
    /// variable `GRAFT_CPU` names if the processor can run it. Decided once.
    pub fn detect() -> &'static Self {
        static CHOICE: OnceLock<&Kernels> = OnceLock::new();
        CHOICE.get_or_init(|| {
            Self::asked_for()
                .and_then(|name| Self::named(&name))
                .or(Self::available().last())
                .expect("portable is always available")
        })
    }

    /// What `GRAFT_CPU` asks for, if it is set. A name that [`Kernels::named`] does not know is not obeyed.
    pub fn asked_for() -> Option<String> {
        std::env::var("GRAFT_CPU").ok()
    }

    /// The table of this name (see [`Kernels::name`]), if this processor can run it.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::available().find(|table| table.name == name)
    }

    /// Every table this processor can run, slowest first; tests walk all of them.
    pub fn available() -> impl DoubleEndedIterator<Item = &'static Self> {
        [
            Self::portable(),
            Self::avx2(),
            Self::avx_vnni(),
            Self::avx512(),
            Self::avx512_vnni(),
            Self::avx512_bf16(),
            Self::neon(),
            Self::neon_dotprod(),
            Self::neon_i8mm(),
        ]
        .into_iter()
        .flatten()
    }

    /// Decodes `out.len()` weights stored as `ty`; the same bits on every table.
    ///
    /// # Panics
    /// If `out` does not hold whole blocks, or `bytes` is not exactly as long as they are.
    #[allow(unsafe_code)] // a call through the table
    pub fn decode(&self, ty: QuantType, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(
            ty.row_bytes(out.len()),
            Some(bytes.len()),
            "{ty}: {} weights need whole blocks and all their bytes",
            out.len()
        );
        // SAFETY: a table leaves this module only after its instruction set was
        // detected (`available`), which is the entry's only requirement.
        unsafe { (self.decode)(ty, bytes, out) }
    }

    /// The product of a stored matrix `w` `[rows, inputs]` with 1 to
    /// [`Kernels::THIN_TOKENS`] tokens `x` `[T, inputs]`:
    /// `y[t * y_stride + r] = sum_i w[r, i] * x[t, i]`. Reads each byte of `w` once.
    ///
    /// The sum's order, and so its last bits, depends on the table and on whether T is 1,
    /// but not on which rows are computed together.
    ///
    /// # Panics
    /// If a length contradicts another: `w` and `x` must hold whole rows, and `y` a place
    /// for every row of every token.
    #[allow(unsafe_code)] // a call through the table
    pub fn product_thin(
        &self,
        y: &mut [f32],
        y_stride: usize,
        x: &[f32],
        inputs: usize,
        ty: QuantType,
        w: &[u8],
    ) {
        let row_bytes = ty.row_bytes(inputs).filter(|&bytes| bytes > 0);
        let row_bytes = row_bytes.expect("a row is one or more whole blocks");
        let (tokens, rows) = (x.len() / inputs, w.len() / row_bytes);
        assert_eq!(x.len(), tokens * inputs, "x holds whole tokens");
        assert_eq!(w.len(), rows * row_bytes, "w holds whole rows");
        assert!((1..=Self::THIN_TOKENS).contains(&tokens), "{tokens} tokens");
        assert!(tokens == 1 || y_stride >= rows, "tokens overlap in y");
        assert!(
            y.len() >= (tokens - 1) * y_stride + rows,
            "y has a place for every row of every token"
        );
        // SAFETY: as in `decode`.
        unsafe { (self.product_thin)(y, y_stride, x, inputs, ty, w) }
    }

    fn portable() -> Option<&'static Self> {
        static TABLE: Kernels = Kernels {
            name: "portable",
            isa: Isa::Portable,
            decode: blocks::decode,
            product_thin: product_thin::product_thin,
            rounded: None,
            words: None,
            halves: false,
        };
        Some(&TABLE)
    }

    fn avx2() -> Option<&'static Self> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            static TABLE: Kernels = Kernels {
                name: "avx2",
                isa: Isa::Avx2,
                decode: avx2::decode,
                product_thin: avx2::product_thin,
                rounded: Some(&avx2::rounded::KERNELS),
                words: Some(&avx2::words::KERNELS),
                halves: false,
            };
            // No kernel that asks runs before a table was handed out here.
            avx2::prefetch::learn();
            return Some(&TABLE);
        }
        None
    }

    fn avx_vnni() -> Option<&'static Self> {
        #[cfg(target_arch = "x86_64")]
        if Self::avx2().is_some() && is_x86_feature_detected!("avxvnni") {
            static TABLE: Kernels = Kernels {
                name: "avxvnni",
                isa: Isa::Avx2,
                decode: avx2::decode,
                product_thin: avx2::product_thin,
                rounded: Some(&avx2::vnni::KERNELS),
                words: Some(&avx2::words::VNNI_KERNELS),
                halves: false,
            };
            return Some(&TABLE);
        }
        None
    }

    fn avx512() -> Option<&'static Self> {
        #[cfg(target_arch = "x86_64")]
        if Self::avx2().is_some()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            static TABLE: Kernels = Kernels {
                name: "avx512",
                isa: Isa::Avx512,
                decode: avx512::decode,
                product_thin: avx512::product_thin,
                // Wider vectors of bytes pay with VNNI.
                rounded: Some(&avx2::rounded::KERNELS),
                words: None,
                halves: false,
            };
            return Some(&TABLE);
        }
        None
    }

    fn avx512_vnni() -> Option<&'static Self> {
        #[cfg(target_arch = "x86_64")]
        if Self::avx512().is_some() && is_x86_feature_detected!("avx512vnni") {
            static TABLE: Kernels = Kernels {
                name: "avx512vnni",
                isa: Isa::Avx512,
                decode: avx512::decode,
                product_thin: avx512::product_thin,
                rounded: Some(&avx512::vnni::KERNELS),
                words: Some(&avx512::words::KERNELS),
                halves: false,
            };
            return Some(&TABLE);
        }
        None
    }

    fn avx512_bf16() -> Option<&'static Self> {
        #[cfg(target_arch = "x86_64")]
        if Self::avx512_vnni().is_some() && is_x86_feature_detected!("avx512bf16") {
            static TABLE: Kernels = Kernels {
                name: "avx512bf16",
                isa: Isa::Avx512,
                decode: avx512::decode,
                product_thin: avx512::product_thin,
                rounded: Some(&avx512::vnni::KERNELS),
                words: Some(&avx512::words::KERNELS),
                halves: true,
            };
            return Some(&TABLE);
        }
        None
    }

    fn neon() -> Option<&'static Self> {
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        if std::arch::is_aarch64_feature_detected!("neon") {
            static TABLE: Kernels = Kernels {
                name: "neon",
                isa: Isa::Neon,
                decode: neon::decode,
                product_thin: neon::product_thin,
                rounded: Some(&neon::rounded::KERNELS),
                words: None,
                halves: false,
            };
            return Some(&TABLE);
        }
        None
    }

    fn neon_dotprod() -> Option<&'static Self> {
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        if Self::neon().is_some() && std::arch::is_aarch64_feature_detected!("dotprod") {
            static TABLE: Kernels = Kernels {
                name: "neondotprod",
                isa: Isa::Neon,
                decode: neon::decode,
                product_thin: neon::product_thin,
                rounded: Some(&neon::dotprod::KERNELS),
                words: None,
                halves: false,
            };
            return Some(&TABLE);
        }
        None
    }

    fn neon_i8mm() -> Option<&'static Self> {
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        if Self::neon_dotprod().is_some() && std::arch::is_aarch64_feature_detected!("i8mm") {
            static TABLE: Kernels = Kernels {
                name: "neoni8mm",
                isa: Isa::Neon,
                decode: neon::decode,
                product_thin: neon::product_thin,
                rounded: Some(&neon::i8mm::KERNELS),
                words: None,
                halves: false,
            };
            return Some(&TABLE);
        }
        None
    }
}

#[cfg(test)]
mod tests;
