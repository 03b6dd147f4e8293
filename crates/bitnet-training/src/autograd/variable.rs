//! Handles to tensors, and the notes that lead back from a result to what it was computed of.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitnet_core::{DType, Shape, Tensor};

use crate::{Error, Result};

/// A float32 tensor in a computation that can be differentiated. Clones are the same variable.
#[derive(Debug, Clone)]
pub struct Variable(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    value: Mutex<Tensor>,
    node: Option<Arc<Node>>,
}

/// The place of a variable on the tape. It holds no value: what a gradient needs, its operation has.
pub(super) struct Node {
    /// Inputs have lower numbers than results.
    pub(super) id: u64,
    shape: Shape,
    role: Role,
}

enum Role {
    /// A variable that wants its gradient.
    Leaf(Mutex<Option<Tensor>>),
    /// A result, until its gradients are taken.
    Result(Mutex<Option<Operation>>),
}

/// How the gradients of inputs follow from that of the result.
pub(super) struct Operation {
    /// None for inputs that want no gradient.
    pub(super) inputs: Vec<Option<Arc<Node>>>,
    pub(super) backward: Backward,
}

/// From the gradient of the result to those of the inputs that want one.
type Backward = Box<dyn FnOnce(Tensor) -> Result<Vec<Option<Tensor>>> + Send>;

impl Variable {
    /// A constant: nothing flows back to it.
    ///
    /// Errors: [`bitnet_core::Error::DType`] unless it is float32.
    pub fn constant(value: Tensor) -> Result<Self> {
        Ok(Self::new(float32(value)?, None))
    }

    /// A variable that collects its gradient: a parameter.
    ///
    /// Errors: as [`Self::constant`].
    pub fn leaf(value: Tensor) -> Result<Self> {
        let value = float32(value)?;
        let node = Node::new(value.shape().clone(), Role::Leaf(Mutex::default()));
        Ok(Self::new(value, Some(node)))
    }

    fn new(value: Tensor, node: Option<Arc<Node>>) -> Self {
        Self(Arc::new(Inner { value: Mutex::new(value), node }))
    }

    /// The result of an operation. `backward` gets the gradient of the result and which inputs want theirs.
    pub(super) fn result<const N: usize>(
        value: Tensor,
        inputs: [&Self; N],
        backward: impl FnOnce(Tensor, [bool; N]) -> Result<[Option<Tensor>; N]> + Send + 'static,
    ) -> Self {
        let wanted = inputs.map(Self::wants_gradient);
        Self::result_of(value, &inputs, move |gradient, _| Ok(backward(gradient, wanted)?.into()))
    }

    /// The same with any number of inputs.
    pub(super) fn result_of(
        value: Tensor,
        inputs: &[&Self],
        backward: impl FnOnce(Tensor, &[bool]) -> Result<Vec<Option<Tensor>>> + Send + 'static,
    ) -> Self {
        if !is_recorded(inputs) {
            return Self::new(value, None);
        }
        let wanted: Vec<bool> = inputs.iter().map(|input| input.wants_gradient()).collect();
        let operation = Operation {
            inputs: inputs.iter().map(|input| input.0.node.clone()).collect(),
            backward: Box::new(move |gradient| backward(gradient, &wanted)),
        };
        let role = Role::Result(Mutex::new(Some(operation)));
        let node = Node::new(value.shape().clone(), role);
        Self::new(value, Some(node))
    }

    /// The tensor.
    pub fn value(&self) -> Tensor {
        lock(&self.0.value).clone()
    }

    /// Dimensions.
    pub fn dims(&self) -> Vec<usize> {
        lock(&self.0.value).dims().to_vec()
    }

    /// Replaces the tensor of a leaf or a constant, as an optimizer does.
    ///
    /// Errors: [`Error::Computed`] for a result, [`Error::Shape`], [`bitnet_core::Error::DType`].
    pub fn set_value(&self, value: Tensor) -> Result<()> {
        if matches!(self.node(), Some(Node { role: Role::Result(_), .. })) {
            return Err(Error::Computed);
        }
        let value = float32(value)?;
        let mut here = lock(&self.0.value);
        check_shape("new value", here.shape(), &value)?;
        *here = value;
        Ok(())
    }

    /// Whether a gradient flows back to it.
    pub fn wants_gradient(&self) -> bool {
        self.0.node.is_some()
    }

    /// What a leaf has collected since it was last cleared.
    pub fn gradient(&self) -> Option<Tensor> {
        match &self.node()?.role {
            Role::Leaf(gradient) => lock(gradient).clone(),
            Role::Result(_) => None,
        }
    }

    /// Replaces what a leaf has collected; none to begin anew.
    ///
    /// Errors: [`Error::NoGradient`] for anything but a leaf, [`Error::Shape`].
    pub fn set_gradient(&self, gradient: Option<Tensor>) -> Result<()> {
        let Some(Node { shape, role: Role::Leaf(collected), .. }) = self.node() else {
            return Err(Error::NoGradient);
        };
        if let Some(gradient) = &gradient {
            check_shape("gradient", shape, gradient)?;
        }
        *lock(collected) = gradient;
        Ok(())
    }

    /// Whether the other is a clone of this one.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The same tensor as a constant.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self::new(self.value(), None)
    }

    pub(super) fn shared_node(&self) -> Option<Arc<Node>> {
        self.0.node.clone()
    }

    fn node(&self) -> Option<&Node> {
        self.0.node.as_deref()
    }
}

