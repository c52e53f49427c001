//! `~SEQ(NAME, [start, [step,]] end) rest`, `~SEQx(…)` and `~LST(NAME, value, …) rest`: a line for each value.

/// A repetition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sequence<'a> {
    /// Names that are given values.
    pub names: Vec<&'a str>,
    /// What they are given.
    pub values: Values<'a>,
    /// What is repeated.
    pub rest: &'a str,
}

/// Values of a repetition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Values<'a> {
    /// Numbers, both ends included.
    Numbers {
        /// The first.
        start: i64,
        /// From one to the next, never 0.
        step: i64,
        /// None is beyond it.
        end: i64,
        /// In hexadecimal.
        is_hexadecimal: bool,
    },
    /// For each line a value for each name.
    Listed(Vec<Vec<&'a str>>),
}

/// Why a repetition is none, in keepalived's words: lines of messages, without the text of the line.
pub type Refusal = &'static [&'static str];

/// What does not look like a repetition at all.
pub const UNCLOSED: Refusal = &["~SEQ parameter strings too long", "Invalid ~SEQ specification"];
const BAD_DEFINITION: Refusal = &["Invalid ~SEQ definition", "Invalid ~SEQ specification"];
const BAD_VALUES: Refusal = &["Invalid ~SEQ values", "Invalid ~SEQ specification"];
const BAD_LIST: Refusal = &["Invalid ~LST specification"];

/// Takes a line apart; `None` when it is no repetition.
pub fn sequence(text: &str) -> Option<Result<Sequence<'_>, Refusal>> {
    if let Some(after) = text.strip_prefix("~SEQx") {
        return counted(after, true);
    }
    if let Some(after) = text.strip_prefix("~SEQ") {
        return counted(after, false);
    }
    listed(text.strip_prefix("~LST")?)
}

/// The text within brackets and the text after them.
fn brackets(after: &str) -> Option<Option<(&str, &str)>> {
    Some(after.trim_ascii_start().strip_prefix('(')?.split_once(')'))
}

fn counted(after: &str, is_hexadecimal: bool) -> Option<Result<Sequence<'_>, Refusal>> {
    let Some((inside, rest)) = brackets(after)? else { return Some(Err(UNCLOSED)) };
    let parts: Vec<&str> = inside.split(',').map(str::trim_ascii).collect();
    let (Some(&name), Some(numbers)) = (parts.first(), parts.get(1..)) else { return Some(Err(BAD_DEFINITION)) };
    let numbers: Option<Vec<i64>> = numbers.iter().map(|&part| number(part)).collect();
    let (Some(numbers), true) = (numbers, is_name(name)) else { return Some(Err(BAD_DEFINITION)) };
    let direction = |start: i64, end: i64| if end < start { -1 } else { 1 };
    let (start, step, end) = match numbers[..] {
        [end] if end < 0 => (-1, -1, end),
        [end] => (1, 1, end),
        [start, end] => (start, direction(start, end), end),
        [start, step, end] => (start, step, end),
        _ => return Some(Err(BAD_DEFINITION)),
    };
    if step == 0 || (step < 0) != (end < start) && start != end {
        return Some(Err(BAD_VALUES));
    }
    Some(Ok(Sequence {
        names: vec![name],
        values: Values::Numbers { start, step, end, is_hexadecimal },
        rest: rest.trim_ascii(),
    }))
}

fn number(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let value = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => digits.parse::<u32>().ok()?,
    };
    Some(i64::from(value) * sign)
}

fn listed(after: &str) -> Option<Result<Sequence<'_>, Refusal>> {
    let Some((inside, rest)) = brackets(after)? else { return Some(Err(BAD_LIST)) };
    let Some(groups) = groups(inside) else { return Some(Err(BAD_LIST)) };
    let Some((names, values)) = groups.split_first() else { return Some(Err(BAD_LIST)) };
    if values.is_empty() || inside.contains('"') || !names.iter().all(|name| is_name(name)) {
        return Some(Err(BAD_LIST));
    }
    let values = values.to_vec();
    Some(Ok(Sequence { names: names.clone(), values: Values::Listed(values), rest: rest.trim_ascii() }))
}

