//! The pool of full NAT as the operator changes it, and what the XDP program must redirect for it.

use crate::base::{Address, Endpoint};
use crate::command::program::Output;
use crate::control::Control;
use crate::service::filter::{Match, PortSpans};
use crate::service::local_addresses::LOCAL_ADDRESSES_MAX;

/// What local addresses ask of the filter: servers answer to any port of them.
fn matches(address: Address) -> impl Iterator<Item = Match> {
    let any = Endpoint::new(address, 0);
    let packets = PortSpans::PROTOCOLS.into_iter().map(move |protocol| Match::Service(protocol.number(), any));
    packets.chain([Match::VirtualAddress(address)])
}

impl Control {
    /// Puts addresses of the director into the pool, all of them or none.
    ///
    /// # Errors
    /// A sentence when one is no address of the director, or they are too many; nothing has changed then.
    pub fn add_local_addresses(&mut self, addresses: &[Address]) -> Result<(), String> {
        let (_, routes) = self.shared.routes.load();
        if let Some(other) = addresses.iter().find(|address| !routes.local_addresses().contains(address)) {
            return Err(format!("{other} is no address of the director: add it to an interface first"));
        }
        let (_, pool) = self.shared.local_addresses.load();
        let mut new = (*pool).clone();
        for address in addresses {
            new.add(*address);
        }
        if new.len() > LOCAL_ADDRESSES_MAX {
            return Err(format!(
                "there can be at most {LOCAL_ADDRESSES_MAX} local addresses, those that drain included"
            ));
        }
        // Steered before they are given to connections.
        for (address, _) in new.list().filter(|(address, _)| !pool.contains(*address)) {
            matches(address).for_each(|item| self.filter.ask(item));
        }
        self.update_filter();
        self.shared.local_addresses.publish(new);
        self.change = self.shared.changed();
        Ok(())
    }

    /// Takes addresses out of the pool, all of them or none. Connections that have them keep them.
    ///
    /// # Errors
    /// A sentence when one is not in the pool; nothing has changed then.
    pub fn drain_local_addresses(&mut self, addresses: &[Address]) -> Result<(), String> {
        let (_, pool) = self.shared.local_addresses.load();
        let mut new = (*pool).clone();
        if let Some(other) = addresses.iter().find(|address| !new.drain(**address)) {
            return Err(format!("{other} is not in the pool"));
        }
        self.shared.local_addresses.publish(new);
        self.change = self.shared.changed();
        Ok(())
    }

    /// `lvx local-address add|delete ADDRESS…`, `lvx local-address list`.
    ///
    /// # Errors
    /// A sentence when the words are not such a command.
    pub fn local_address_command(&mut self, words: &[String]) -> Result<Output, String> {
        let (command, rest) = words.split_first().ok_or("lvx local-address: add, delete or list?")?;
        let mut output = Output::default();
        if command == "list" && rest.is_empty() {
            let (_, pool) = self.shared.local_addresses.load();
            for (address, is_given) in pool.list() {
                output.stdout.push_str(&format!("{address}{}\n", if is_given { "" } else { " draining" }));
            }
            return Ok(output);
        }
        let parse = |word: &String| word.parse().map_err(|_| format!("{word} is no address"));
        let addresses = rest.iter().map(parse).collect::<Result<Vec<Address>, String>>();
        let result = match (command.as_str(), rest) {
            (_, []) | ("list", _) => {
                return Err(format!("lvxd knows no command `lvx local-address {}'", words.join(" ")));
            }
            ("add", _) => addresses.and_then(|addresses| self.add_local_addresses(&addresses)),
            ("delete", _) => addresses.and_then(|addresses| self.drain_local_addresses(&addresses)),
            _ => return Err(format!("lvxd knows no command `lvx local-address {}'", words.join(" "))),
        };
        if let Err(text) = result {
            output.exit = 1;
            output.stderr = format!("lvx: {text}\n");
        }
        Ok(output)
    }
}
