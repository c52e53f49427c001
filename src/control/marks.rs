//! The rules that mark packets: loaded whole, listed, and told to the XDP program.

use std::collections::BTreeSet;

use crate::base::Family;
use crate::command::program::Output;
use crate::control::Control;
use crate::mark::regions::regions;
use crate::mark::{MarkError, Marks, parse};
use crate::service::ServiceKey;
use crate::service::filter::{MARKED_PREFIXES_MAX, MarkedFlows};

/// Both families, in the order in which they are listed.
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The rules, and what connections made under earlier ones need.
#[derive(Default)]
pub(super) struct MarkRules {
    marks: Marks,
    /// Packets that earlier rules marked for a service. Connections outlive the rules that made them, so these stay
    /// steered to user space until no connection of a service by mark is left.
    earlier: MarkedFlows,
}

impl MarkRules {
    /// How many prefixes are kept for connections made under earlier rules.
    pub(super) fn earlier_count(&self) -> usize {
        self.earlier.len()
    }
}

impl Control {
    /// Puts the rules that `text` holds in place of those of their families; `family` says whose they are where the
    /// text is not to be asked (see [`parse`]).
    ///
    /// # Errors
    /// What is wrong with the text; nothing has changed then.
    pub fn load_marks(&mut self, text: &str, family: Option<Family>) -> Result<(), MarkError> {
        let tables = parse(text, family)?;
        for family in FAMILIES {
            let flows = self.marked_now(family);
            self.mark_rules.earlier.extend(&flows);
        }
        if self.mark_rules.earlier.len() > MARKED_PREFIXES_MAX / 2 {
            self.mark_rules.earlier = self.mark_rules.earlier.collapsed();
        }
        self.mark_rules.marks = self.mark_rules.marks.with(tables);
        self.shared.marks.publish(self.mark_rules.marks.clone());
        self.forget_earlier_marks();
        self.update_filter();
        self.change = self.shared.changed();
        Ok(())
    }

    /// The rules as iptables-save prints them: of one family, or of both.
    pub fn saved_marks(&self, family: Option<Family>) -> String {
        let wanted = FAMILIES.into_iter().filter(|each| family.is_none_or(|family| family == *each));
        wanted.map(|family| self.mark_rules.marks.saved(family)).collect()
    }

    /// Packets that may carry the mark of a service, by the rules of now and, as long as it matters, earlier ones.
    pub(super) fn marked_flows(&self) -> MarkedFlows {
        let mut flows = self.mark_rules.earlier.clone();
        for family in FAMILIES {
            flows.extend(&self.marked_now(family));
        }
        flows
    }

    fn marked_now(&self, family: Family) -> MarkedFlows {
        if self.mark_rules.marks.rules(family).is_empty() {
            return MarkedFlows::default();
        }
        let keys = self.services.iter().map(|service| &service.rule.key);
        let keys = keys.chain(self.trash.items.keys().map(|(service_key, _)| service_key));
        let of_family = |key: &ServiceKey| match *key {
            ServiceKey::Mark { family: of, mark } if of == family => Some(mark),
            _ => None,
        };
        let marks: BTreeSet<u32> = keys.filter_map(of_family).collect();
        if marks.is_empty() {
            return MarkedFlows::default();
        }
        regions(self.mark_rules.marks.rules(family), family, |mark| marks.contains(&mark))
    }

    /// Forgets what earlier rules marked in the families whose services by mark have no connection left.
    pub(super) fn forget_earlier_marks(&mut self) {
        if self.mark_rules.earlier.is_empty() {
            return;
        }
        let destinations = &self.shared.destinations;
        let servers = self.services.iter().flat_map(|service| {
            let key = &service.rule.key;
            service.servers.iter().map(move |server| (key, server.id))
        });
        let servers =
            servers.chain(self.trash.items.iter().map(|((service_key, _), item)| (service_key, item.server.id)));
        let used: Vec<Family> = servers
            .filter(|(key, id)| key.is_mark() && !destinations.get(*id).is_unreferenced())
            .map(|(key, _)| key.family())
            .collect();
        for family in FAMILIES {
            if !used.contains(&family) {
                self.mark_rules.earlier.remove(family);
            }
        }
    }

    /// `lvx mark load [-4|-6] -` with the text as standard input, `lvx mark list [-4|-6]`.
    ///
    /// # Errors
    /// A sentence when the words are not such a command.
    pub fn mark_command(&mut self, words: &[String], stdin: Option<&str>) -> Result<Output, String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (command, rest) = words.split_first().ok_or("lvx mark: load or list?")?;
        let family = |word: &str| match word {
            "-4" => Some(Family::V4),
            "-6" => Some(Family::V6),
            _ => None,
        };
        let (family, rest) = match rest.split_first() {
            Some((first, rest)) if family(first).is_some() => (family(first), rest),
            _ => (None, rest),
        };
        let mut output = Output::default();
        match (*command, rest) {
            ("list", []) => output.stdout = self.saved_marks(family),
            ("load", ["-"]) => {
                let text = stdin.ok_or("lvx mark load: standard input is missing")?;
                if let Err(error) = self.load_marks(text, family) {
                    output.exit = 1;
                    output.stderr = format!("lvx: mark rules refused: {error}\n");
                }
            }
            _ => return Err(format!("lvxd knows no command `lvx mark {}'", words.join(" "))),
        }
        Ok(output)
    }
}
