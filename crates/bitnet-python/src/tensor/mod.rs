//! `bitnet_rust.Tensor`: the tensor of bitnet-core, with the manners of a NumPy array.

mod autograd;
mod create;
mod dlpack;
mod elementwise;
mod export;
mod import;
mod index;
mod linear;
mod operand;
mod operators;
mod recorded;
mod reduce;
mod ternary;
mod view;

pub(crate) use self::autograd::set_recording;
pub(crate) use self::recorded::record;

use std::borrow::Cow;
use std::sync::Arc;

use bitnet_core::tensor::{Scalar, with_threads};
use bitnet_core::{DType, Device, ThreadPool};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyList, PyTuple};

use self::recorded::Recorded;
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
///
/// With requires_grad, which f32 alone can have, operations on the tensor note how gradients flow, and backward() of what
/// they end in adds to its grad. An operation that has no gradient raises GradientError then; detach() gives a tensor
/// without, and within no_grad() nothing is noted.
#[pyclass(frozen, subclass, module = "bitnet_rust")]
#[derive(Clone)]
pub(crate) struct Tensor(Kind);

#[derive(Clone)]
enum Kind {
    Plain(bitnet_core::Tensor),
    Recorded(Recorded),
}

impl From<bitnet_core::Tensor> for Tensor {
    fn from(tensor: bitnet_core::Tensor) -> Self {
        Self(Kind::Plain(tensor))
    }
}

/// Runs an operation on about `work` elements without the GIL, on threads where there are many.
fn compute(
    py: Python<'_>,
    work: usize,
    operation: impl FnOnce() -> bitnet_core::Result<bitnet_core::Tensor> + Send,
) -> Result<Tensor, Failure> {
    Ok(on_threads(py, work, operation)?.into())
}

/// The same of any result.
pub(crate) fn on_threads<T: Send, E: From<bitnet_core::Error> + Send>(
    py: Python<'_>,
    work: usize,
    operation: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    py.detach(|| {
        if work < MANY {
            return operation();
        }
        with_threads(&Arc::new(ThreadPool::new(ThreadPool::default_threads())?), operation)
    })
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
    /// What it holds now.
    pub(crate) fn value(&self) -> Cow<'_, bitnet_core::Tensor> {
        match &self.0 {
            Kind::Plain(value) => Cow::Borrowed(value),
            Kind::Recorded(recorded) => Cow::Owned(recorded.variable.value()),
        }
    }

    /// A tensor's elements where they are, or those of an array or lists in memory of their own.
    pub(crate) fn elements_of(object: &Bound<'_, PyAny>) -> Result<bitnet_core::Tensor, Failure> {
        match object.cast::<Self>() {
            Ok(tensor) => Ok(tensor.get().constant("a copy of its elements")?.into_owned()),
            Err(_) => import::copied(object, None),
        }
    }

    fn converted(&self, py: Python<'_>, dtype: DType) -> Result<Self, Failure> {
        if self.requires_grad() && dtype == DType::F32 {
            return Ok(self.clone());
        }
        let x = self.constant("a conversion")?;
        if x.dtype() == DType::Ternary || dtype == DType::Ternary {
            return Ok(py.detach(|| ternary::converted(&x, dtype))?.into());
        }
        compute(py, x.len(), || x.to_dtype(dtype))
    }

    /// In a type that NumPy has too, the same numbers, without the notes.
    fn visible(&self) -> Result<Self, Failure> {
        let value = self.value();
        match value.dtype() {
            DType::BF16 => Ok(value.to_dtype(DType::F32)?.into()),
            DType::Ternary => Ok(ternary::converted(&value, DType::I8)?.into()),
            _ => Ok(value.into_owned().into()),
        }
    }

    fn item_scalar(&self) -> Result<Scalar, Failure> {
        Ok(self.value().item()?)
    }
}

#[pymethods]
impl Tensor {
    #[new]
    #[pyo3(signature = (data, dtype = None, *, requires_grad = false))]
    fn new(
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        dtype: Option<&Bound<'_, PyAny>>,
        requires_grad: bool,
    ) -> Result<Self, Failure> {
        let dtype = dtype.map(self::dtype).transpose()?;
        let tensor = match data.cast::<Self>() {
            Ok(tensor) => tensor.get().clone(),
            Err(_) => import::copied(data, dtype)?.into(),
        };
        let tensor = match dtype {
            Some(dtype) => tensor.converted(py, dtype)?,
            None => tensor,
        };
        if requires_grad { tensor.leaf() } else { Ok(tensor) }
    }

    /// The dimensions, outermost first.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.value().dims())
    }

    /// Elements, not bytes, between neighbours along each dimension.
    #[getter]
    fn strides<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.value().strides())
    }

    /// The type of the elements: "f32", "f16", "bf16", "i8", "u8", "i32", "i64", "bool" or "ternary".
    #[getter]
    fn dtype(&self) -> &'static str {
        self.value().dtype().name()
    }

    /// Where the elements are: "cpu".
    #[getter]
    fn device(&self) -> String {
        self.value().device().to_string()
    }

    /// The number of dimensions.
    #[getter]
    fn ndim(&self) -> usize {
        self.value().rank()
    }

    /// The number of elements.
    #[getter]
    fn size(&self) -> usize {
        self.value().len()
    }

    /// The size of an element in bytes.
    #[getter]
    fn itemsize(&self) -> usize {
        self.value().dtype().size_bytes()
    }

    /// The size of the elements in bytes.
    #[getter]
    fn nbytes(&self) -> usize {
        match self.value().dtype() {
            DType::Ternary => self.value().data().len(),
            dtype => self.value().len() * dtype.size_bytes(),
        }
    }

    /// Whether the elements lie in row-major order without gaps.
    #[getter]
    fn is_contiguous(&self) -> bool {
        self.value().is_contiguous()
    }

    /// The tensor as another type ("f32", "int8", a NumPy type), or on another device ("cpu").
    ///
    /// Floats are rounded to the nearest. A float becomes the integer towards 0, the nearest that the type holds, and
    /// NaN becomes 0; an integer becomes the same one modulo the range. "ternary" packs an i8 matrix of -1, 0 and +1 into
    /// two bits each; such a tensor has no views, and a product with i8: w @ x. Raises DTypeError, QuantizationError.
    fn to(&self, py: Python<'_>, target: &Bound<'_, PyAny>) -> Result<Self, Failure> {
        let name = target.extract::<String>().unwrap_or_default();
        if matches!(name.parse(), Ok(Device::Auto | Device::Cpu)) {
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
        if self.value().rank() == 0 {
            return self.item(py);
        }
        let rows =
            self.visible()?.rows()?.into_iter().map(|row| row.tolist(py)).collect::<Result<Vec<_>, _>>()?;
        Ok(PyList::new(py, rows)?.into_any())
    }

    fn __len__(&self) -> PyResult<usize> {
        let without = || PyTypeError::new_err("len() of a tensor without dimensions");
        self.value().dims().first().copied().ok_or_else(without)
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
        let (value, dtype) = (self.value(), self.dtype());
        let shape = if value.is_empty() { format!(", shape={:?}", value.shape()) } else { String::new() };
        let grad = if self.requires_grad() { ", requires_grad=True" } else { "" };
        Ok(format!("Tensor({elements}{shape}, dtype={dtype}{grad})"))
    }
}

impl Tensor {
    /// The views along the first dimension.
    fn rows(&self) -> Result<Vec<Self>, Failure> {
        let rows = self.value().dims().first().copied().unwrap_or(0);
        (0..rows).map(|row| self.selected(0, row as i64)).collect()
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
