//! Shapes: the dimensions of a tensor, outermost first.

use std::fmt;

use crate::{Error, Result};

/// Dimensions of a tensor, outermost first; an empty list is a scalar.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// The dimensions.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Number of elements.
    ///
    /// Errors: [`Error::ShapeOverflow`] when the product leaves `usize`, as the header of a hostile file may claim.
    pub fn elements(&self) -> Result<usize> {
        self.0
            .iter()
            .try_fold(1_usize, |n, &dim| n.checked_mul(dim))
            .ok_or_else(|| Error::ShapeOverflow(self.clone()))
    }
}

impl<D: Into<Vec<usize>>> From<D> for Shape {
    fn from(dims: D) -> Self {
        Self(dims.into())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_is_the_product_and_one_for_a_scalar() {
        assert_eq!(Shape::from([2, 3, 4]).elements(), Ok(24));
        assert_eq!(Shape::from([]).elements(), Ok(1));
        assert_eq!(Shape::from([5, 0]).elements(), Ok(0));
    }

    #[test]
    fn a_product_beyond_usize_is_an_error() {
        let shape = Shape::from([usize::MAX, 2]);
        assert_eq!(shape.elements(), Err(Error::ShapeOverflow(shape)));
    }
}
