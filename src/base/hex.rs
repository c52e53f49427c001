//! Octets as hexadecimal digits.

/// Two digits, in lower case, an octet.
pub fn encode(octets: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * octets.len());
    for octet in octets {
        text.push(char::from(DIGITS[usize::from(octet >> 4)]));
        text.push(char::from(DIGITS[usize::from(octet & 0xf)]));
    }
    text
}

/// What no digit stands for.
const NO_DIGIT: u8 = 0xff;

/// The value of each octet as a digit.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value] as usize] = value as u8;
        values[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// The octets of an even number of digits, in either case; `None` of anything else.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let mut octets = Vec::with_capacity(pairs.len());
    for [high, low] in pairs {
        let (high, low) = (VALUES[usize::from(*high)], VALUES[usize::from(*low)]);
        if high == NO_DIGIT || low == NO_DIGIT {
            return None;
        }
        octets.push(high << 4 | low);
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        let octets: Vec<u8> = (0..=u8::MAX).collect();
        let text = encode(&octets);
        assert_eq!(&text[..8], "00010203");
        assert_eq!(decode(&text), Some(octets.clone()));
        assert_eq!(decode(&text.to_uppercase()), Some(octets));
        assert_eq!(decode(""), Some(vec![]));
        for wrong in ["0", "0g", "+1", " 1", "0x", "é"] {
            assert_eq!(decode(wrong), None, "{wrong:?}");
        }
    }
}
