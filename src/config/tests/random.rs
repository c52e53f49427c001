//! Random octets and random changes of good files: nothing panics, everything comes to an end.

use super::*;
use crate::base::Rng;

/// A file with something of everything.
const GOOD: &str = include_str!("everything.conf");

fn readable(octets: Vec<u8>) {
    let mut table = Table::new();
    table.files.insert("/bench/test.conf".to_owned(), octets);
    let reading = read(&table, &invocation("/bench/test.conf", None));
    for message in &reading.messages {
        assert!(!message.to_string().is_empty());
        assert!(!message.text.is_empty() || message.help.is_some(), "a message says something: {message:?}");
    }
}

#[test]
fn a_file_of_everything_is_understood() {
    let reading = read_text(GOOD);
    assert_eq!(texts(&reading), [""; 0]);
    let configuration = &reading.configuration;
    assert_eq!(configuration.vrrp.instances.len(), 2);
    assert_eq!(configuration.virtual_servers.len(), 3);
    assert!(configuration.virtual_servers[0].servers[0].checks.len() >= 8);
    let (_, said) = configuration.vrrp.clone().settle().expect("it can be run");
    assert!(said.is_empty(), "nothing is left to correct: {said:?}");
}

#[test]
fn random_octets_do_no_harm() {
    let mut rng = Rng::new(11);
    for _ in 0..300 {
        let length = rng.below(600);
        readable((0..length).map(|_| rng.next_u32() as u8).collect());
    }
}

#[test]
fn random_words_do_no_harm() {
    let words: Vec<&str> = GOOD.split_ascii_whitespace().collect();
    let mut rng = Rng::new(12);
    for _ in 0..300 {
        let mut text = String::new();
        for _ in 0..rng.below(200) {
            text.push_str(words[rng.below(words.len() as u32) as usize]);
            text.push(if rng.below(3) == 0 { '\n' } else { ' ' });
        }
        readable(text.into_bytes());
    }
}

#[test]
fn random_changes_do_no_harm() {
    const PIECES: [&[u8]; 16] = [
        b"{",
        b"}",
        b"\"",
        b"'",
        b"\\",
        b"$A",
        b"${A}",
        b"~SEQ(A,1,9)",
        b"\n",
        b"@a ",
        b"#",
        b"\0",
        b"\xff",
        b"$A=",
        b"-1",
        b"\xc3\xa9",
    ];
    let mut rng = Rng::new(13);
    for _ in 0..400 {
        let mut octets = GOOD.as_bytes().to_vec();
        for _ in 0..=rng.below(6) {
            let at = rng.below(octets.len() as u32) as usize;
            let piece = PIECES[rng.below(PIECES.len() as u32) as usize];
            let end = (at + rng.below(8) as usize).min(octets.len());
            octets.splice(at..end, piece.iter().copied());
        }
        readable(octets);
    }
}
