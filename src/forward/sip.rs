//! What the `sip` persistence engine reads of a datagram: the Call-ID of RFC 3261 section 20.8.
//!
//! Source: `net/netfilter/ipvs/ip_vs_pe_sip.c` and `ct_sip_get_header` of `net/netfilter/nf_conntrack_sip.c`, Linux
//! 6.1.

use crate::conn::engine_data::ENGINE_DATA_OCTETS_MAX;

const NAME: &[u8] = b"Call-ID";
const SHORT_NAME: &[u8] = b"i";

/// The value of the first Call-ID header of a SIP message that has one; `None` when there is none, when it is longer
/// than a record can hold, or when no line end follows it.
pub(super) fn call_id(message: &[u8]) -> Option<&[u8]> {
    let mut from = 0;
    loop {
        let value = header_value(message, from)?;
        let octets = call_id_octets(value);
        if octets > 0 {
            let is_ended = value.get(octets).is_some_and(|&octet| is_line_end(octet));
            return (octets <= ENGINE_DATA_OCTETS_MAX && is_ended).then(|| &value[..octets]);
        }
        // A header without a value is passed over. The kernel adds where it stands to where the search began.
        from += message.len() - value.len();
    }
}

/// What follows the name and the colon of the first Call-ID header behind the line in which `from` lies; the first
/// line of all is the request or the status.
fn header_value(message: &[u8], from: usize) -> Option<&[u8]> {
    let mut at = from;
    while let Some(end) = message.get(at..)?.iter().position(|&octet| is_line_end(octet)) {
        at += end + 1;
        if message[at - 1] == b'\r' && message.get(at) == Some(&b'\n') {
            at += 1;
        }
        if let Some(rest) = after_name(message.get(at..)?) {
            return skip_blanks(skip_blanks(rest)?.strip_prefix(b":")?);
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
    rest.first().is_some_and(|&octet| !is_letter(octet)).then_some(rest)
}

/// What follows spaces and tabs, and a line end where the header goes on in the next line (RFC 3261 section 7.3.1);
/// `None` where it does not.
fn skip_blanks(text: &[u8]) -> Option<&[u8]> {
    let skip = |text: &[u8]| text.iter().take_while(|&&octet| matches!(octet, b' ' | b'\t')).count();
    let next = match &text[skip(text)..] {
        [b'\r', b'\n', next @ ..] | [b'\r' | b'\n', next @ ..] => next,
        other => return Some(other),
    };
    let blanks = skip(next);
    (blanks > 0).then(|| &next[blanks..])
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

/// Letters as the kernel counts them (`lib/ctype.c`): those of Latin-1 too.
const fn is_letter(octet: u8) -> bool {
    octet.is_ascii_alphabetic() || matches!(octet, 0xc0..=0xd6 | 0xd8..=0xf6 | 0xf8..=0xff)
}

/// The octets of `word` in RFC 3261 section 25.1, and letters of Latin-1.
const fn is_word_octet(octet: u8) -> bool {
    let is_mark = matches!(octet, b'!' | b'"' | b'%' | b'\'' | b'(' | b')' | b'*' | b'+' | b'-' | b'.' | b'/' | b':');
    let is_bracket = matches!(octet, b'<' | b'>' | b'?' | b'[' | b'\\' | b']' | b'_' | b'`' | b'{' | b'}' | b'~');
    is_letter(octet) || octet.is_ascii_digit() || is_mark || is_bracket
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

    /// `sip_follow_continuation`, and the loop of `get_callid`.
    #[test]
    fn headers_go_on_in_the_next_line_and_empty_ones_are_passed_over() {
        for header in [
            "Call-ID:\r\n a84b\r\n",
            "Call-ID\r\n\t : \n \ta84b\r\n",
            "Call-ID\t:\ta84b\r\n",
            "Call-ID: \x01\r\ni: a84b\r\n",
        ] {
            let message = format!("{REQUEST}{header}\r\n");
            assert_eq!(call_id(message.as_bytes()), Some(b"a84b".as_slice()), "{header:?}");
        }
        let message = format!("{REQUEST}Call-ID:\r\nMax-Forwards: 7\r\ni: a84b\r\n");
        assert_eq!(call_id(message.as_bytes()), None, "neither a value nor another line of it");
    }

    /// Which octets the kernel (6.1) takes between two letters, all 256 tried.
    #[test]
    fn octets_of_a_word() {
        let taken: Vec<u8> = (0..=255).filter(|&octet| is_word_octet(octet)).collect();
        let (ascii, others) = taken.split_at(taken.partition_point(|octet| octet.is_ascii()));
        let marks: Vec<u8> = ascii.iter().copied().filter(|octet| !octet.is_ascii_alphanumeric()).collect();
        assert_eq!(marks, b"!\"%'()*+-./:<>?[\\]_`{}~");
        assert_eq!((ascii.len(), others.len()), (marks.len() + 62, 62));
        assert!(others[0] == 0xc0 && !others.contains(&0xd7) && !others.contains(&0xf7));
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
