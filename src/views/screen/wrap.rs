//! Lines in pieces that fit into the columns of the screen.

use ratatui_core::text::Span;

/// A line in pieces of at most so many columns: the first, and each later one. It is broken between
/// words unless that leaves half of a piece empty.
pub(super) fn wrapped(line: &str, first: usize, later: usize) -> Vec<String> {
    let line = line.replace('\t', "    ");
    let mut pieces = Vec::new();
    let (mut rest, mut width) = (line.as_str(), first);
    loop {
        let mut used = 0;
        let over = rest.char_indices().find(|(at, char)| {
            used += Span::raw(char.encode_utf8(&mut [0; 4]).to_owned()).width();
            used > width && *at > 0
        });
        let Some((end, _)) = over else { break };
        let (head, tail) = rest.split_at(end);
        let word = head.rfind(' ').map(|at| at + 1);
        let word = word.filter(|at| at * 2 > end && !head[..*at].trim().is_empty());
        let cut = if tail.starts_with(' ') { end } else { word.unwrap_or(end) };
        pieces.push(rest[..cut].trim_end().to_owned());
        (rest, width) = (rest[cut..].trim_start(), later);
    }
    if pieces.is_empty() || !rest.is_empty() {
        pieces.push(rest.to_owned());
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::wrapped;

    #[test]
    fn a_line_is_broken_between_words_that_are_not_too_long() {
        assert_eq!(wrapped("the sum of all parts", 10, 9), ["the sum of", "all parts"]);
        assert_eq!(wrapped("the sum of parts", 9, 9), ["the sum", "of parts"]);
        assert_eq!(wrapped("an::endless::name", 9, 7), ["an::endle", "ss::nam", "e"]);
        assert_eq!(wrapped("a an::endless::name", 9, 9), ["a an::end", "less::nam", "e"]);
        assert_eq!(wrapped("漢字漢字 漢字", 5, 4), ["漢字", "漢字", "漢字"]);
        assert_eq!(wrapped("", 3, 3), [""]);
        assert_eq!(wrapped("\tab   ", 6, 6), ["    ab"]);
        assert_eq!(wrapped("ab", 0, 0), ["a", "b"]);
    }
}
