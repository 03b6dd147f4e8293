//! The same drawing in both forms.

use std::io::Cursor;

use super::*;

/// Whether the pixel at a place is dark, in rows.
fn dark(chart: &Chart) -> Vec<Vec<bool>> {
    let file = png::encode(chart).unwrap();
    let mut reader = ::png::Decoder::new(Cursor::new(&file)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.width as i32, info.height as i32), (chart.width, chart.height));
    let row = |row: &[u8]| row.chunks(3).map(|pixel| pixel[0] < 0x80).collect();
    pixels.chunks(3 * info.width as usize).map(row).collect()
}

#[test]
fn letters_are_drawn_where_they_belong() {
    let mut chart = Chart::new(60, 20);
    chart.text((55, 15), Align::Right, BLACK, "ab");
    chart.rect((-5, -5), (200, 7), BLACK);
    let dark = dark(&chart);
    assert!(dark[..2].iter().flatten().all(|&dark| dark));
    let columns: Vec<usize> = (0..60).filter(|x| (3..20).any(|y: usize| dark[y][*x])).collect();
    assert!(columns.iter().all(|x| (37..55).contains(x)) && columns.len() > 8, "{columns:?}");
}

#[test]
fn lines_go_through_their_points() {
    let mut chart = Chart::new(30, 20);
    chart.line(vec![(2, 3), (12, 13), (25, 13)], 1, BLACK);
    chart.line(vec![(28, 1)], 1, BLACK);
    let dark = dark(&chart);
    let places: Vec<(usize, usize)> =
        (0..20).flat_map(|y| (0..30).map(move |x| (x, y))).filter(|&(x, y)| dark[y][x]).collect();
    let expected = (2..12).map(|x| (x, x + 1)).chain((12..=25).map(|x| (x, 13)));
    assert_eq!(places, expected.collect::<Vec<_>>());
    let svg = svg::element(&chart);
    assert_eq!(svg.matches("<polyline").count(), 1);
    assert!(svg.contains("points=\"2,3 12,13 25,13\""), "{svg}");
}
