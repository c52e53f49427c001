//! A line's words and the numbers in them, as iptables-restore takes them.

/// The words of a line: parted by blanks; double quotes hold a word together, and within them a backslash takes the
/// next character as it is. `None` when a quote is not closed.
pub(super) fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    let mut is_quoted = false;
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            '\\' if is_quoted => word.get_or_insert_default().push(characters.next()?),
            ' ' | '\t' | '\r' if !is_quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    (!is_quoted).then_some(words)
}

/// A number as C writes it: decimal, `0x…` or octal with a leading 0.
pub(super) fn number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    // `from_str_radix` takes a sign.
    let is_number = digits.bytes().all(|octet| octet.is_ascii_alphanumeric());
    is_number.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
}

/// A port as [`number`].
pub(super) fn port(text: &str) -> Option<u16> {
    number(text).and_then(|number| u16::try_from(number).ok())
}
