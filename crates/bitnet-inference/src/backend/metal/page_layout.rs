//! Keys of a page between the order of [`Session::read_page`](crate::backend::Session::read_page), `[heads,
//! PAGE / 16, head_dim, 16]`, and that of the device, `[heads, PAGE, head_dim]`. Values have one order.

use bitnet_core::POSITIONS;

use crate::backend::PAGE;

/// Keys, or values, of a layer in a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageShape {
    pub(super) heads: usize,
    pub(super) head_dim: usize,
    pub(super) element_bytes: usize,
}

impl PageShape {
    pub(super) fn size_bytes(self) -> usize {
        self.heads * PAGE * self.head_dim * self.element_bytes
    }

    /// Calls `visit(device, other)` with the places of every element in the two orders, in bytes.
    fn each(self, mut visit: impl FnMut(usize, usize)) {
        let Self { heads, head_dim, element_bytes } = self;
        for position in 0..heads * PAGE {
            for d in 0..head_dim {
                let device = position * head_dim + d;
                let other = (position / POSITIONS * head_dim + d) * POSITIONS + position % POSITIONS;
                visit(device * element_bytes, other * element_bytes);
            }
        }
    }
}

/// Keys of the device in the order of pages that are moved.
pub(super) fn keys_from_device(shape: PageShape, keys: &[u8], out: &mut [u8]) {
    let bytes = shape.element_bytes;
    shape.each(|device, other| out[other..other + bytes].copy_from_slice(&keys[device..device + bytes]));
}

/// The way back.
pub(super) fn keys_to_device(shape: PageShape, keys: &[u8], out: &mut [u8]) {
    let bytes = shape.element_bytes;
    shape.each(|device, other| out[device..device + bytes].copy_from_slice(&keys[other..other + bytes]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_as_they_were() {
        for element_bytes in [2, 4] {
            let shape = PageShape { heads: 3, head_dim: 6, element_bytes };
            let keys: Vec<u8> = (0..shape.size_bytes()).map(|i| (i % 251) as u8).collect();
            let (mut moved, mut back) = (vec![0; keys.len()], vec![0; keys.len()]);
            keys_from_device(shape, &keys, &mut moved);
            keys_to_device(shape, &moved, &mut back);
            assert_eq!(back, keys);
            // Element 5 of position 17 of head 1: in its second group of 16, the second one.
            let (device, other) = ((PAGE + 17) * 6 + 5, (PAGE / 16 + 1) * 6 * 16 + 5 * 16 + 1);
            assert_eq!(moved[other * element_bytes], keys[device * element_bytes]);
        }
    }
}
