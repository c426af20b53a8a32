//! Patterns of stream IDs: whether one matches, and whether two could match the same.

use std::fmt;

use crate::proto::srt::handshake::MAX_STREAM_ID;

/// A pattern that a whole stream ID must match: `*` stands for any text, also none, `?` for any one character, and
/// everything else for itself, upper and lower case apart.
///
/// A caller that sends no stream ID is matched as the empty text: by `*`, but not by `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamIdPattern {
    text: String,
    /// No two stars in a row.
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// `*`.
    Text,
    /// `?`.
    One,
    /// A character.
    This(char),
}

/// Why a text is no pattern: it could match nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It matches only what is longer than any stream ID.
    #[error("matches only stream IDs of more than {MAX_STREAM_ID} bytes, which there are not")]
    Long,
    /// It has a zero byte, which no stream ID has.
    #[error("contains a zero byte, which no stream ID has")]
    Zero,
}

impl StreamIdPattern {
    /// Read a pattern.
    ///
    /// # Errors
    /// It could match nothing.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.contains('\0') {
            return Err(PatternError::Zero);
        }
        let mut parts: Vec<Part> = text.chars().map(Part::from).collect();
        parts.dedup_by(|part, before| (*part, *before) == (Part::Text, Part::Text));
        let shortest: usize = parts.iter().map(|part| part.shortest()).sum();
        if shortest > MAX_STREAM_ID {
            return Err(PatternError::Long);
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a stream ID matches. The time is bounded by the product of both lengths.
    pub fn matches(&self, stream_id: &str) -> bool {
        let mut rest = stream_id.chars();
        let mut parts = self.parts.as_slice();
        // After the last star: what follows it, and what it has not taken yet. Whatever an earlier star could take, the
        // last one can take too.
        let mut retry = None;
        loop {
            let before = rest.clone();
            match (parts.split_first(), rest.next()) {
                (Some((Part::Text, after)), _) => {
                    parts = after;
                    rest = before.clone();
                    retry = Some((after, before));
                    continue;
                }
                (None, None) => return true,
                (Some((part, after)), Some(c)) if part.is(c) => {
                    parts = after;
                    continue;
                }
                // The star cannot take more than there is.
                (_, None) => return false,
                _ => {}
            }
            let Some((after, untaken)) = &mut retry else { return false };
            untaken.next();
            (parts, rest) = (after, untaken.clone());
        }
    }

    /// Whether there is a stream ID, or none, that both patterns match.
    ///
    /// This is exact: it looks for the shortest such text, of at most [`MAX_STREAM_ID`] bytes, by letting both patterns
    /// read it together. The time is bounded by the product of both lengths.
    pub fn overlaps(&self, other: &Self) -> bool {
        const NEVER: usize = usize::MAX;
        let (a, b) = (&self.parts, &other.parts);
        // The bytes of the shortest text that brings both patterns so far; one row for each place in `a`.
        let mut row = vec![NEVER; b.len() + 1];
        row[0] = 0;
        for x in 0..=a.len() {
            let mut next = vec![NEVER; b.len() + 1];
            for y in 0..=b.len() {
                let here = row[y];
                if here == NEVER {
                    continue;
                }
                let (in_a, in_b) = (a.get(x).copied(), b.get(y).copied());
                // A star may end here.
                if in_a == Some(Part::Text) {
                    next[y] = next[y].min(here);
                }
                if in_b == Some(Part::Text) {
                    row[y + 1] = row[y + 1].min(here);
                }
                // Or both read a character, and a star stays where it is.
                let Some(bytes) = in_a.zip(in_b).and_then(|(in_a, in_b)| in_a.shared(in_b)) else { continue };
                match (in_a, in_b) {
                    (Some(Part::Text), Some(Part::Text)) => {}
                    (Some(Part::Text), _) => row[y + 1] = row[y + 1].min(here + bytes),
                    (_, Some(Part::Text)) => next[y] = next[y].min(here + bytes),
                    _ => next[y + 1] = next[y + 1].min(here + bytes),
                }
            }
            if x < a.len() {
                row = next;
            }
        }
        row[b.len()] <= MAX_STREAM_ID
    }
}

impl Part {
    const fn is(self, c: char) -> bool {
        match self {
            Self::Text | Self::One => true,
            Self::This(this) => this == c,
        }
    }

    /// Bytes of the shortest text it stands for.
    const fn shortest(self) -> usize {
        match self {
            Self::Text => 0,
            Self::One => 1,
            Self::This(c) => c.len_utf8(),
        }
    }

    /// Bytes of the shortest character that both stand for, if there is one.
    fn shared(self, other: Self) -> Option<usize> {
        match (self, other) {
            (Self::This(a), Self::This(b)) if a != b => None,
            (Self::This(c), _) | (_, Self::This(c)) => Some(c.len_utf8()),
            _ => Some(1),
        }
    }
}

impl From<char> for Part {
    fn from(c: char) -> Self {
        match c {
            '*' => Self::Text,
            '?' => Self::One,
            c => Self::This(c),
        }
    }
}

