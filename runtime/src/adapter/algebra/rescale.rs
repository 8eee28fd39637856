//! Adapters under another name and at another strength.

use crate::adapter::{Adapter, AdapterError};

impl Adapter {
    /// The adapter under another name. What it computes, and its [`Adapter::generation`], stay.
    ///
    /// # Errors
    /// If the name is empty or holds control characters.
    pub fn renamed(mut self, name: impl Into<String>) -> Result<Self, AdapterError> {
        let name = name.into();
        if name.trim().is_empty() || name.chars().any(char::is_control) {
            return Err(AdapterError::Name { name });
        }
        self.name = name;
        Ok(self)
    }

    /// The adapter with everything it adds multiplied by `factor`. The size of the factor goes into
    /// alpha where a file has one, so that values keep their digits; its sign goes into B.
    ///
    /// # Errors
    /// If the factor is 0 or not finite, or makes a scale that f32 does not hold.
    pub fn scaled(mut self, factor: f32) -> Result<Self, AdapterError> {
        if !factor.is_finite() || factor == 0.0 {
            return Err(AdapterError::Factor { factor });
        }
        let size = factor.abs();
        let stated = self.alpha;
        // An alpha of 0 means a scale of 1, and must not come about by rounding.
        if (stated * size).is_normal() {
            self.alpha = stated * size;
        }
        let alpha = self.alpha;
        for (_, pair) in self.iter_mut() {
            let rank = pair.rank() as f32;
            // As a file says it, to the last bit.
            pair.scale = match pair.scale == stated / rank && alpha != stated {
                true => alpha / rank,
                false => pair.scale * size,
            };
            if !pair.scale.is_normal() {
                return Err(AdapterError::Factor { factor });
            }
            if factor < 0.0 {
                pair.b.iter_mut().for_each(|b| *b = -*b);
            }
        }
        Ok(self)
    }
}
