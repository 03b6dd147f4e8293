//! Tensors as text.

use std::fmt;

use crate::Tensor;

use super::Scalar;

/// Elements shown at both ends of a long dimension.
const ENDS: usize = 3;
/// Elements of a tensor that is shown whole.
const WHOLE: usize = 1000;

/// `[[1.5, 2], [3, 4]]`; of many elements the first and last three along each dimension.
impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.nested(f, self.len() > WHOLE)
    }
}

impl Tensor {
    fn nested(&self, f: &mut fmt::Formatter<'_>, is_cut: bool) -> fmt::Result {
        let Some(&len) = self.dims().first() else {
            return fmt::Display::fmt(&self.item().map_err(|_| fmt::Error)?, f);
        };
        f.write_str("[")?;
        let skipped = if is_cut && len > 2 * ENDS { ENDS..len - ENDS } else { 0..0 };
        for at in (0..skipped.start).chain(skipped.end..len) {
            if at > 0 {
                f.write_str(", ")?;
            }
            if at > 0 && at == skipped.end {
                f.write_str("..., ")?;
            }
            self.select(0, at as i64).map_err(|_| fmt::Error)?.nested(f, is_cut)?;
        }
        f.write_str("]")
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            // Every float there is was float32 or narrower.
            Self::Float(value) => (*value as f32).fmt(f),
        }
    }
}
