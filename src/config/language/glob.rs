//! Patterns as glob(7) has them, without braces.

/// True when a path matches a pattern: `*` and `?` stand for anything but `/`, `[…]` for one of several characters.
pub fn matches_glob(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<char>, Vec<char>) = (pattern.chars().collect(), path.chars().collect());
    let (mut at, mut from) = (0, 0);
    // Where the last `*` stands, and how far the path has been given to it.
    let mut star: Option<(usize, usize)> = None;
    while from < path.len() {
        match step(&pattern, at, path[from]) {
            Some(Step::Star) => {
                star = Some((at, from));
                at += 1;
            }
            Some(Step::One(width)) => {
                at += width;
                from += 1;
            }
            None => match star {
                Some((place, given)) if path[given] != '/' => {
                    star = Some((place, given + 1));
                    (at, from) = (place + 1, given + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[at..].iter().all(|&character| character == '*')
}

enum Step {
    Star,
    One(usize),
}

/// What the pattern makes of a character; `None` when it does not match.
fn step(pattern: &[char], at: usize, character: char) -> Option<Step> {
    match *pattern.get(at)? {
        '*' => Some(Step::Star),
        '?' => (character != '/').then_some(Step::One(1)),
        '[' => match class(&pattern[at..], character) {
            Some((true, width)) => Some(Step::One(width)),
            Some((false, _)) => None,
            None => (character == '[').then_some(Step::One(1)),
        },
        '\\' if at + 1 < pattern.len() => (pattern[at + 1] == character).then_some(Step::One(2)),
        other => (other == character).then_some(Step::One(1)),
    }
}

/// Whether a character is of the class that the pattern begins with, and the width of the class.
fn class(pattern: &[char], character: char) -> Option<(bool, usize)> {
    let is_negated = matches!(pattern.get(1), Some('!' | '^'));
    let first = 1 + usize::from(is_negated);
    let close = first + 1 + pattern.get(first + 1..)?.iter().position(|&character| character == ']')?;
    let mut is_in = false;
    let mut at = first;
    while at < close {
        if at + 2 < close && pattern[at + 1] == '-' {
            is_in |= (pattern[at]..=pattern[at + 2]).contains(&character);
            at += 3;
        } else {
            is_in |= pattern[at] == character;
            at += 1;
        }
    }
    Some((is_in != is_negated && character != '/', close + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match() {
        for (pattern, path, is_match) in [
            ("/a/*.conf", "/a/b.conf", true),
            ("/a/*.conf", "/a/b/c.conf", false),
            ("/a/*", "/a/", true),
            ("/?/b", "/a/b", true),
            ("a[0-9]b", "a5b", true),
            ("a[!0-9]b", "a5b", false),
            ("a[", "a[", true),
            ("*a*b*c", "xxaybzc", true),
            ("*a*b*c", "xxaybz", false),
            ("\\*", "*", true),
            ("", "", true),
        ] {
            assert_eq!(matches_glob(pattern, path), is_match, "{pattern} {path}");
        }
    }
}
