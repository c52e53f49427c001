//! Words of a line.
//!
//! There are two ways. *Plain*: blanks part words, `"` begins and ends one, nothing else is special. *Escaped*, where programs
//! and payloads are meant: pieces in `'…'` and `"…"` that touch are one word, and `\` works as in the shell's `$'…'`.

/// A word and where it begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Word {
    /// The word, without quotes.
    pub text: String,
    /// Octets of the line before it.
    pub offset: usize,
}

/// Why a line is not all words: this quote does not end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnmatchedQuote(pub char);

/// The plain words. A word whose quote does not end is left out.
pub fn plain_words(text: &str) -> (Vec<Word>, Option<UnmatchedQuote>) {
    let mut words = Vec::new();
    let mut rest = text.char_indices().peekable();
    while let Some(&(start, character)) = rest.peek() {
        if character.is_ascii_whitespace() {
            rest.next();
        } else if character == '"' {
            rest.next();
            let inside = &text[start + 1..];
            let Some(length) = inside.find('"') else { return (words, Some(UnmatchedQuote('"'))) };
            words.push(Word { text: inside[..length].to_owned(), offset: start });
            while rest.next_if(|&(at, _)| at <= start + 1 + length).is_some() {}
        } else {
            let end = text[start..]
                .find(|character: char| character.is_ascii_whitespace() || character == '"')
                .map_or(text.len(), |length| start + length);
            words.push(Word { text: text[start..end].to_owned(), offset: start });
            while rest.next_if(|&(at, _)| at < end).is_some() {}
        }
    }
    (words, None)
}

/// The words with quotes joined and escapes replaced.
///
/// # Errors
/// A quote that does not end.
pub fn escaped_words(text: &str) -> Result<Vec<Word>, UnmatchedQuote> {
    let mut words = Vec::new();
    let mut octets: Option<(usize, Vec<u8>)> = None;
    let mut quote: Option<u8> = None;
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (quote, byte) {
            (Some(open), _) if byte == open => quote = None,
            (None, b'"' | b'\'') => {
                quote = Some(byte);
                octets.get_or_insert((at, Vec::new()));
            }
            (None, _) if byte.is_ascii_whitespace() => words.extend(octets.take().map(word)),
            (_, b'\\') if at + 1 < bytes.len() => {
                let (octet, length) = escape(&bytes[at + 1..]);
                octets.get_or_insert((at, Vec::new())).1.push(octet);
                at += length;
            }
            _ => octets.get_or_insert((at, Vec::new())).1.push(byte),
        }
        at += 1;
    }
    words.extend(octets.take().map(word));
    match quote {
        Some(open) => Err(UnmatchedQuote(char::from(open))),
        None => Ok(words),
    }
}

fn word((offset, octets): (usize, Vec<u8>)) -> Word {
    Word { text: String::from_utf8_lossy(&octets).into_owned(), offset }
}

/// The octet that an escape stands for, and how many octets follow its `\`. `after` is not empty.
fn escape(after: &[u8]) -> (u8, usize) {
    let digits = |radix: u32, from: usize, most: usize| {
        let digits = after[from..].iter().take(most).map_while(|&byte| char::from(byte).to_digit(radix));
        digits.fold((0u32, 0), |(value, count), digit| (value * radix + digit, count + 1))
    };
    match after[0] {
        b'a' => (7, 1),
        b'b' => (8, 1),
        b'E' | b'e' => (27, 1),
        b'f' => (12, 1),
        b'n' => (b'\n', 1),
        b'r' => (b'\r', 1),
        b't' => (b'\t', 1),
        b'v' => (11, 1),
        b'x' => match digits(16, 1, 2) {
            (_, 0) => (b'x', 1),
            (value, count) => (value as u8, 1 + count),
        },
        b'0'..=b'7' => {
            let (value, count) = digits(8, 0, 3);
            (value as u8, count)
        }
        b'c' if after.len() > 1 => (after[1].to_ascii_uppercase() ^ 0x40, 2),
        other => (other, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Vec<String> {
        plain_words(text).0.into_iter().map(|word| word.text).collect()
    }

    fn escaped(text: &str) -> Vec<String> {
        escaped_words(text).expect("quotes end").into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn plain_quotes_part_words() {
        assert_eq!(plain(r#"a "b c" d"#), ["a", "b c", "d"]);
        assert_eq!(plain(r#"1"0"0"#), ["1", "0", "0"]);
        assert_eq!(plain(r#"it's "" é"#), ["it's", "", "é"]);
        assert_eq!(plain_words("a \"b").0.len(), 1);
        assert_eq!(plain_words("a \"b").1, Some(UnmatchedQuote('"')));
    }

    #[test]
    fn escaped_quotes_join_words() {
        assert_eq!(escaped(r#"ab" c d" 'e f'g"#), ["ab c d", "e fg"]);
        assert_eq!(escaped(r"\x41\101\t\q a\ b"), ["AA\tq", "a b"]);
        assert_eq!(escaped("'' \\cA"), ["", "\u{1}"]);
        assert_eq!(escaped_words("'a"), Err(UnmatchedQuote('\'')));
        assert_eq!(escaped("a\\"), ["a\\"]);
    }

    #[test]
    fn words_know_where_they_begin() {
        let offsets: Vec<usize> = plain_words("  a  \"b\" c").0.iter().map(|word| word.offset).collect();
        assert_eq!(offsets, [2, 5, 9]);
    }
}