/// `a, {b, c}, d` as `[[a], [b, c], [d]]`.
fn groups(inside: &str) -> Option<Vec<Vec<&str>>> {
    let mut groups = Vec::new();
    let mut rest = inside.trim_ascii();
    loop {
        if let Some(after) = rest.strip_prefix('{') {
            let (group, after) = after.split_once('}')?;
            groups.push(group.split(',').map(str::trim_ascii).collect());
            rest = after.trim_ascii_start();
            if rest.is_empty() {
                return Some(groups);
            }
            rest = rest.strip_prefix(',')?.trim_ascii();
        } else {
            let (value, after) = rest.split_once(',').map_or((rest, None), |(value, after)| (value, Some(after)));
            groups.push(vec![value.trim_ascii()]);
            let Some(after) = after else { return Some(groups) };
            rest = after.trim_ascii();
        }
    }
}

fn is_name(text: &str) -> bool {
    text.bytes()
        .enumerate()
        .all(|(at, byte)| byte == b'_' || byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit())
        && !text.is_empty()
}

impl Values<'_> {
    /// The values in order, one for each name.
    pub fn iter(&self) -> Box<dyn Iterator<Item = Vec<String>> + '_> {
        match self {
            &Values::Numbers { start, step, end, is_hexadecimal } => {
                let numbers = std::iter::successors(Some(start), move |&number| number.checked_add(step));
                let is_within = move |&number: &i64| if step > 0 { number <= end } else { number >= end };
                let write =
                    move |number: i64| vec![if is_hexadecimal { format!("{number:x}") } else { number.to_string() }];
                Box::new(numbers.take_while(is_within).map(write))
            }
            Values::Listed(rows) => {
                Box::new(rows.iter().map(|row| row.iter().map(|&value| value.to_owned()).collect()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<String> {
        let sequence = sequence(text).expect("a repetition").expect("a good one");
        sequence.values.iter().map(|row| row.join("+")).collect()
    }

    #[test]
    fn numbers_count_both_ways() {
        assert_eq!(values("~SEQ(A, 1, 3) x"), ["1", "2", "3"]);
        assert_eq!(values("~SEQ(A,10,-5,0)"), ["10", "5", "0"]);
        assert_eq!(values("~SEQ (A, 3)"), ["1", "2", "3"]);
        assert_eq!(values("~SEQ(A, -2)"), ["-1", "-2"]);
        assert_eq!(values("~SEQ(A,1,2,6)"), ["1", "3", "5"]);
        assert_eq!(values("~SEQ(A,1,5,2)"), ["1"]);
        assert_eq!(values("~SEQx(A,8,11)"), ["8", "9", "a", "b"]);
    }

    #[test]
    fn lists_take_turns() {
        assert_eq!(values("~LST(A, 1 , 2 ) x"), ["1", "2"]);
        assert_eq!(values("~LST({A,B}, {1,2},{3,4}) x"), ["1+2", "3+4"]);
    }

    #[test]
    fn bad_ones_are_refused() {
        for text in ["~SEQ(A)", "~SEQ()", "~SEQ(A,b)", "~SEQ(1,2,3)", "~SEQ(A,1,2,3,4)"] {
            assert_eq!(sequence(text), Some(Err(BAD_DEFINITION)), "{text}");
        }
        assert_eq!(sequence("~SEQ(A,1,0,5)"), Some(Err(BAD_VALUES)));
        assert_eq!(sequence("~SEQ(A,1,-1,5)"), Some(Err(BAD_VALUES)));
        assert_eq!(sequence("~SEQ(A,1"), Some(Err(UNCLOSED)));
        assert_eq!(sequence("~LST(A)"), Some(Err(BAD_LIST)));
        assert_eq!(sequence("~FOO(A)"), None);
    }
}
