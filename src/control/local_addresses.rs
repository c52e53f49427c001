//! The pool of full NAT as the operator changes it, and what the XDP program must redirect for it.

use std::collections::BTreeSet;

use crate::base::{Address, Duration, Endpoint, Instant};
use crate::command::program::Output;
use crate::control::Control;
use crate::service::filter::{Match, PortSpans};
use crate::service::local_addresses::LOCAL_ADDRESSES_MAX;

/// Buckets that are searched for connections of drained addresses at a time.
const SEARCH_BUCKETS: usize = 1 << 14;
/// How long the search rests between two parts, and before it begins again.
const SEARCH_PERIOD: Duration = Duration::from_millis(1);
const SEARCH_AGAIN: Duration = Duration::from_secs(60);

/// The search for connections that still have a drained address.
pub(super) struct Drain {
    /// The next bucket.
    position: usize,
    due: Instant,
    /// Drained addresses that some connection has.
    in_use: BTreeSet<Address>,
}

impl Drain {
    fn starting_at(due: Instant) -> Self {
        Self { position: 0, due, in_use: BTreeSet::new() }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }
}

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
        self.drain = Some(Drain::starting_at(Instant::START));
        Ok(())
    }

    /// Goes on with the search for connections that have a drained address; addresses that none has are forgotten.
    pub(super) fn look_after_drained(&mut self, now: Instant) {
        let Some(drain) = self.drain.as_mut().filter(|drain| drain.due <= now) else { return };
        if !self.shared.all_adopted(self.change) {
            // A worker may still give one to a connection.
            drain.due = now + SEARCH_PERIOD;
            return;
        }
        let (_, pool) = self.shared.local_addresses.load();
        let table = &self.shared.connections;
        let end = (drain.position + SEARCH_BUCKETS).min(table.bucket_count());
        for bucket in drain.position..end {
            table.visit_local_endpoints(bucket, |local| {
                drain.in_use.insert(local.address);
            });
        }
        drain.position = end;
        if end < table.bucket_count() {
            drain.due = now + SEARCH_PERIOD;
            return;
        }
        let drained = pool.list().filter(|(_, is_given)| !is_given).map(|(address, _)| address);
        let (busy, idle): (Vec<Address>, Vec<Address>) = drained.partition(|address| drain.in_use.contains(address));
        self.drain = (!busy.is_empty()).then(|| Drain::starting_at(now + SEARCH_AGAIN));
        if idle.is_empty() {
            return;
        }
        let mut new = (*pool).clone();
        idle.iter().for_each(|address| new.forget(*address));
        self.shared.local_addresses.publish(new);
        self.change = self.shared.changed();
        for address in idle {
            matches(address).for_each(|item| self.filter.drop(item));
        }
        self.update_filter();
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
        let result = match command.as_str() {
            "add" if !rest.is_empty() => addresses.and_then(|addresses| self.add_local_addresses(&addresses)),
            "delete" if !rest.is_empty() => addresses.and_then(|addresses| self.drain_local_addresses(&addresses)),
            _ => return Err(format!("lvxd knows no command `lvx local-address {}'", words.join(" "))),
        };
        if let Err(text) = result {
            output.exit = 1;
            output.stderr = format!("lvx: {text}\n");
        }
        Ok(output)
    }
}
