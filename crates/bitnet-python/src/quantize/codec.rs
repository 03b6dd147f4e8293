//! Ternary matrices to and from the bytes of checkpoint formats.

use bitnet_core::Buffer;
use bitnet_quant::Codec;
use numpy::PyArrayDyn;
use pyo3::prelude::*;

use super::{TernaryMatrix, options, pool};
use crate::array::{Elements, to_numpy};
use crate::error::{Failure, exception};

/// Names of the formats that pack() and unpack() know.
pub(crate) fn formats() -> Vec<&'static str> {
    Codec::ALL.map(Codec::name).to_vec()
}

/// The bytes of a ternary matrix in a format: uint8 [packed_size(matrix.shape, format)], for "bitmap" at most that.
///
/// "hf", "base3" and "bitmap" hold no scale; "tq1_0", "tq2_0", "q2_0" and "iq1_bn" round scales to float16. Raises
/// OptionError for an unknown format, ShapeError for columns that do not divide into its blocks, QuantizationError for
/// scales that it cannot hold. Sources: see bitnet_quant::codec.
#[pyfunction]
pub(crate) fn pack<'py>(
    py: Python<'py>,
    matrix: &TernaryMatrix,
    format: &str,
) -> Result<Bound<'py, PyArrayDyn<u8>>, Failure> {
    let codec: Codec = format.parse()?;
    let packed = py.detach(|| {
        let pool = pool(matrix.inner.rows() * matrix.inner.cols())?;
        Ok::<_, Failure>(codec.encode(&pool, &matrix.inner)?)
    })?;
    let len = packed.len();
    Ok(to_numpy(py, packed, &[len])?)
}

/// The ternary matrix of shape (rows, cols) that uint8 data holds in a format.
///
/// scale is needed where the format holds none, and refused where it does: a number, an array [rows], or [rows, groups]
/// with the columns of a group in group. Raises OptionError, ShapeError for data of another length, and
/// QuantizationError for the first code that is not ternary.
#[pyfunction]
#[pyo3(signature = (data, shape, format, *, scale = None, group = None))]
pub(crate) fn unpack(
    py: Python<'_>,
    data: &Bound<'_, PyAny>,
    shape: (usize, usize),
    format: &str,
    scale: Option<&Bound<'_, PyAny>>,
    group: Option<usize>,
) -> Result<TernaryMatrix, Failure> {
    let codec: Codec = format.parse()?;
    let ((rows, cols), data) = (shape, Elements::unsigned_bytes("data", data)?);
    let scales = match (scale, codec.stores_scales()) {
        (Some(scale), false) => Some(options::scales(scale, cols, group)?),
        (None, true) => None,
        (None, false) => {
            return Err(exception("OptionError", &format!("{codec} holds no scale: give scale=")).into());
        }
        (Some(_), true) => {
            return Err(
                exception("OptionError", &format!("{codec} holds its scales: leave scale out")).into()
            );
        }
    };
    let data = Buffer::from(data.values()?.to_vec());
    let inner = py.detach(|| {
        let matrix = codec.decode(&pool(rows.saturating_mul(cols))?, rows, cols, &data)?;
        match scales {
            Some(scales) => Ok::<_, Failure>(matrix.with_scales(scales)?),
            None => Ok(matrix),
        }
    })?;
    Ok(TernaryMatrix { inner })
}

/// Bytes of a matrix of shape (rows, cols) in a format; for "bitmap" those of one without zeros.
///
/// Raises OptionError for an unknown format, ShapeError for columns that do not divide into its blocks.
#[pyfunction]
pub(crate) fn packed_size(shape: (usize, usize), format: &str) -> Result<usize, Failure> {
    Ok(format.parse::<Codec>()?.byte_len(shape.0, shape.1)?)
}
