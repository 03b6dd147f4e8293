//! The backward pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitnet_core::{DType, Tensor};

use super::Variable;
use super::variable::{Node, check_shape};
use crate::{Error, Result};

impl Variable {
    /// Adds to every leaf the gradient of this variable, which has one element: a loss.
    ///
    /// Errors: [`Error::Shape`] for several elements, [`Error::NoGradient`], [`Error::Spent`].
    pub fn backward(&self) -> Result<()> {
        let value = self.value();
        if value.len() != 1 {
            let (expected, got) = (Vec::new().into(), value.shape().clone());
            return Err(Error::Shape { what: "a loss".to_owned(), expected, got });
        }
        self.backward_with(Tensor::ones(value.shape().clone(), DType::F32)?)
    }

    /// Adds to every leaf its gradient, given that of this variable.
    ///
    /// Errors: [`Error::Shape`], [`Error::NoGradient`], [`Error::Spent`].
    pub fn backward_with(&self, gradient: Tensor) -> Result<()> {
        check_shape("gradient", self.value().shape(), &gradient)?;
        let node = self.shared_node().ok_or(Error::NoGradient)?;
        let mut waiting = BTreeMap::from([(node.id, (node, gradient))]);
        // What was created last can wait for nothing else.
        while let Some((_, (node, gradient))) = waiting.pop_last() {
            let Some(operation) = node.receive(&gradient)? else { continue };
            let gradients = (operation.backward)(gradient)?;
            for (input, gradient) in operation.inputs.into_iter().zip(gradients) {
                if let (Some(input), Some(gradient)) = (input, gradient) {
                    add(&mut waiting, input, gradient)?;
                }
            }
        }
        Ok(())
    }
}

fn add(waiting: &mut BTreeMap<u64, (Arc<Node>, Tensor)>, node: Arc<Node>, gradient: Tensor) -> Result<()> {
    let sum = match waiting.remove(&node.id) {
        Some((_, before)) => before.add(&gradient)?,
        None => gradient,
    };
    waiting.insert(node.id, (node, sum));
    Ok(())
}
