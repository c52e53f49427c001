//! What the `sip` persistence engine reads of a datagram: the Call-ID of RFC 3261 section 20.8.
//!
//! Source: `net/netfilter/ipvs/ip_vs_pe_sip.c` and `ct_sip_get_header` of `net/netfilter/nf_conntrack_sip.c`, Linux
//! 6.1.

use crate::conn::engine_data::ENGINE_DATA_OCTETS_MAX;

const NAME: &[u8] = b"Call-ID";
const SHORT_NAME: &[u8] = b"i";

/// The value of the first Call-ID header of a SIP message; `None` when there is none, when it is empty or longer
/// than a record can hold, or when no line end follows it.
pub(super) fn call_id(message: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    // The first line is the request or the status.
    while let Some(end) = message[at..].iter().position(|&octet| is_line_end(octet)) {
        at += end + 1;
        if message[at - 1] == b'\r' && message.get(at) == Some(&b'\n') {
            at += 1;
        }
        let line = message.get(at..)?;
        if let Some(rest) = after_name(line) {
            let rest = skip_blanks(rest).strip_prefix(b":")?;
            let value = skip_blanks(rest);
            let octets = call_id_octets(value);
            let is_ended = value.get(octets).is_some_and(|&octet| is_line_end(octet));
            return (octets > 0 && octets <= ENGINE_DATA_OCTETS_MAX && is_ended).then(|| &value[..octets]);
        }
    }
    None
}

const fn is_line_end(octet: u8) -> bool {
    matches!(octet, b'\r' | b'\n')
}

/// What follows the header's name, where the line begins with it.
fn after_name(line: &[u8]) -> Option<&[u8]> {
    let begins_with = |name: &[u8]| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    if begins_with(NAME) {
        return Some(&line[NAME.len()..]);
    }
    // The short form is no prefix of a longer name.
    let rest = begins_with(SHORT_NAME).then(|| &line[SHORT_NAME.len()..])?;
    rest.first().is_some_and(|octet| !octet.is_ascii_alphabetic()).then_some(rest)
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|&&octet| octet == b' ').count();
    &text[blanks..]
}

/// Octets of `word [ "@" word ]` at the start (RFC 3261 section 25.1, `callid`); 0 for none.
fn call_id_octets(text: &[u8]) -> usize {
    let word = |text: &[u8]| text.iter().take_while(|&&octet| is_word_octet(octet)).count();
    let local = word(text);
    if local == 0 || text.get(local) != Some(&b'@') {
        return local;
    }
    match word(&text[local + 1..]) {
        0 => 0,
        domain => local + 1 + domain,
    }
}

/// The octets of `word` in RFC 3261 section 25.1, and the comma, which the reference takes too.
const fn is_word_octet(octet: u8) -> bool {
    let is_mark = matches!(octet, b'!' | b'"' | b'%' | b'(' | b')' | b'*' | b'+' | b',' | b'-' | b'.' | b'/' | b':');
    let is_bracket = matches!(octet, b'<' | b'>' | b'?' | b'[' | b'\\' | b']' | b'_' | b'`' | b'{' | b'}' | b'~');
    octet.is_ascii_alphanumeric() || is_mark || is_bracket
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "INVITE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.1\r\n";

    #[test]
    fn the_header_is_found_in_every_spelling() {
        for header in ["Call-ID: a84b@pc33\r\n", "call-id:a84b@pc33\r\n", "CALL-ID  :  a84b@pc33\r\n", "i: a84b@pc33\n"]
        {
            let message = format!("{REQUEST}{header}\r\n");
            assert_eq!(call_id(message.as_bytes()), Some(b"a84b@pc33".as_slice()), "{header:?}");
        }
    }

    #[test]
    fn what_is_no_call_id() {
        for header in [
            "",
            "Call-ID:\r\n",
            "Call-ID: \r\n",
            "Call-ID: a@\r\n",
            "Call-ID: a b\r\n",
            "Call-ID: abc",
            "Call-ID abc\r\n",
            "id: abc\r\n",
            "i",
            "X-Call-ID: abc\r\n",
            "\tCall-ID: abc\r\n",
        ] {
            assert_eq!(call_id(format!("{REQUEST}{header}").as_bytes()), None, "{header:?}");
        }
        // The first line is not a header.
        assert_eq!(call_id(b"Call-ID: abc\r\n"), None);
    }

    #[test]
    fn the_longest_that_a_record_holds() {
        for (octets, found) in [(ENGINE_DATA_OCTETS_MAX, true), (ENGINE_DATA_OCTETS_MAX + 1, false)] {
            let message = format!("{REQUEST}Call-ID: {}\r\n", "x".repeat(octets));
            assert_eq!(call_id(message.as_bytes()).is_some(), found);
        }
    }

    #[test]
    fn no_message_makes_it_panic() {
        let message = format!("{REQUEST}Call-ID: a@b\r\n\r\n");
        for end in 0..message.len() {
            for start in 0..end {
                let _ = call_id(&message.as_bytes()[start..end]);
            }
        }
    }
}
