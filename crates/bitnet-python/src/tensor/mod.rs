//! `bitnet_rust.Tensor`: the tensor of bitnet-core, with the manners of a NumPy array.

mod create;
mod dlpack;
mod elementwise;
mod export;
mod import;
mod index;
mod linear;
mod operand;
mod operators;
mod reduce;
mod ternary;
mod view;

use std::sync::Arc;

use bitnet_core::tensor::{Scalar, with_threads};
use bitnet_core::{DType, ThreadPool};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyList, PyTuple};

use crate::error::Failure;

/// Elements worth the start of threads. None are kept, so that a process may fork between two calls.
const MANY: usize = 1 << 20;

/// An n-dimensional array of one type: f32, f16, bf16, i8, u8, i32, i64, bool, or packed ternary codes.
///
/// A tensor is immutable and its views share memory. Arithmetic broadcasts and promotes types by the rules of NumPy 2,
/// with f32 as the widest float. numpy.asarray(tensor) and numpy.from_dlpack(tensor) see its memory without a copy.
///
/// data is a tensor, whose memory is shared, or an array or nested lists, which are copied; dtype is a name such as "f32"
/// or "float32", or a NumPy type. Without it, float64 becomes f32 and other types the smallest that holds them. Raises
/// DTypeError.
#[pyclass(frozen, module = "bitnet_rust")]
#[derive(Clone)]
pub(crate) struct Tensor {
    inner: bitnet_core::Tensor,
}

impl From<bitnet_core::Tensor> for Tensor {
    fn from(inner: bitnet_core::Tensor) -> Self {
        Self { inner }
    }
}

/// Runs an operation on about `work` elements without the GIL, on threads where there are many.
fn compute(
    py: Python<'_>,
    work: usize,
    operation: impl FnOnce() -> bitnet_core::Result<bitnet_core::Tensor> + Send,
) -> Result<Tensor, Failure> {
    let computed = py.detach(|| {
        if work < MANY {
            return operation();
        }
        with_threads(&Arc::new(ThreadPool::new(ThreadPool::default_threads())?), operation)
    });
    Ok(computed?.into())
}

/// A type by its name, or by anything NumPy takes for one.
fn dtype(object: &Bound<'_, PyAny>) -> Result<DType, Failure> {
    if let Ok(name) = object.extract::<String>() {
        return Ok(name.parse()?);
    }
    let name: String =
        object.py().import("numpy")?.call_method1("dtype", (object,))?.getattr("name")?.extract()?;
    Ok(name.parse()?)
}

impl Tensor {
    fn compute(
        &self,
        py: Python<'_>,
        operation: impl FnOnce(&bitnet_core::Tensor) -> bitnet_core::Result<bitnet_core::Tensor> + Send,
    ) -> Result<Self, Failure> {
        compute(py, self.inner.len(), || operation(&self.inner))
    }

    fn converted(&self, py: Python<'_>, dtype: DType) -> Result<Self, Failure> {
        if self.inner.dtype() == DType::Ternary || dtype == DType::Ternary {
            return Ok(py.detach(|| ternary::converted(&self.inner, dtype))?.into());
        }
        self.compute(py, |x| x.to_dtype(dtype))
    }

    /// In a type that NumPy has too, the same numbers.
    fn visible(&self) -> Result<Self, Failure> {
        match self.inner.dtype() {
            DType::BF16 => Ok(self.inner.to_dtype(DType::F32)?.into()),
            DType::Ternary => Ok(ternary::converted(&self.inner, DType::I8)?.into()),
            _ => Ok(self.clone()),
        }
    }

    fn item_scalar(&self) -> Result<Scalar, Failure> {
        Ok(self.inner.item()?)
    }
}

#[pymethods]
impl Tensor {
    #[new]
    #[pyo3(signature = (data, dtype = None))]
    fn new(
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        dtype: Option<&Bound<'_, PyAny>>,
    ) -> Result<Self, Failure> {
        let dtype = dtype.map(self::dtype).transpose()?;
        let tensor = if let Ok(tensor) = data.cast::<Self>() {
            tensor.get().clone()
        } else {
            import::copied(data, dtype)?
        };
        match dtype {
            Some(dtype) => tensor.converted(py, dtype),
            None => Ok(tensor),
        }
    }

