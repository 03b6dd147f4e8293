//! Drawings of rectangles, lines and text, to be written as SVG or as pixels.
//!
//! Letters are 9 pixels wide and 15 high in both.

pub mod png;
pub mod svg;

#[cfg(test)]
mod tests;

/// Width of a letter.
pub const LETTER: i32 = 9;

/// Red, green and blue.
pub type Color = [u8; 3];

/// Of text.
pub const BLACK: Color = [0x22, 0x22, 0x22];
/// Of what is beside the matter.
pub const GREY: Color = [0x77, 0x77, 0x77];
/// Of grids.
pub const PALE: Color = [0xdd, 0xdd, 0xdd];
/// The first of [`COLORS`].
pub const BLUE: Color = COLORS[0];

/// Of what is compared. Okabe and Ito: told apart by the colour-blind.
pub const COLORS: [Color; 8] = [
    [0x00, 0x72, 0xb2],
    [0xe6, 0x9f, 0x00],
    [0x00, 0x9e, 0x73],
    [0xd5, 0x5e, 0x00],
    [0xcc, 0x79, 0xa7],
    [0x56, 0xb4, 0xe9],
    [0x99, 0x99, 0x33],
    [0x44, 0x44, 0x44],
];

/// A drawing on white, the origin at its upper left.
#[derive(Debug)]
pub struct Chart {
    /// In pixels.
    pub width: i32,
    /// In pixels.
    pub height: i32,
    /// Later ones lie above earlier ones.
    pub shapes: Vec<Shape>,
}

/// A part of a drawing, in pixels.
#[derive(Debug)]
pub enum Shape {
    /// A filled rectangle.
    Rect {
        /// Of its left side.
        x: i32,
        /// Of its upper side.
        y: i32,
        /// Above 0.
        width: i32,
        /// Above 0.
        height: i32,
        /// Of its inside.
        color: Color,
    },
    /// Straight lines from each point to the next.
    Line {
        /// At least two.
        points: Vec<(i32, i32)>,
        /// Of the stroke.
        width: u32,
        /// Of the stroke.
        color: Color,
    },
    /// A line of text; `x` is where it starts, its middle or its end, `y` its baseline.
    Text {
        /// As `align` says.
        x: i32,
        /// Of the baseline.
        y: i32,
        /// In ASCII to look the same everywhere.
        text: String,
        /// What lies at `x`.
        align: Align,
        /// Of the letters.
        color: Color,
    },
}

/// Which part of a line of text lies at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Where it starts.
    Left,
    /// Its middle.
    Middle,
    /// Where it ends.
    Right,
}

impl Chart {
    /// An empty drawing.
    pub fn new(width: i32, height: i32) -> Self {
        Self { width, height, shapes: Vec::new() }
    }

    /// Adds a rectangle by its upper left, its width and height, unless it is empty.
    pub fn rect(&mut self, (x, y): (i32, i32), (width, height): (i32, i32), color: Color) {
        if width > 0 && height > 0 {
            self.shapes.push(Shape::Rect { x, y, width, height, color });
        }
    }

    /// Adds lines through points, unless there is but one.
    pub fn line(&mut self, points: Vec<(i32, i32)>, width: u32, color: Color) {
        if points.len() > 1 {
            self.shapes.push(Shape::Line { points, width, color });
        }
    }

    /// Adds a line of text.
    pub fn text(&mut self, (x, y): (i32, i32), align: Align, color: Color, text: impl Into<String>) {
        self.shapes.push(Shape::Text { x, y, text: text.into(), align, color });
    }
}