impl fmt::Display for StreamIdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> StreamIdPattern {
        StreamIdPattern::new(text).unwrap()
    }

    fn overlap(a: &str, b: &str) -> bool {
        let both = (pattern(a).overlaps(&pattern(b)), pattern(b).overlaps(&pattern(a)));
        assert_eq!(both.0, both.1, "{a} and {b}");
        both.0
    }

    /// By the definition, slowly.
    fn matches_by_definition(parts: &[char], text: &[char]) -> bool {
        match (parts, text) {
            ([], []) => true,
            (['*', rest @ ..], text) => {
                matches_by_definition(rest, text)
                    || text.split_first().is_some_and(|(_, t)| matches_by_definition(parts, t))
            }
            ([part, rest @ ..], [c, text @ ..]) => (*part == '?' || part == c) && matches_by_definition(rest, text),
            _ => false,
        }
    }

    /// Every text of `a` and `b` of up to this many letters.
    fn texts(most: u32) -> impl Iterator<Item = String> {
        let of = |len: u32| {
            (0..1_u32 << len).map(move |bits| (0..len).map(|at| if bits >> at & 1 == 0 { 'a' } else { 'b' }).collect())
        };
        (0..=most).flat_map(of)
    }

    #[test]
    fn a_pattern_without_wildcards_matches_itself() {
        assert!(pattern("live/venue-a").matches("live/venue-a"));
        for other in ["", "live/venue-", "live/venue-aa", "Live/venue-a", " live/venue-a"] {
            assert!(!pattern("live/venue-a").matches(other), "{other}");
        }
    }

    #[test]
    fn stars_and_question_marks_stand_for_others() {
        assert!(pattern("live/*").matches("live/"));
        assert!(pattern("live/*").matches("live/a/b"), "slashes are like any character");
        assert!(pattern("*/a").matches("x/a/a"));
        assert!(pattern("#!::*r=news*").matches("#!::u=x,r=news,m=publish"));
        assert!(pattern("?").matches("ä") && !pattern("?").matches("") && !pattern("?").matches("ab"));
        assert!(pattern("a*b*c").matches("abbcbc") && !pattern("a*b*c").matches("abbcbcx"));
        assert!(pattern("[a-z]").matches("[a-z]") && !pattern("[a-z]").matches("b"), "there are no other wildcards");
    }

    #[test]
    fn no_stream_id_is_the_empty_text() {
        assert!(pattern("*").matches("") && pattern("").matches("") && pattern("**").matches(""));
        assert!(!pattern("?*").matches("") && !pattern("a").matches(""));
    }

    #[test]
    fn patterns_overlap_when_some_stream_id_matches_both() {
        assert!(overlap("live/a", "live/a"));
        assert!(!overlap("live/a", "live/b"));
        assert!(overlap("live/*", "*/a"));
        assert!(overlap("a*", "*b"));
        assert!(!overlap("a*", "b*"));
        assert!(!overlap("*a", "*b"));
        assert!(overlap("*", ""));
        assert!(!overlap("?*", ""));
        assert!(!overlap("??", "???"));
        assert!(overlap("a?c*", "*?d"));
        assert!(overlap("*ab*x", "y*ba*"), "yabbax");
        assert!(!overlap("*ab*x", "y*ba*z"));
        assert!(overlap("*ab*", "*ba*"));
        assert!(overlap("ä?", "?ö"));
    }

    #[test]
    fn an_overlap_beyond_the_longest_stream_id_is_none() {
        let half = "x".repeat(256);
        assert!(overlap(&format!("{half}*"), &format!("*{}", "y".repeat(256))));
        assert!(!overlap(&format!("{half}*"), &format!("*{}", "y".repeat(257))), "it would need 513 bytes");
        assert!(overlap(&format!("{half}*"), &format!("*{}", "x".repeat(300))), "the two may share some");
        assert!(!overlap(&"ä".repeat(256), &"?".repeat(257)));
    }

    #[test]
    fn a_text_that_could_match_nothing_is_no_pattern() {
        assert_eq!(StreamIdPattern::new(&"x".repeat(513)), Err(PatternError::Long));
        assert_eq!(StreamIdPattern::new(&"?".repeat(513)), Err(PatternError::Long));
        assert_eq!(StreamIdPattern::new(&"ä".repeat(257)), Err(PatternError::Long));
        assert_eq!(StreamIdPattern::new("a\0b"), Err(PatternError::Zero));
        assert!(StreamIdPattern::new(&"*x".repeat(512)).is_ok());
        assert_eq!(pattern("a**?").to_string(), "a**?");
    }

    #[test]
    fn the_worst_of_patterns_are_done_with_at_once() {
        let stars = pattern(&"*a".repeat(256));
        assert!(!stars.matches(&"a".repeat(255)));
        assert!(stars.matches(&"a".repeat(512)));
        assert!(!pattern(&format!("{}b", "*a".repeat(255))).matches(&"a".repeat(512)));
        assert!(stars.overlaps(&pattern(&"*?a".repeat(170))));
    }

    proptest! {
        #[test]
        fn matching_is_as_defined(parts in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            let by_definition =
                matches_by_definition(&parts.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>());
            prop_assert_eq!(pattern(&parts).matches(&text), by_definition);
        }

        #[test]
        fn overlaps_are_exact(a in "[ab*?]{0,5}", b in "[ab*?]{0,5}") {
            // If any text matches both, one of at most as many letters as both have together does.
            let found = texts(10).any(|text| pattern(&a).matches(&text) && pattern(&b).matches(&text));
            prop_assert_eq!(overlap(&a, &b), found);
        }

        #[test]
        fn a_pattern_overlaps_with_whatever_it_matches(text in "[^*?\\x00]{0,40}", at in 0_usize..40) {
            let wild: String = text.chars().enumerate().map(|(n, c)| if n == at { '?' } else { c }).chain(['*']).collect();
            prop_assert!(pattern(&wild).matches(&text));
            prop_assert!(overlap(&wild, &text));
        }
    }
}
