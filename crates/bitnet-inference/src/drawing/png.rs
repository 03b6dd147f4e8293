//! Drawings as PNG.

use std::convert::Infallible;
use std::io;

use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_9X15;
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::{DrawTarget, Drawable, OriginDimensions, Pixel, Point, RgbColor, Size};
use embedded_graphics::primitives::{Line, Primitive, PrimitiveStyle};
use embedded_graphics::text::{Alignment, Text};
use png::{BitDepth, ColorType, Encoder};

use super::{Align, Chart, Shape};

/// The drawing as a file, three bytes a pixel.
///
/// Errors: a drawing without pixels, or with too many.
pub fn encode(chart: &Chart) -> io::Result<Vec<u8>> {
    let canvas = Canvas::draw(chart);
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, canvas.width as u32, canvas.height as u32);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.write_header()?.write_image_data(&canvas.pixels)?;
    Ok(file)
}

/// Pixels, row by row.
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    fn draw(chart: &Chart) -> Self {
        let (width, height) = (chart.width as usize, chart.height as usize);
        let mut canvas = Self { width, height, pixels: vec![0xff; 3 * width * height] };
        for shape in &chart.shapes {
            match shape {
                Shape::Rect { x, y, width, height, color } => {
                    for y in *y..*y + height {
                        (*x..*x + width).for_each(|x| canvas.set(x, y, *color));
                    }
                }
                Shape::Line { points, width, color: [r, g, b] } => {
                    let style = PrimitiveStyle::with_stroke(Rgb888::new(*r, *g, *b), *width);
                    // One by one: what joins the lines of a whole one multiplies beyond 32 bits where they are long.
                    for ends in points.windows(2) {
                        let [start, end] = [ends[0], ends[1]].map(|(x, y)| Point::new(x, y));
                        let line = Line::new(start, end).into_styled(style);
                        line.draw(&mut canvas).unwrap_or_else(|never| match never {});
                    }
                }
                Shape::Text { x, y, text, align, color: [r, g, b] } => {
                    let style = MonoTextStyle::new(&FONT_9X15, Rgb888::new(*r, *g, *b));
                    let align = match align {
                        Align::Left => Alignment::Left,
                        Align::Middle => Alignment::Center,
                        Align::Right => Alignment::Right,
                    };
                    let text = Text::with_alignment(text, Point::new(*x, *y), style, align);
                    text.draw(&mut canvas).unwrap_or_else(|never| match never {});
                }
            }
        }
        canvas
    }

    /// Colours a pixel, if it is on the canvas.
    fn set(&mut self, x: i32, y: i32, color: [u8; 3]) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
        if x < self.width && y < self.height {
            self.pixels[3 * (y * self.width + x)..][..3].copy_from_slice(&color);
        }
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.width as u32, self.height as u32)
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(Point { x, y }, color) in pixels {
            self.set(x, y, [color.r(), color.g(), color.b()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawing::BLACK;

    #[test]
    fn long_lines_meet_at_any_angle() {
        let mut chart = Chart::new(860, 480);
        chart.line(vec![(10, 10), (400, 470), (850, 10)], 2, BLACK);
        let canvas = Canvas::draw(&chart);
        for (x, y) in [(10, 10), (205, 240), (400, 470), (625, 240), (850, 10)] {
            assert_eq!(canvas.pixels[3 * (y * canvas.width + x)..][..3], BLACK, "{x}, {y}");
        }
        assert!(encode(&chart).unwrap().starts_with(b"\x89PNG"));
    }
}