impl Node {
    fn new(shape: Shape, role: Role) -> Arc<Self> {
        static CREATED: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self { id: CREATED.fetch_add(1, Ordering::Relaxed), shape, role })
    }

    /// Takes a gradient: a leaf adds it to what it has; of a result, this is what computes those of its inputs.
    ///
    /// Errors: [`Error::Spent`].
    pub(super) fn receive(&self, gradient: &Tensor) -> Result<Option<Operation>> {
        debug_assert_eq!(gradient.shape(), &self.shape);
        match &self.role {
            Role::Leaf(collected) => {
                let mut collected = lock(collected);
                *collected = Some(match collected.take() {
                    Some(before) => before.add(gradient)?,
                    None => gradient.clone(),
                });
                Ok(None)
            }
            Role::Result(operation) => lock(operation).take().map(Some).ok_or(Error::Spent),
        }
    }

    fn take_inputs(&mut self) -> Vec<Option<Arc<Self>>> {
        match &mut self.role {
            Role::Leaf(_) => Vec::new(),
            Role::Result(operation) => {
                let operation = operation.get_mut().unwrap_or_else(PoisonError::into_inner);
                operation.take().map_or_else(Vec::new, |operation| operation.inputs)
            }
        }
    }
}

impl Drop for Node {
    /// In a loop: a long computation would overflow the stack.
    fn drop(&mut self) {
        let mut inputs = self.take_inputs();
        while let Some(input) = inputs.pop() {
            if let Some(mut node) = input.and_then(Arc::into_inner) {
                inputs.append(&mut node.take_inputs());
            }
        }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let role = if matches!(self.role, Role::Leaf(_)) { "leaf" } else { "result" };
        write!(f, "{role} {} of shape {}", self.id, self.shape)
    }
}

thread_local! {
    static RECORDS: Cell<bool> = const { Cell::new(true) };
}

/// Runs `work` without notes for gradients: for evaluation.
pub fn no_grad<R>(work: impl FnOnce() -> R) -> R {
    /// Puts back what was before, also when the closure panics.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            RECORDS.set(self.0);
        }
    }
    let _restore = Restore(set_recording(false));
    work()
}

/// Whether operations of this thread are noted from now on; gives what was before. [`no_grad`] puts that back.
pub fn set_recording(records: bool) -> bool {
    RECORDS.replace(records)
}

/// Whether operations of this thread are noted: not within [`no_grad`].
pub fn is_recording() -> bool {
    RECORDS.get()
}

/// Whether an operation on these inputs is noted.
pub(super) fn is_recorded(inputs: &[&Variable]) -> bool {
    is_recording() && inputs.iter().any(|input| input.wants_gradient())
}

pub(super) fn check_shape(what: &str, expected: &Shape, got: &Tensor) -> Result<()> {
    if got.shape() == expected {
        return Ok(());
    }
    Err(Error::Shape { what: what.to_owned(), expected: expected.clone(), got: got.shape().clone() })
}

fn float32(value: Tensor) -> Result<Tensor> {
    if value.dtype() == DType::F32 {
        return Ok(value);
    }
    Err(bitnet_core::Error::DType { expected: "float32", got: value.dtype() }.into())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(values: &[f32]) -> Variable {
        Variable::leaf(Tensor::from_vec(values.to_vec(), [values.len()]).unwrap()).unwrap()
    }

    fn gradient(x: &Variable) -> Vec<f32> {
        x.gradient().unwrap().to_vec().unwrap()
    }

    #[test]
    fn gradients_of_all_uses_and_passes_add_up() {
        let x = leaf(&[2.0, -3.0]);
        for pass in 1..=2 {
            let y = x.mul(&x).unwrap().add(&x).unwrap();
            y.sum(None, false).unwrap().backward().unwrap();
            assert_eq!(gradient(&x), [5.0 * pass as f32, -5.0 * pass as f32]);
        }
        x.set_gradient(None).unwrap();
        assert!(x.gradient().is_none());
    }

    #[test]
    fn a_second_backward_pass_is_an_error() {
        let x = leaf(&[1.0]);
        let y = x.mul(&x).unwrap();
        y.backward().unwrap();
        assert!(matches!(y.backward(), Err(Error::Spent)));
    }

    #[test]
    fn constants_and_evaluation_leave_no_notes() {
        let (x, c) =
            (leaf(&[1.0]), Variable::constant(Tensor::from_vec(vec![4.0_f32], [1]).unwrap()).unwrap());
        assert!(!c.mul(&c).unwrap().wants_gradient());
        assert!(matches!(c.backward(), Err(Error::NoGradient)));
        no_grad(|| assert!(!x.mul(&c).unwrap().wants_gradient()));
        x.detach().mul(&x).unwrap().backward().unwrap();
        assert_eq!(gradient(&x), [1.0]);
    }

    #[test]
    fn values_are_set_on_leaves_alone_and_keep_their_shape() {
        let x = leaf(&[1.0, 2.0]);
        let tensor = |len: usize| Tensor::from_vec(vec![7.0_f32; len], [len]).unwrap();
        x.set_value(tensor(2)).unwrap();
        assert_eq!(x.value().to_vec::<f32>().unwrap(), [7.0, 7.0]);
        assert!(matches!(x.set_value(tensor(3)), Err(Error::Shape { .. })));
        assert!(matches!(x.neg().unwrap().set_value(tensor(2)), Err(Error::Computed)));
        assert!(Variable::leaf(Tensor::zeros([2], DType::I32).unwrap()).is_err());
    }

    #[test]
    fn a_long_computation_is_dropped_without_recursion() {
        let mut x = leaf(&[1.0]);
        for _ in 0..200_000 {
            x = x.neg().unwrap();
        }
        drop(x);
    }
}
