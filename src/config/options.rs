//! keepalived's command line, for a program that is called by that name.
//!
//! **Deviation**: lvxd's own `-i` is `--interface`; there keepalived's `-i` is `--config-id` alone.

/// What is to be done with a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// `-f`, `--use-file`.
    pub file: String,
    /// `-i`, `--config-id`.
    pub identity: Option<String>,
    /// `-t`, `--config-test`.
    pub tests: bool,
    /// `-d`, `--dump-conf`.
    pub dumps: bool,
    /// `-v`, `--version`.
    pub shows_version: bool,
    /// `-h`, `--help`.
    pub shows_help: bool,
    /// `--signum=NAME`.
    pub signal: Option<String>,
    /// Options that are accepted and have no effect here.
    pub idle: Vec<String>,
}

/// The file that is read unless another is named.
pub const FILE_DEFAULT: &str = "/etc/keepalived/keepalived.conf";

/// Long names, short names, and whether a value follows.
const OPTIONS: [(&str, Option<char>, Takes); 30] = [
    ("use-file", Some('f'), Takes::Value),
    ("config-id", Some('i'), Takes::Value),
    ("config-test", Some('t'), Takes::Joined),
    ("dump-conf", Some('d'), Takes::Nothing),
    ("version", Some('v'), Takes::Nothing),
    ("help", Some('h'), Takes::Nothing),
    ("signum", None, Takes::Value),
    ("vrrp", Some('P'), Takes::Nothing),
    ("check", Some('C'), Takes::Nothing),
    ("no-bfd", Some('B'), Takes::Nothing),
    ("all", None, Takes::Nothing),
    ("log-console", Some('l'), Takes::Nothing),
    ("log-detail", Some('D'), Takes::Nothing),
    ("log-facility", Some('S'), Takes::Value),
    ("log-file", Some('g'), Takes::Joined),
    ("flush-log-file", None, Takes::Nothing),
    ("no-syslog", Some('G'), Takes::Nothing),
    ("umask", Some('u'), Takes::Value),
    ("release-vips", Some('X'), Takes::Nothing),
    ("dont-release-vrrp", Some('V'), Takes::Nothing),
    ("dont-release-ipvs", Some('I'), Takes::Nothing),
    ("dont-respawn", Some('R'), Takes::Nothing),
    ("dont-fork", Some('n'), Takes::Nothing),
    ("pid", Some('p'), Takes::Value),
    ("vrrp_pid", Some('r'), Takes::Value),
    ("checkers_pid", Some('c'), Takes::Value),
    ("bfd_pid", Some('b'), Takes::Value),
    ("namespace", Some('s'), Takes::Value),
    ("core-dump", Some('m'), Takes::Nothing),
    ("core-dump-pattern", Some('M'), Takes::Joined),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Takes {
    Nothing,
    Value,
    /// A value only when it is joined to the option.
    Joined,
}

/// Understands the words after the program's name.
///
/// # Errors
/// The sentence for an option that there is none of, or whose value is missing.
pub fn parse(words: &[String]) -> Result<Command, String> {
    let mut command = Command {
        file: FILE_DEFAULT.to_owned(),
        identity: None,
        tests: false,
        dumps: false,
        shows_version: false,
        shows_help: false,
        signal: None,
        idle: Vec::new(),
    };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if let Some(long) = word.strip_prefix("--") {
            let (name, joined) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            let option = OPTIONS.iter().find(|option| option.0 == name);
            let &(name, _, takes) = option.ok_or_else(|| format!("unrecognized option '--{name}'"))?;
            let value = match (takes, joined) {
                (_, Some(value)) => Some(value.to_owned()),
                (Takes::Value, None) => {
                    Some(rest.next().ok_or(format!("option '--{name}' requires an argument"))?.clone())
                }
                _ => None,
            };
            command.take(name, value);
        } else if let Some(shorts) = word.strip_prefix('-').filter(|shorts| !shorts.is_empty()) {
            for (at, short) in shorts.char_indices() {
                let option = OPTIONS.iter().find(|option| option.1 == Some(short));
                let &(name, _, takes) = option.ok_or_else(|| format!("invalid option -- '{short}'"))?;
                let joined = &shorts[at + short.len_utf8()..];
                let value = match takes {
                    Takes::Nothing => None,
                    _ if !joined.is_empty() => Some(joined.to_owned()),
                    Takes::Joined => None,
                    Takes::Value => {
                        Some(rest.next().ok_or(format!("option requires an argument -- '{short}'"))?.clone())
                    }
                };
                let ends = takes != Takes::Nothing;
                command.take(name, value);
                if ends {
                    break;
                }
            }
        } else {
            return Err(format!("unexpected argument '{word}'"));
        }
    }
    Ok(command)
}

impl Command {
    fn take(&mut self, name: &str, value: Option<String>) {
        match name {
            "use-file" => self.file = value.unwrap_or_default(),
            "config-id" => self.identity = value,
            "config-test" => self.tests = true,
            "dump-conf" => self.dumps = true,
            "version" => self.shows_version = true,
            "help" => self.shows_help = true,
            "signum" => self.signal = value,
            other => self.idle.push(other.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_those_of_keepalived() {
        let command = parsed("-t -f a.conf -i one").expect("good options");
        assert!(command.tests && command.file == "a.conf" && command.identity.as_deref() == Some("one"));
        let command = parsed("-nlDdfx.conf --config-id=two").expect("good options");
        assert!(command.dumps && command.file == "x.conf" && command.identity.as_deref() == Some("two"));
        assert_eq!(command.idle, ["dont-fork", "log-console", "log-detail"]);
        assert_eq!(parsed("").expect("no options").file, FILE_DEFAULT);
        assert!(
            parsed("--use-file").is_err() && parsed("-f").is_err() && parsed("-Z").is_err() && parsed("x").is_err()
        );
    }
}
