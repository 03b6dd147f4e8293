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

    /// The shape that `dims` means for `elements` elements, where one of them may be -1: as many as are left.
    ///
    /// Errors: [`Error::Inferred`] when one is below -1, two are -1, or none fits.
    pub fn inferred(dims: &[isize], elements: usize) -> Result<Self> {
        let error = || Error::Inferred { dims: dims.to_vec(), elements };
        let given = dims
            .iter()
            .filter(|dim| **dim != -1)
            .try_fold(1_usize, |product, &dim| product.checked_mul(usize::try_from(dim).ok()?));
        let left = match (given, dims.len() - dims.iter().filter(|dim| **dim != -1).count()) {
            (Some(given), 0) if given == elements => 0,
            (Some(given), 1) if given > 0 && elements.is_multiple_of(given) => elements / given,
            _ => return Err(error()),
        };
        Ok(Self(dims.iter().map(|&dim| usize::try_from(dim).unwrap_or(left)).collect()))
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
    fn one_dimension_is_inferred() {
        assert_eq!(Shape::inferred(&[2, -1, 3], 24), Ok(Shape::from([2, 4, 3])));
        assert_eq!(Shape::inferred(&[-1], 0), Ok(Shape::from([0])));
        assert_eq!(Shape::inferred(&[], 1), Ok(Shape::from([])));
        for dims in [&[5, -1][..], &[-1, -1], &[-2, 12], &[23], &[0, -1], &[isize::MAX, isize::MAX]] {
            assert!(matches!(Shape::inferred(dims, 24), Err(Error::Inferred { .. })), "{dims:?}");
        }
    }

    #[test]
    fn a_product_beyond_usize_is_an_error() {
        let shape = Shape::from([usize::MAX, 2]);
        assert_eq!(shape.elements(), Err(Error::ShapeOverflow(shape)));
    }
}
