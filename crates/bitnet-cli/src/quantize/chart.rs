//! Drawings of rectangles and lines of text, to be written as SVG or as pixels.
//!
//! Letters are 9 pixels wide and 15 high in both.

/// Width of a letter.
pub(super) const LETTER: i32 = 9;

/// Red, green and blue.
pub(super) type Color = [u8; 3];

pub(super) const BLACK: Color = [0x22, 0x22, 0x22];
pub(super) const GREY: Color = [0x77, 0x77, 0x77];
pub(super) const PALE: Color = [0xdd, 0xdd, 0xdd];
pub(super) const BLUE: Color = [0x00, 0x72, 0xb2];

/// A drawing on white, the origin at its upper left.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) width: i32,
    pub(super) height: i32,
    /// Later ones lie above earlier ones.
    pub(super) shapes: Vec<Shape>,
}

#[derive(Debug)]
pub(super) enum Shape {
    Rect {
        x: i32,
        y: i32,
        width: i32,
        height: i32,
        color: Color,
    },
    /// A line of text; `x` is where it starts, its middle or its end, `y` its baseline.
    Text {
        x: i32,
        y: i32,
        text: String,
        align: Align,
        color: Color,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Middle,
    Right,
}

impl Chart {
    pub(super) fn new(width: i32, height: i32) -> Self {
        Self { width, height, shapes: Vec::new() }
    }

    pub(super) fn rect(&mut self, (x, y): (i32, i32), (width, height): (i32, i32), color: Color) {
        if width > 0 && height > 0 {
            self.shapes.push(Shape::Rect { x, y, width, height, color });
        }
    }

    pub(super) fn text(&mut self, (x, y): (i32, i32), align: Align, color: Color, text: impl Into<String>) {
        self.shapes.push(Shape::Text { x, y, text: text.into(), align, color });
    }
}
