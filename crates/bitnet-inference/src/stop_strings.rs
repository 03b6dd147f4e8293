//! Texts that end a generation.

/// Watches a text for stop strings, holding back what may be the beginning of one.
#[derive(Debug)]
pub(crate) struct StopStrings {
    stops: Vec<String>,
    held: String,
}

impl StopStrings {
    pub(crate) fn new(stops: &[String]) -> Self {
        Self { stops: stops.to_vec(), held: String::new() }
    }

    /// Takes a piece in; returns what is certain to be text, and whether a stop string came up behind it.
    pub(crate) fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop)).min() {
            self.held.truncate(at);
            return (self.finish(), true);
        }
        let is_beginning = |tail: &str| self.stops.iter().any(|stop| stop.starts_with(tail));
        let certain = self.held.char_indices().map(|(at, _)| at).find(|&at| is_beginning(&self.held[at..]));
        let held = self.held.split_off(certain.unwrap_or(self.held.len()));
        (std::mem::replace(&mut self.held, held), false)
    }

    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stops(stops: &[&str]) -> StopStrings {
        StopStrings::new(&stops.iter().map(|&stop| stop.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_stop_string_over_several_pieces_is_cut_out() {
        let mut stop = stops(&["END"]);
        assert_eq!(stop.push("a E"), ("a ".to_owned(), false));
        assert_eq!(stop.push("N"), (String::new(), false));
        assert_eq!(stop.push("Dxyz"), (String::new(), true));
    }

    #[test]
    fn a_beginning_that_does_not_go_on_is_given_out() {
        let mut stop = stops(&["END", "xy"]);
        assert_eq!(stop.push("ENx"), ("EN".to_owned(), false));
        assert_eq!(stop.push("é"), ("xé".to_owned(), false));
        assert_eq!(stop.push("E"), (String::new(), false));
        assert_eq!(stop.finish(), "E");
    }

    #[test]
    fn the_earliest_of_several_wins() {
        assert_eq!(stops(&["b", "ab"]).push("xab"), ("x".to_owned(), true));
    }
}