    /// The dimensions, outermost first.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.inner.dims())
    }

    /// Elements, not bytes, between neighbours along each dimension.
    #[getter]
    fn strides<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.inner.strides())
    }

    /// The type of the elements: "f32", "f16", "bf16", "i8", "u8", "i32", "i64", "bool" or "ternary".
    #[getter]
    fn dtype(&self) -> &'static str {
        self.inner.dtype().name()
    }

    /// Where the elements are: "cpu".
    #[getter]
    fn device(&self) -> String {
        self.inner.device().to_string()
    }

    /// The number of dimensions.
    #[getter]
    fn ndim(&self) -> usize {
        self.inner.rank()
    }

    /// The number of elements.
    #[getter]
    fn size(&self) -> usize {
        self.inner.len()
    }

    /// The size of an element in bytes.
    #[getter]
    fn itemsize(&self) -> usize {
        self.inner.dtype().size_bytes()
    }

    /// The size of the elements in bytes.
    #[getter]
    fn nbytes(&self) -> usize {
        match self.inner.dtype() {
            DType::Ternary => self.inner.data().len(),
            dtype => self.inner.len() * dtype.size_bytes(),
        }
    }

    /// Whether the elements lie in row-major order without gaps.
    #[getter]
    fn is_contiguous(&self) -> bool {
        self.inner.is_contiguous()
    }

    /// The tensor as another type ("f32", "int8", a NumPy type), or on another device ("cpu").
    ///
    /// Floats are rounded to the nearest. A float becomes the integer towards 0, the nearest that the type holds, and
    /// NaN becomes 0; an integer becomes the same one modulo the range. "ternary" packs an i8 matrix of -1, 0 and +1 into
    /// two bits each; such a tensor has no views, and a product with i8: w @ x. Raises DTypeError, QuantizationError.
    fn to(&self, py: Python<'_>, target: &Bound<'_, PyAny>) -> Result<Self, Failure> {
        let name = target.extract::<String>().unwrap_or_default();
        if name.parse::<bitnet_core::Device>().is_ok() {
            return Ok(self.clone());
        }
        let dtype = dtype(target)?;
        self.converted(py, dtype)
    }

    /// The only element, as a Python number. Raises ShapeError.
    fn item<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>, Failure> {
        Ok(match self.item_scalar()? {
            Scalar::Bool(value) => PyBool::new(py, value).to_owned().into_any(),
            Scalar::Int(value) => PyInt::new(py, value).into_any(),
            Scalar::Float(value) => PyFloat::new(py, value).into_any(),
        })
    }

    /// The elements as nested lists of Python numbers.
    fn tolist<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>, Failure> {
        if self.inner.rank() == 0 {
            return self.item(py);
        }
        let rows =
            self.visible()?.rows()?.into_iter().map(|row| row.tolist(py)).collect::<Result<Vec<_>, _>>()?;
        Ok(PyList::new(py, rows)?.into_any())
    }

    fn __len__(&self) -> PyResult<usize> {
        let without = || PyTypeError::new_err("len() of a tensor without dimensions");
        self.inner.dims().first().copied().ok_or_else(without)
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>, Failure> {
        self.__len__().map_err(|_| PyTypeError::new_err("a tensor without dimensions has no rows"))?;
        Ok(PyList::new(py, self.rows()?)?.try_iter()?.into_any())
    }

    fn __bool__(&self) -> Result<bool, Failure> {
        Ok(self.item_scalar()?.to_f64() != 0.0)
    }

    fn __float__(&self) -> Result<f64, Failure> {
        Ok(self.item_scalar()?.to_f64())
    }

    fn __int__<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>, Failure> {
        Ok(py.import("builtins")?.call_method1("int", (self.item(py)?,))?)
    }

    fn __index__(&self) -> Result<i64, Failure> {
        match self.item_scalar()? {
            Scalar::Int(value) => Ok(value),
            _ => Err(PyTypeError::new_err("only a tensor of one integer is an index").into()),
        }
    }

    fn __str__(&self, py: Python<'_>) -> Result<String, Failure> {
        self.printed(py, "", " ")
    }

    fn __repr__(&self, py: Python<'_>) -> Result<String, Failure> {
        let elements = self.printed(py, "Tensor(", ", ")?;
        if self.inner.is_empty() {
            return Ok(format!("Tensor({elements}, shape={:?}, dtype={})", self.inner.shape(), self.dtype()));
        }
        Ok(format!("Tensor({elements}, dtype={})", self.dtype()))
    }
}

impl Tensor {
    /// The views along the first dimension.
    fn rows(&self) -> Result<Vec<Self>, Failure> {
        let rows = self.inner.dims().first().copied().unwrap_or(0);
        Ok((0..rows).map(|row| self.inner.select(0, row as i64).map(Self::from)).collect::<Result<_, _>>()?)
    }

    /// As NumPy prints arrays, by its print options.
    fn printed(&self, py: Python<'_>, prefix: &str, separator: &str) -> Result<String, Failure> {
        let kwargs = pyo3::types::PyDict::new(py);
        kwargs.set_item("prefix", prefix)?;
        kwargs.set_item("separator", separator)?;
        let array = export::as_array(&Bound::new(py, self.visible()?)?)?;
        Ok(py.import("numpy")?.call_method("array2string", (array,), Some(&kwargs))?.extract()?)
    }
}
